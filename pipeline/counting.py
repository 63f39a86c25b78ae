"""Counting tokens: one table for many chunks, partial counts by hash partition, and their sum."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.kernels.table import fill_slots, find_or_add
from pipeline.tokenize import Tokens

#: Parts into which the distinct tokens fall by hash; each is summed and pruned by itself.
PARTITIONS = 64

#: Partial counts leave a table when its tokens take this many bytes, so that a worker's memory has a bound.
ARENA_LIMIT_BYTES = 64 << 20

COUNTS_SCHEMA = pa.schema([("token", pa.binary()), ("count", pa.int64())])


class TokenCounter:
    """Counts of the distinct tokens seen since it was made; not for several threads at once."""

    def __init__(self) -> None:
        self._rows = 0
        self._slots: NDArray[np.int32]
        self._hashes: NDArray[np.uint64]
        self._ends: NDArray[np.int64]
        self._arena: NDArray[np.uint8]
        self._counts: NDArray[np.int64]
        self._allocate(rows=1 << 14, arena_bytes=1 << 18)

    def add(self, tokens: Tokens) -> None:
        """Count every token."""
        done = 0
        while True:
            done, self._rows = find_or_add(
                tokens.text, tokens.starts_T, tokens.lengths_T, done,
                self._slots, self._hashes, self._ends, self._arena, self._counts, self._rows,
            )  # fmt: skip
            if done == len(tokens.starts_T):
                return
            length = int(tokens.lengths_T[done])
            self._allocate(2 * len(self._hashes), 2 * len(self._arena) + length)

    @property
    def is_large(self) -> bool:
        """Whether it is time to hand on what was counted and start anew."""
        return bool(self._ends[self._rows] > ARENA_LIMIT_BYTES)

    def partitions(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield ``(partition, table of COUNTS_SCHEMA)`` for every partition that holds a token."""
        rows = self._rows
        ends = pa.py_buffer(self._ends[: rows + 1].astype(np.int32))
        tokens = pa.Array.from_buffers(pa.binary(), rows, [None, ends, pa.py_buffer(self._arena)])
        table = pa.table([tokens, pa.array(self._counts[:rows])], schema=COUNTS_SCHEMA)
        # The upper bits choose the slot in a table; the lower ones are free to choose the partition.
        partition_of = (self._hashes[:rows] % np.uint64(PARTITIONS)).astype(np.int64)
        order = np.argsort(partition_of, kind="stable")
        bounds = np.searchsorted(partition_of[order], np.arange(PARTITIONS + 1))
        for partition in range(PARTITIONS):
            members = order[bounds[partition] : bounds[partition + 1]]
            if len(members):
                yield partition, table.take(pa.array(members))

    def _allocate(self, rows: int, arena_bytes: int) -> None:
        """Make room, keeping the rows there are; at most half of the slots are ever full."""
        old = (self._hashes, self._ends, self._arena, self._counts) if self._rows else None
        self._hashes, self._counts = np.empty(rows, np.uint64), np.empty(rows, np.int64)
        self._ends, self._arena = np.zeros(rows + 1, np.int64), np.empty(arena_bytes, np.uint8)
        self._slots = np.zeros(2 * rows, np.int32)
        if old is not None:
            hashes, ends, arena, counts = old
            used = int(ends[self._rows])
            self._hashes[: self._rows], self._counts[: self._rows] = hashes[: self._rows], counts[: self._rows]
            self._ends[: self._rows + 1], self._arena[:used] = ends[: self._rows + 1], arena[:used]
            fill_slots(self._slots, self._hashes, self._rows)


def merge_counts(tables: Iterable[pa.Table], min_count: int) -> pa.Table:
    """Add up partial counts of one partition and drop the tokens below ``min_count``.

    Each token lies in one partition alone, so that pruning there is exact.
    """
    joined = pa.concat_tables(tables, promote_options="none")
    total = joined.group_by("token", use_threads=False).aggregate([("count", "sum")])
    total = total.rename_columns(["token", "count"]).select(COUNTS_SCHEMA.names)
    return total.filter(pc.greater_equal(total["count"], min_count)).combine_chunks()


def table_to_bytes(table: pa.Table) -> bytes:
    """Encode a table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def table_from_bytes(data: bytes) -> pa.Table:
    """Decode what table_to_bytes made."""
    return pa.ipc.open_stream(data).read_all()
