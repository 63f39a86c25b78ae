"""Memory where the vocabulary is larger than the rest: counting 100 M tokens with 20 M distinct ones, all of them kept.

    python -m tests.bench.distinct [--tokens 100000000] [--distinct 20000000] [--limit-gb 6] [--work work/bench]

The text is made: word k of the vocabulary comes with a chance of 1 / k (Zipf's law), and besides once for certain, in
an order spread over the whole text. Ends with status 1 where the processes together took more memory than the limit.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.bench.pipeline import timed
from tests.bench.support import machine
from tests.quality.corpora import ROOT

_BLOCK = 1 << 20  # tokens made at once
_LINE = 20  # tokens of a line
_LETTERS = 9  # 26^9 > 2^40


def token_ids(tokens: int, distinct: int, seed: int = 1) -> Iterator[NDArray[np.int64]]:
    """Yield blocks of ids below ``distinct``: each once at its own place, all others by Zipf's law.

    Raises:
        ValueError: there are fewer tokens than distinct ones.
    """
    if not 0 < distinct <= tokens:
        raise ValueError(f"found {distinct} distinct ones of {tokens} tokens, expected 1 to {tokens}")
    for block, start in enumerate(range(0, tokens, _BLOCK)):
        random = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, block]))
        place = np.arange(start, min(start + _BLOCK, tokens), dtype=np.int64)
        ids = np.minimum(distinct ** random.random(len(place)), distinct).astype(np.int64) - 1
        turn = place * distinct // tokens  # goes up by one where the next id has its place
        first = turn != (place - 1) * distinct // tokens
        ids[first] = turn[first]
        yield ids


def words_of(ids: NDArray[np.int64]) -> bytes:
    """Spell ids as words of up to nine letters, a different one for each id below 2^40, and white space behind each."""
    rest = ids * 0x9E3779B1 % (1 << 40)  # odd: no two ids become one
    letters = np.full((len(ids), _LETTERS + 1), ord(" "), np.uint8)
    for column in range(_LETTERS):
        letters[:, column] = np.where((rest > 0) | (column == 0), ord("a") + rest % 26, 0)
        rest //= 26
    letters[_LINE - 1 :: _LINE, -1] = ord("\n")
    flat = letters.ravel()
    return flat[flat > 0].tobytes()


def write_text(path: Path, tokens: int, distinct: int) -> None:
    """Write the text, in the memory of one block."""
    with path.open("wb") as file:
        for ids in token_ids(tokens, distinct):
            file.write(words_of(ids))


def main() -> int:
    """Print what a run over the text takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=100_000_000)
    parser.add_argument("--distinct", type=int, default=20_000_000)
    parser.add_argument("--limit-gb", type=float, default=6.0)
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "bench")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="distinct-", dir=args.work))
    try:
        write_text(folder / "text.txt", args.tokens, args.distinct)
        size = (folder / "text.txt").stat().st_size
        words = ["--input", f"{folder}/text.txt", "--output", f"{folder}/data", "--json"]
        result, seconds, memory = timed(["-m", "pipeline", *words, "--tokenizer", "whitespace", "--min-count", "1"])
    finally:
        shutil.rmtree(folder)
    stages = ", ".join(f"{stage} {taken:.1f}" for stage, taken in result["stage_seconds"].items())
    print(
        f"{machine()}\n{result['tokens']:,} tokens in {size:,} bytes, {result['vocabulary']:,} distinct, "
        f"{sum(result['pairs']):,} pairs\n{seconds:.1f} s ({stages}), {result['tokens'] / seconds:,.0f} tokens/s, "
        f"peak of all processes {memory:.2f} GB, expected at most {args.limit_gb:g}"
    )
    if (result["tokens"], result["vocabulary"]) != (args.tokens, args.distinct):
        raise SystemExit(f"error: found {result['vocabulary']} distinct of {result['tokens']}, expected all")
    return int(memory > args.limit_gb)


if __name__ == "__main__":
    sys.exit(main())
