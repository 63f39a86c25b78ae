"""A run over a trillion tokens, stage by stage: each is fed as much as it would meet, made instead of read.

    python -m tests.bench.scale [--share 1] [--only STAGE ...] [--work work/bench]

Each stage runs in a process of its own, as on a worker of four threads: `setup`, one bundle, `teardown` of the code
that Beam would call. What meets in one place (the list of files, the plan, the vocabulary, publication, opening) is
fed whole; of the others a worker meets one bundle or key at a time, and is fed that: "share" says how much of the run
it is, and the last column is extrapolated from it. Peak is of the process, with the libraries that it loads (210 MiB).
Seconds are the clock's, less those that it took to make what was fed. Ends with status 1 where a stage takes more than
2 GiB in a worker, or 1 GiB in the launcher. --share makes all of it smaller.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import scale_stages
from tests.bench.scale_stages import STAGES, Sizes, Stage
from tests.bench.support import machine
from tests.support.paths import ROOT

LIMIT_MIB = {"worker": 2048, "launcher": 1024}


@dataclass(frozen=True)
class Measured:
    """What a stage took: elements and bytes that it was fed, how much of the whole run's they are, MiB, seconds."""

    elements: int
    bytes: int
    of_all: float
    peak_mib: float
    seconds: float


def peak_mib() -> float:
    """The most memory that this process has taken so far (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def run_here(name: str, sizes: Sizes, work: Path) -> Measured:
    """Run one stage in this process."""
    begun = time.perf_counter()
    fed = STAGES[name].run(sizes, work)
    return Measured(fed.elements, fed.bytes, fed.of_all, peak_mib(), time.perf_counter() - begun - fed.making_s)


def run_apart(name: str, step: str, sizes: Sizes, work: Path) -> str:
    """Run one step of a stage in a process of its own; return what it prints."""
    words = [sys.executable, "-m", "tests.bench.scale", "--work", str(work), "--step", step, "--only", name]
    done = subprocess.run([*words, "--share", repr(sizes.share)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"error: {name}: found exit status {done.returncode}, expected 0")
    return done.stdout


def shown(seconds: float) -> str:
    """Round seconds for people."""
    for unit, text in ((3600, "h"), (1, "s"), (1e-3, "ms")):
        if seconds >= unit:
            return f"{seconds / unit:,.{0 if seconds >= 10 * unit else 1}f} {text}"
    return f"{seconds * 1e6:,.1f} µs"


def row(name: str, stage: Stage, found: Measured) -> str:
    """One line of the table."""
    each, whole = (shown(one) for one in (found.seconds / max(1, found.elements), found.seconds / found.of_all))
    share = "all" if found.of_all == 1 else f"{found.of_all:.2g}"
    return (
        f"| {name} | {stage.place} | {found.elements:,} {stage.unit} | {found.bytes / 1e6:,.0f} | {share} "
        f"| {found.peak_mib:,.0f} | {each} | {whole} |"
    )


def measure(names: Sequence[str], sizes: Sizes, work: Path) -> int:
    """Print the table; return the exit status."""
    print(f"{machine()}, share {sizes.share:g}\n")
    print(
        "| stage | in | fed | MB | share | peak MiB | an element | all, one worker |\n|---|---|---|---|---|---|---|---|"
    )
    broken = []
    for name in names:
        if STAGES[name].make is not None:
            run_apart(name, "make", sizes, work)
        found = Measured(**json.loads(run_apart(name, "run", sizes, work).splitlines()[-1]))
        print(row(name, STAGES[name], found), flush=True)
        if found.peak_mib > LIMIT_MIB[STAGES[name].place]:
            broken.append(f"{name}: {found.peak_mib:,.0f} MiB, expected at most {LIMIT_MIB[STAGES[name].place]:,}")
    for line in broken:
        print(f"error: {line}", file=sys.stderr)
    return int(bool(broken))


def main() -> int:
    """Run all stages, or one step of one of them where this is its process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES), metavar="STAGE")
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "bench")
    parser.add_argument("--step", choices=("make", "run"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    sizes = Sizes(args.share)
    if args.step == "make":
        make = STAGES[args.only[0]].make
        assert make is not None, "a stage for which there is something to make"
        make(sizes, args.work)
    elif args.step == "run":
        print(json.dumps(vars(run_here(args.only[0], sizes, args.work))))
    else:
        args.work.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="scale-", dir=args.work))
        try:
            return measure(scale_stages.with_needed(args.only), sizes, folder)
        finally:
            shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
