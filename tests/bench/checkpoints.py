"""What checkpoints cost: training stops while the tables are copied, and writing takes a core's time beside it.

    python -m tests.bench.checkpoints [--data URI] [--runs 3] [--work work/bench]

Prints both for one checkpoint, their sum as a share of a minute, and interleaved runs with and without checkpoints.
"""

from __future__ import annotations

import time
from typing import Any

from tests.bench.support import machine, parse_args, spread, train
from trainer.checkpoint import Checkpoints
from trainer.config import TrainConfig
from trainer.loop import Loop
from trainer.train import train as train_here

EVERY_S = 2.0  # often, so that a short run has some


def measure_one(args: Any) -> tuple[list[float], list[float]]:
    """Seconds that training stood still for each checkpoint, and CPU seconds of the thread that wrote it."""
    stops: list[float] = []
    writes: list[float] = []
    save, write = Loop._save, Checkpoints.save

    def timed_save(loop: Loop, *rest: Any) -> None:
        start = time.perf_counter()
        save(loop, *rest)
        stops.append(time.perf_counter() - start)

    def timed_write(checkpoints: Checkpoints, *rest: Any) -> None:
        start = time.thread_time()
        write(checkpoints, *rest)
        writes.append(time.thread_time() - start)

    Loop._save, Checkpoints.save = timed_save, timed_write  # type: ignore[method-assign, assignment]
    try:
        train_here(
            TrainConfig(
                data=args.data, model=str(args.work / "model"), threads=1, overwrite=True, quiet=True,
                checkpoint_minutes=EVERY_S / 60,
            )
        )  # fmt: skip
    finally:
        Loop._save, Checkpoints.save = save, write  # type: ignore[method-assign]
    return stops, writes


def main() -> None:
    """Print the figures."""
    args = parse_args(__doc__, runs=3)
    stops: list[float] = []
    writes: list[float] = []
    slower = []
    for _ in range(args.runs):
        found = measure_one(args)
        stops += found[0]
        writes += found[1]
        without = train(args, "--threads", "1", "--checkpoint-minutes", "0")["seconds"]
        often = train(args, "--threads", "1", "--checkpoint-minutes", str(EVERY_S / 60))["seconds"]
        slower.append((often / without - 1) * EVERY_S / 60)
    print(f"{machine()}; medians of {len(stops)} checkpoints (least to greatest)\n")
    print(f"training stands still   {spread([1000 * one for one in stops], 1)} ms a checkpoint")
    print(f"writing takes           {spread([1000 * one for one in writes], 1)} ms of a core")
    share = [100 * (stop + write) / 60 for stop, write in zip(stops, writes, strict=True)]
    print(f"together, every minute  {spread(share, 3)} %")
    print(
        f"runs with one every {EVERY_S:g} s against none, as if every minute: {spread([100 * s for s in slower], 3)} %"
    )


if __name__ == "__main__":
    main()
