"""Counting tokens: one table for many chunks, partial counts by hash partition, and their sum."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.dataset.vocab import order_rows
from pipeline.kernels.machine import PADDING
from pipeline.kernels.table import fill_slots, find, find_or_add, hash_rows
from pipeline.lookup import TokenLookup
from pipeline.tokenize import Tokens

#: Parts into which the distinct tokens fall by hash; each is summed and pruned by itself.
PARTITIONS = 64

#: Partial counts leave a table when its tokens take this many bytes, so that a worker's memory has a bound.
ARENA_LIMIT_BYTES = 32 << 20

#: Partial counts are added up whenever this much of them has come together.
FOLD_BYTES = 64 << 20

#: Rows of a partition that are decoded at once when it is read as a stream.
BATCH_ROWS = 1 << 14

COUNTS_SCHEMA = pa.schema([("token", pa.binary()), ("count", pa.int64())])


class TokenCounter:
    """Counts of the distinct tokens seen since it was made; not for several threads at once."""

    def __init__(self) -> None:
        self._rows = 0
        self._slots: NDArray[np.uint64]
        self._ends: NDArray[np.int64]
        self._arena: NDArray[np.uint8]
        self._counts: NDArray[np.int64]
        self._allocate(rows=1 << 14, arena_bytes=1 << 18)

    def add(self, tokens: Tokens) -> None:
        """Count every token."""
        done = 0
        while True:
            room = len(self._arena) - PADDING
            done, self._rows = find_or_add(
                tokens.text, tokens.starts_T, tokens.lengths_T, done,
                self._slots, self._ends, self._arena, room, self._counts, self._rows,
            )  # fmt: skip
            if done == len(tokens.starts_T):
                return
            # What is full grows; the other may have room for a long time yet.
            length = int(tokens.lengths_T[done])
            full = self._rows + 1 >= len(self._ends)
            self._allocate(len(self._counts) * (1 + full), room if full else room + max(room, length))

    def rows_of(self, tokens: Tokens) -> NDArray[np.int32]:
        """Return the row of each token, int32, in order of their first appearance; −1 for tokens never counted."""
        rows = np.empty(len(tokens.starts_T), np.int32)
        find(tokens.text, tokens.starts_T, tokens.lengths_T, self._slots, self._ends, self._arena, rows)
        return rows

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
        hashes = np.empty(rows, np.uint64)
        hash_rows(self._arena, self._ends, hashes)
        # The upper bits choose the slot in a table; the lower ones are free to choose the partition.
        partition_of = (hashes % np.uint64(PARTITIONS)).astype(np.int64)
        order = np.argsort(partition_of, kind="stable")
        bounds = np.searchsorted(partition_of[order], np.arange(PARTITIONS + 1))
        for partition in range(PARTITIONS):
            members = order[bounds[partition] : bounds[partition + 1]]
            if len(members):
                yield partition, table.take(pa.array(members))

    def _allocate(self, rows: int, arena_bytes: int) -> None:
        """Make room, keeping the rows there are; at most half of the slots are ever full."""
        used = self._rows
        counts, ends, arena = (
            np.empty(rows, np.int64),
            np.zeros(rows + 1, np.int64),
            np.empty(arena_bytes + PADDING, np.uint8),
        )
        if used:
            counts[:used], ends[: used + 1] = self._counts[:used], self._ends[: used + 1]
            arena[: ends[used]] = self._arena[: ends[used]]
        self._counts, self._ends, self._arena = counts, ends, arena
        self._slots = np.zeros(2 * rows, np.uint64)
        fill_slots(self._slots, arena, ends, used)


def merge_counts(tables: Iterable[pa.Table], min_count: int, kept: TokenLookup | None = None) -> pa.Table:
    """Add up partial counts of one partition, drop the tokens below ``min_count``, order the rest as a vocabulary is.

    Each token lies in one partition alone, so that pruning there is exact.

    Args:
        tables: of COUNTS_SCHEMA; a bounded amount of them is held beside the sums.
        min_count: see above.
        kept: tokens that stay whatever their count.
    """
    held, size, limit = [COUNTS_SCHEMA.empty_table()], 0, FOLD_BYTES
    for table in tables:
        held.append(table)
        size += table.nbytes
        if size > limit:
            held = [_add_up(held)]
            size = held[0].nbytes
            limit = max(FOLD_BYTES, 2 * size)
    total = _add_up(held)
    enough = pc.greater_equal(total["count"], min_count)
    if kept is not None:
        enough = pc.or_(enough, pa.array(kept.rows_of(total["token"]) >= 0))
    return order_rows(total.filter(enough)).combine_chunks()


def _add_up(tables: list[pa.Table]) -> pa.Table:
    total = pa.concat_tables(tables).group_by("token", use_threads=False).aggregate([("count", "sum")])
    return total.rename_columns(["token", "count"]).select(COUNTS_SCHEMA.names)


def table_to_bytes(table: pa.Table) -> bytes:
    """Encode a table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=BATCH_ROWS)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def table_from_bytes(data: bytes) -> pa.Table:
    """Decode what table_to_bytes made."""
    return pa.ipc.open_stream(data).read_all()
