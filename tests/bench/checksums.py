"""What verifying checksums costs while reading, on one thread:

    python -m tests.bench.checksums [--data URI] [--runs 5] [--work work/bench]

Reads a pass with every check, and without XXH3 of row groups and Parquet's page checksums, interleaved.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pyarrow.parquet as pq

from pipeline.dataset import reader, shards
from pipeline.dataset.reader import open_dataset
from tests.bench.support import machine, parse_args, spread, train


@contextmanager
def unchecked(rows: bool, pages: bool) -> Iterator[None]:
    """Leave out the checksums of row groups, or of pages."""
    plain = pq.ParquetFile

    def without_pages(*words: Any, **named: Any) -> pq.ParquetFile:
        return plain(*words, **{**named, "page_checksum_verification": False})

    with (
        mock.patch.object(reader, "require_checksum", (lambda *_: None) if rows else reader.require_checksum),
        mock.patch.object(shards.pq, "ParquetFile", without_pages if pages else plain),
    ):
        yield


def read_s(data: str) -> float:
    """CPU seconds of this thread to read the first pass."""
    dataset = open_dataset(data)
    start = time.thread_time()
    for ref in dataset.row_groups(0):
        dataset.read_row_group(ref)
    return time.thread_time() - start


def main() -> None:
    """Print the figures."""
    args = parse_args(__doc__, runs=5)
    pairs = open_dataset(args.data).pairs_in_pass(0)
    read_s(args.data)
    kinds = {"all checks": (False, False), "without XXH3": (True, False), "without both": (True, True)}
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(args.runs):
        for kind, left_out in kinds.items():
            with unchecked(*left_out):
                seconds[kind].append(read_s(args.data))
    trained = train(args, "--threads", "1")["seconds"]
    print(f"{machine()}; medians of {args.runs} interleaved readings of {pairs:,} pairs (least to greatest)\n")
    for kind, values in seconds.items():
        print(f"{kind:<13} {spread(values)} s, {spread([pairs / one / 1e6 for one in values], 1)} M pairs/s")
    cost = [one - other for one, other in zip(seconds["all checks"], seconds["without both"], strict=True)]
    reading = [100 * one / all_s for one, all_s in zip(cost, seconds["all checks"], strict=True)]
    print(f"both checks   {spread(reading, 1)} % of reading, {spread([100 * one / trained for one in cost], 1)} % of "
          f"an epoch's {trained:.1f} s of training on one thread, if it did not overlap it")  # fmt: skip


if __name__ == "__main__":
    main()
