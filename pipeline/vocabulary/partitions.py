"""Splitting counted words into partitions by their hash: each partition has all counts of its words."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.vocabulary.hash_table import hash_rows
from pipeline.vocabulary.lookup import unpack_tokens

#: Parts into which counted words fall by hash, one for so much of the stored input. What one worker takes at a time, a
#: part, so stays of one size, about a hundred MB for each GB of a part's text, and a payload does not become tiny.
FEWEST_PARTITIONS, MOST_PARTITIONS, PARTITION_BYTES = 64, 4096, 4 << 30


def partition_count(input_bytes: int) -> int:
    """Return the number of partitions, a power of two, for an input of ``stored`` bytes; no result depends on it."""
    wanted = -(-input_bytes // PARTITION_BYTES)
    return min(max(FEWEST_PARTITIONS, 1 << max(0, wanted - 1).bit_length()), MOST_PARTITIONS)


def split_by_hash(table: pa.Table, column: str, partitions: int) -> list[pa.Table]:
    """Split a table by the hash of the words in a column; a row's place among those of its partition stays."""
    order, bounds = order_by(partition_of(table[column], partitions), partitions)
    sorted_table = table.take(pa.array(order)).combine_chunks()
    return [sorted_table.slice(start, stop - start) for start, stop in itertools.pairwise(bounds.tolist())]


def partition_of(words: pa.ChunkedArray, partitions: int) -> NDArray[np.unsignedinteger[Any]]:
    """Return a number below ``partitions``, 65536 at most, for each word, by its hash."""
    arena, ends = unpack_tokens(words)
    hashes = np.empty(len(words), np.uint64)
    hash_rows(arena, ends, hashes)
    # The upper bits choose the slot in a table; the lower ones are free to choose the partition.
    return (hashes % np.uint64(partitions)).astype(np.uint8 if partitions <= 256 else np.uint16)


def order_by(parts: NDArray[Any], partitions: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows in order of partition, and where each partition begins and the last one ends."""
    order = np.argsort(parts, kind="stable")  # numpy sorts one and two bytes by radix
    return order, np.concatenate(([0], np.cumsum(np.bincount(parts, minlength=partitions))))
