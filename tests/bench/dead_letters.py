"""Memory where much of the text is set aside: text of another encoding alone, and among ten times as much good text.

    python -m tests.bench.dead_letters [--mb 64] [--limit-mb 700] [--work work/bench]

The first run ends by --max-dead-letter-fraction, the second is published. Ends with status 1 where the first took more
memory than the limit, or one ended in another way.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.memory import watched_tree
from tests.bench.support import machine
from tests.support.paths import ROOT

_GOOD = b"the quick brown fox jumps over the lazy dog while other words of that kind follow it\n"
_BAD = "une crème brûlée déjà vue à la fenêtre d'un café près du théâtre, numéro {:08}\n"


def write_texts(folder: Path, size: int) -> tuple[Path, Path]:
    """Write ``size`` bytes of Latin-1, which begin as ASCII, and ten times as much of good text beside it."""
    alone, among = folder / "alone", folder / "among"
    alone.mkdir()
    among.mkdir()
    with (alone / "latin.txt").open("wb") as file:
        file.write(_GOOD * 50)
        number = 0
        while file.tell() < size:
            file.write("".join(_BAD.format(n) for n in range(number, number + 1000)).encode("latin-1"))
            number += 1000
    os.link(alone / "latin.txt", among / "latin.txt")
    for part in range(10):
        with (among / f"{part}.txt").open("wb") as file:
            for _ in range(size // (len(_GOOD) << 10)):
                file.write(_GOOD * 1024)
    return alone, among


def run(folder: Path, output: Path, *flags: str) -> tuple[subprocess.CompletedProcess[str], float, float]:
    """Run the pipeline; return how it ended, its seconds, its peak memory in MB."""
    words: Sequence[str] = ["-m", "pipeline", "--input", f"{folder}/*", "--output", str(output), "--json", *flags]
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with child, watched_tree(child.pid) as most:
        out, err = child.communicate()
    done = subprocess.CompletedProcess(words, child.returncode, out, err)
    return done, time.perf_counter() - start, most[0] / 1e6


def main() -> int:
    """Print what both runs took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=64)
    parser.add_argument("--limit-mb", type=float, default=700)
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "bench")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="dead-letters-", dir=args.work))
    try:
        alone, among = write_texts(folder, args.mb * 1_000_000)
        ended, seconds, first = run(alone, folder / "data-1")
        print(f"{machine()}\n{args.mb} MB of Latin-1: exit {ended.returncode}, {seconds:.1f} s, peak {first:,.0f} MB")
        print(ended.stderr.strip().splitlines()[-1])
        done, seconds, second = run(among, folder / "data-2", "--max-dead-letter-fraction", "1")
        print(f"the same among {10 * args.mb} MB of good text: exit {done.returncode}, {seconds:.1f} s, "
              f"peak {second:,.0f} MB")  # fmt: skip
        result = json.loads(done.stdout.splitlines()[-1])
        kept = result["kept_dead_letters"]
        print(f"set aside {result['dead_letters']}, kept {kept['letters']:,} of {kept['bytes']:,} bytes")
    finally:
        shutil.rmtree(folder)
    right = ended.returncode == 1 and "--max-dead-letter-fraction 0.001" in ended.stderr and done.returncode == 0
    return int(not right or first > args.limit_mb)


if __name__ == "__main__":
    sys.exit(main())
