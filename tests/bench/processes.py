"""Two processes against one, interleaved; one epoch, one thread in each process:

    python -m tests.bench.processes [--data URI] [--runs 5] [--work work/bench]

"one process" may use every core: its training is one thread, but decoding runs beside it on the others. "on one core"
is held to a single one, as each of the two processes effectively is on a machine of two cores.
"""

from __future__ import annotations

from tests.bench.support import machine, parse_args, spread, train


def main() -> None:
    """Print the table."""
    args = parse_args(__doc__, runs=5)
    kinds = ("one process", "on one core", "two threads", "two processes")
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(args.runs):
        seconds["one process"].append(train(args, "--threads", "1")["seconds"])
        seconds["on one core"].append(train(args, "--threads", "1", cores=[0])["seconds"])
        seconds["two threads"].append(train(args, "--threads", "2")["seconds"])
        seconds["two processes"].append(train(args, "--threads", "1", processes=2)["seconds"])
    print(f"{machine()}; medians of {args.runs} interleaved runs (least to greatest)\n")
    print("| | s | two processes are faster by | two threads |\n|---|---|---|---|")
    for kind in kinds:
        faster = [
            spread([one / other for one, other in zip(seconds[kind], seconds[against], strict=True)])
            for against in ("two processes", "two threads")
        ]
        print(f"| {kind} | {spread(seconds[kind])} | {faster[0]} | {faster[1]} |")


if __name__ == "__main__":
    main()
