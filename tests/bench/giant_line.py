"""One line without end, as text8 is one: time and memory by its length.

    python -m tests.bench.giant_line [--mb 12 25 50 100] [--runs 1] [--work work/bench]

The words are made, by Zipf's law over 200,000 of them. Twice the text should take at most twice the time of the stages;
memory should grow by what is in flight of large shards, not with the line.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

from tests.bench.distinct import token_ids, words_of
from tests.bench.pipeline import STAGES, timed
from tests.bench.support import machine
from tests.quality.corpora import ROOT

_DISTINCT = 200_000


def write_line(path: Path, size: int) -> None:
    """Write so many bytes of words with spaces between them, and no line feed."""
    with path.open("wb") as file:
        for ids in token_ids(size, _DISTINCT):  # words are longer than one byte: more than enough
            file.write(words_of(ids).replace(b"\n", b" ")[: size - file.tell()])
            if file.tell() == size:
                return


def measure(path: Path, data: Path) -> tuple[float, float, float, int, int]:
    """Run the pipeline; return seconds, those of the stages, GB, tokens and pairs."""
    shutil.rmtree(data, ignore_errors=True)
    words = ["-m", "pipeline", "--input", str(path), "--output", str(data), "--tokenizer", "whitespace", "--json"]
    result, seconds, memory = timed(words)
    work = sum(float(result["stage_seconds"].get(stage, 0.0)) for stage in STAGES)
    if result["lines"] != 1:
        raise SystemExit(f"error: {path}: found {result['lines']} lines, expected one")
    return seconds, work, memory, int(result["tokens"]), sum(result["pairs"])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, nargs="+", default=[12, 25, 50, 100])
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "bench")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="line-", dir=args.work))
    print(f"{machine()}; medians of {args.runs}\n")
    print("| MB in one line | M tokens | s | of the stages | M pairs/s of these | peak GB |\n|---|---|---|---|---|---|")
    try:
        for size in args.mb:
            write_line(folder / "line.txt", size * 1_000_000)
            rounds = [measure(folder / "line.txt", folder / "data") for _ in range(args.runs)]
            seconds, work, memory, tokens, pairs = (statistics.median(one) for one in zip(*rounds, strict=True))
            print(
                f"| {size} | {tokens / 1e6:.1f} | {seconds:.1f} | {work:.1f} | {pairs / work / 1e6:.1f} "
                f"| {memory:.2f} |"
            )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
