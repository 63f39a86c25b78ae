"""What checkpoints cost: training stops while the tables are written into a file, and waits for no disk.

    python -m tests.bench.checkpoints [--data URI] [--runs 3] [--work work/bench] [--memory]

Prints how long it stops and what the rest takes of a core, their sum as a share of a minute, and interleaved runs with
and without checkpoints. First of all, and with --memory that alone: the largest memory of a process that writes one of
a million words of 100 dimensions, and of one that goes on from it, beside its two tables.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from typing import Any

from tests.bench.support import machine, parse_args, spread, train
from tests.support.paths import ROOT
from trainer.checkpoints.write import Checkpoints
from trainer.config import TrainConfig
from trainer.training.command import train as train_here
from trainer.training.loop import Loop

EVERY_S = 2.0  # often, so that a short run has some


def measure_one(args: Any) -> tuple[list[float], list[float]]:
    """Seconds that training stood still for each checkpoint, and CPU seconds of the thread that completed it."""
    stops: list[float] = []
    writes: list[float] = []
    save, write = Loop._save, Checkpoints._finish

    def timed_save(loop: Loop, *rest: Any) -> None:
        start = time.perf_counter()
        save(loop, *rest)
        stops.append(time.perf_counter() - start)

    def timed_write(checkpoints: Checkpoints, *rest: Any) -> None:
        start = time.thread_time()
        write(checkpoints, *rest)
        writes.append(time.thread_time() - start)

    Loop._save, Checkpoints._finish = timed_save, timed_write  # type: ignore[method-assign, assignment]
    try:
        train_here(
            TrainConfig(
                data=args.data, model=str(args.work / "model"), threads=1, overwrite=True, quiet=True,
                checkpoint_minutes=EVERY_S / 60,
            )
        )  # fmt: skip
    finally:
        Loop._save, Checkpoints._finish = save, write  # type: ignore[method-assign]
    return stops, writes


MEMORY = """
import resource, sys, time
from trainer.checkpoints.write import Checkpoints, find_unfinished, load_checkpoint
from trainer.data.position import Progress
from trainer.engines.init import initial_tables
from trainer.models.tensors import fill_arrays
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
live = dict(zip(("input", "output"), initial_tables("normal", 1_000_000, 100, 1)))
made, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
if sys.argv[2] == "write":
    finish = Checkpoints(sys.argv[1], {}, "d", keep=1).write(Progress(pairs=1), live)
    stop = time.perf_counter() - started
    finish()
else:
    load_checkpoint(sys.argv[1], find_unfinished(sys.argv[1]), lambda _, arrays: fill_arrays(live, arrays), print)
    stop = time.perf_counter() - started
now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(before / 1024, made / 1024, now / 1024, stop)
"""


def measure_memory() -> None:
    """Print the largest memory of a process that writes a checkpoint, and of one that reads it."""
    with tempfile.TemporaryDirectory() as folder:
        for what in ("write", "read"):
            command = [sys.executable, "-W", "ignore", "-c", MEMORY, folder, what]
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
            before, made, now, stop = map(float, done.stdout.split())
            print(
                f"to {what} 1 M words of 100 dimensions (800 MB): {now:.0f} MiB at most, {made:.0f} with the tables "
                f"alone, {before:.0f} before; {stop:.2f} s"
            )


def main() -> None:
    """Print the figures."""
    if "--memory" in sys.argv[1:]:
        measure_memory()
        return
    args = parse_args(__doc__, runs=3)
    measure_memory()
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
    print(f"the rest takes          {spread([1000 * one for one in writes], 1)} ms of a core")
    share = [100 * (stop + write) / 60 for stop, write in zip(stops, writes, strict=True)]
    print(f"together, every minute  {spread(share, 3)} %")
    print(
        f"runs with one every {EVERY_S:g} s against none, as if every minute: {spread([100 * s for s in slower], 3)} %"
    )


if __name__ == "__main__":
    main()
