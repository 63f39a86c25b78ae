"""Uneven text over four worker processes: who gets how much of each stage.

    python -m tests.bench.skew [--share 1] [--workers 4] [--work work/bench]

One file of 2 GB beside 100,000 of 2 kB and a line of 256 MB without end; every second token is the same one. Beam's
local runner deals each stage's work to its worker processes, which are told apart by their ids: what each is handed is
counted, in bytes of text where it is read and in bytes of what was shuffled to it behind that. Ends with status 1 where
a worker got more than twice its even share of a stage. How a cluster deals is its runner's matter; how finely the work
can be dealt is what is measured here. --share makes the files, and the parts in which they are read, smaller.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from pipeline import job, runners
from pipeline.config import Config
from pipeline.inputs import splits
from pipeline.inputs.chunks import CHUNK_BYTES
from pipeline.inputs.splits import Part
from pipeline.stages import spill
from pipeline.transforms import text_to_pairs
from tests.bench import made
from tests.bench.support import machine
from tests.support.paths import ROOT

LARGE, LINE, SMALL, SMALL_FILES = 2 * 10**9, 256 * 10**6, 2000, 100_000
WORDS = 1_000_000
MOST = 2.0  # even shares


def write_corpus(folder: Path, share: float) -> None:
    """Write the files."""
    (folder / "small").mkdir(parents=True)
    half = b" the ".join(made.words_of(made.zipf_ids(1 << 20, WORDS, 1)).splitlines(keepends=True))
    with (folder / "large.txt").open("wb") as file:
        block = 0
        while file.tell() < share * LARGE:
            file.write(halved(made.words_of(made.zipf_ids(1 << 18, WORDS, 2, block))))
            block += 1
    made.write_line(folder / "line.txt", max(1, round(share * LINE)), WORDS)
    for number in range(max(1, round(share * SMALL_FILES))):
        start = number * SMALL % (len(half) - SMALL)
        (folder / "small" / f"{number:06d}.txt").write_bytes(half[start : start + SMALL])


def halved(text: bytes) -> bytes:
    """Put the same word before each."""
    return b"\n".join(b"the " + b" the ".join(line.split()) for line in text.splitlines()) + b"\n"


class Tally:
    """Notes what this process was handed, a line for each element, in a file of its own."""

    def __init__(self, stage: str, folder: Path) -> None:
        """Remember where."""
        self.stage, self.folder = stage, str(folder)

    def note(self, size: int) -> None:
        """Note one element."""
        with open(f"{self.folder}/{self.stage}.{os.getpid()}", "a") as file:
            file.write(f"{size}\n")


def text_bytes(batch: list[Part]) -> int:
    """Bytes of text that a batch is."""
    return sum(part.bytes for part in batch)


def shuffled_bytes(handles: Iterable[bytes]) -> int:
    """Bytes of the payloads that wait in files for one key."""
    return sum(spill._PLACE.unpack_from(handle)[1] for handle in handles)


class CountTokens(text_to_pairs._CountTokens):
    """Notes what it is handed; so do the others."""

    def process(self, batch: Any, *sides: Any) -> Iterator[Any]:
        self.tally.note(text_bytes(batch))
        return super().process(batch, *sides)


class EncodeChunks(text_to_pairs._EncodeChunks):
    def process(self, batch: Any, *sides: Any) -> Iterator[Any]:
        self.tally.note(text_bytes(batch))
        return super().process(batch, *sides)


class MergeCounts(text_to_pairs._MergeCounts):
    def process(self, element: Any) -> Iterator[Any]:
        self.tally.note(shuffled_bytes(element[1]))
        return super().process(element)


class WriteShards(text_to_pairs._WriteShards):
    def process(self, element: Any, *sides: Any) -> Iterator[Any]:
        self.tally.note(shuffled_bytes(element[1]))
        return super().process(element, *sides)


STAGES = {
    "counting": ("CountTokens", CountTokens), "merging counts": ("MergeCounts", MergeCounts),
    "encoding": ("EncodeChunks", EncodeChunks), "writing pairs": ("WriteShards", WriteShards),
}  # fmt: skip


def tallied(name: str, do_fn: type, tally: Tally) -> Any:
    """Return a transform that notes what its elements are."""

    def make(*arguments: Any, **settings: Any) -> Any:
        transform = getattr(text_to_pairs, name)(*arguments, **settings)
        transform._do_fn.__class__, transform._do_fn.tally = do_fn, tally
        return transform

    return make


def shares(folder: Path, stage: str, workers: int) -> tuple[int, int, list[float]]:
    """Return the elements of a stage, the largest one's bytes, and each worker's part of all bytes × workers."""
    sizes = {path: list(map(int, path.read_text().split())) for path in folder.glob(f"{stage}.*")}
    by_worker = sorted((sum(one) for one in sizes.values()), reverse=True)
    mean = max(1, sum(by_worker)) / workers
    elements = [size for one in sizes.values() for size in one]
    return len(elements), max(elements), [size / mean for size in by_worker]


def measure(share: float, workers: int, folder: Path) -> int:
    """Run it, print the table, return the exit status."""
    write_corpus(folder / "text", share)
    (folder / "tally").mkdir()
    flags = ["--direct_running_mode", "multi_processing", "--direct_num_workers", str(workers)]
    config = Config(
        input=(f"{folder}/text/**",), output=f"{folder}/data", tokenizer="whitespace", threads=1, shard_pairs=1 << 20
    )
    patched = {name: tallied(name, do_fn, Tally(stage, folder / "tally")) for stage, (name, do_fn) in STAGES.items()}
    part_bytes = max(CHUNK_BYTES, round(share * splits.PART_BYTES))
    runners.quieten_processes()
    with mock.patch.multiple(job, **patched), mock.patch.object(splits, "PART_BYTES", part_bytes):
        job.run_job(config, flags)
    print("| stage | elements | largest, MB | each worker, of an even share |\n|---|---|---|---|")
    worst = dict[str, float]()
    for stage in STAGES:
        elements, largest, each = shares(folder / "tally", stage, workers)
        print(f"| {stage} | {elements:,} | {largest / 1e6:,.1f} | {', '.join(f'{one:.2f}' for one in each)} |")
        worst[stage] = each[0]
    for stage, most in worst.items():
        if most > MOST:
            print(
                f"error: {stage}: found {most:.2f} even shares at one worker, expected at most {MOST}", file=sys.stderr
            )
    return int(max(worst.values()) > MOST)


def main() -> int:
    """Make the corpus, measure, take it away."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "bench")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    print(f"{machine()}, share {args.share:g}, {args.workers} worker processes\n")
    folder = Path(tempfile.mkdtemp(prefix="skew-", dir=args.work))
    try:
        return measure(args.share, args.workers, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    from tests.bench import skew  # its classes have another name here, under which no worker would find them

    sys.exit(skew.main())
