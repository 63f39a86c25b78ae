"""What verifying checksums costs while reading, on one thread:

    python -m tests.bench.checksums [--data URI] [--runs 5] [--work work/bench]

Reads a pass as the trainer does (XXH3 of each row group), with Parquet's page checksums (CRC-32) as well, and
without any, interleaved.
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

PARQUET_FILE = pq.ParquetFile


@contextmanager
def checking(rows: bool, pages: bool) -> Iterator[None]:
    """Hold row groups against their checksums, and pages."""

    def with_pages(*words: Any, **named: Any) -> pq.ParquetFile:
        return PARQUET_FILE(*words, **{"page_checksum_verification": pages, **named})

    with (
        mock.patch.object(reader, "require_checksum", reader.require_checksum if rows else lambda *_: None),
        mock.patch.object(shards.pq, "ParquetFile", with_pages),
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
    kinds = {"XXH3": (True, False), "XXH3 and CRC-32": (True, True), "neither": (False, False)}
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(args.runs):
        for kind, checks in kinds.items():
            with checking(*checks):
                seconds[kind].append(read_s(args.data))
    trained = train(args, "--threads", "1")["seconds"]
    print(f"{machine()}; medians of {args.runs} interleaved readings of {pairs:,} pairs (least to greatest)\n")
    for kind, values in seconds.items():
        print(f"{kind:<16} {spread(values)} s, {spread([pairs / one / 1e6 for one in values], 1)} M pairs/s")
    for kind in ("XXH3", "XXH3 and CRC-32"):
        cost = [one - other for one, other in zip(seconds[kind], seconds["neither"], strict=True)]
        reading = [100 * one / whole for one, whole in zip(cost, seconds[kind], strict=True)]
        print(f"{kind:<16} {spread(reading, 1)} % of reading, {spread([100 * one / trained for one in cost], 1)} % of "
              f"an epoch's {trained:.1f} s of training on one thread, if it did not overlap it")  # fmt: skip


if __name__ == "__main__":
    main()
