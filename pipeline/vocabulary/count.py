"""Counting tokens: one table for many chunks, partial counts by hash partition, and their sum."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.dataset.vocabulary import order_rows
from pipeline.native.machine import PADDING
from pipeline.text.tokenize import Tokens
from pipeline.vocabulary.hash_table import empty_slots, look_up, move_slots, read_counts, room_of
from pipeline.vocabulary.lookup import TokenLookup
from pipeline.vocabulary.partitions import FEWEST_PARTITIONS, split_by_hash

#: Partial counts leave a table when its tokens take this many bytes, and a chunk, which is 2 MiB at most, is counted
#: into it whole. So a thread's table has a bound, about ten times as much, whatever the text; a token is never longer
#: than --max-token-bytes.
ARENA_LIMIT_BYTES = 16 << 20

#: Partial counts are added up whenever this much of them has come together, a table with so much for itself.
FOLD_BYTES, TABLE_BYTES = 64 << 20, 4 << 10

#: Rows of a table that are decoded at once when it is read as a stream; of a merge, all partitions' together.
BATCH_ROWS, MERGE_ROWS = 1 << 14, 1 << 20

#: Distinct tokens that a new counter has room for.
FIRST_ROWS = 1 << 14

COUNTS_SCHEMA = pa.schema([("token", pa.binary()), ("count", pa.int64())])


class TokenCounter:
    """Counts of the distinct tokens seen since it was made; not for several threads at once."""

    def __init__(self) -> None:
        self._rows = 0
        self._slots = empty_slots(FIRST_ROWS)
        self._ends = np.zeros(room_of(self._slots) + 1, np.int64)
        self._arena = np.empty(FIRST_ROWS * 16 + PADDING, np.uint8)

    def add(self, tokens: Tokens) -> NDArray[np.int32]:
        """Count every token; return the row of each, int32: rows are numbered in order of their first appearance."""
        rows, done = np.empty(len(tokens.starts_T), np.int32), 0
        while True:
            done, self._rows = look_up(
                tokens.text, tokens.starts_T, tokens.lengths_T, done,
                self._slots, self._ends, self._arena, self._rows, True, rows,
            )  # fmt: skip
            if done == len(rows):
                return rows
            # What is full grows; the other may have room for a long time yet.
            if self._rows + 1 >= len(self._ends):
                self._grow_slots()
            else:
                self._grow_arena(int(tokens.lengths_T[done]))

    @property
    def is_large(self) -> bool:
        """Whether it is time to emit what was counted and start again."""
        return bool(self._ends[self._rows] > ARENA_LIMIT_BYTES)

    def counts(self) -> pa.Table:
        """Return what was counted, of COUNTS_SCHEMA, in order of first appearance."""
        rows = self._rows
        ends = pa.py_buffer(self._ends[: rows + 1].astype(np.int32))
        tokens = pa.Array.from_buffers(pa.binary(), rows, [None, ends, pa.py_buffer(self._arena)])
        counts = np.empty(rows, np.int64)
        read_counts(self._slots, counts)
        return pa.table([tokens, counts], schema=COUNTS_SCHEMA)

    def partitions(self, number: int = FEWEST_PARTITIONS) -> Iterator[tuple[int, pa.Table]]:
        """Return ``(partition, table of COUNTS_SCHEMA)`` for every one of ``number`` partitions that holds a token."""
        split = enumerate(split_by_hash(self.counts(), "token", number))
        return ((partition, table) for partition, table in split if len(table))

    def payloads(self, number: int) -> Iterator[tuple[int, bytes]]:
        """Yield what was counted by partition, encoded."""
        return ((partition, table_to_bytes(table)) for partition, table in self.partitions(number))

    def _grow_slots(self) -> None:
        larger = empty_slots(2 * room_of(self._slots))
        move_slots(self._slots, larger)
        ends = np.zeros(room_of(larger) + 1, np.int64)
        ends[: len(self._ends)] = self._ends
        self._slots, self._ends = larger, ends

    def _grow_arena(self, token_bytes: int) -> None:
        used = int(self._ends[self._rows])
        arena = np.empty(2 * len(self._arena) + token_bytes, np.uint8)
        arena[:used] = self._arena[:used]
        self._arena = arena


def merge_counts(
    tables: Iterable[pa.Table], min_count: int, kept: TokenLookup | None = None, max_rows: int = 0
) -> pa.Table:
    """Add up partial counts of one partition, drop the tokens below ``min_count``, order the rest as a vocabulary is.

    Each token is in one partition only, so pruning there is exact. Tokens that are ``kept`` stay whatever their
    count; of the others, ``max_rows`` stay at most, the most frequent ones; 0 is no limit.
    """
    [total] = add_up([COUNTS_SCHEMA], ([table] for table in tables))
    enough = pc.greater_equal(total["count"], min_count)
    if kept is not None:
        enough = pc.or_(enough, pa.array(kept.rows_of(total["token"]) >= 0))
    ordered = order_rows(total.filter(enough))
    if max_rows:
        new = np.ones(len(ordered), np.bool_) if kept is None else kept.rows_of(ordered["token"]) < 0
        ordered = ordered.filter(pa.array(~new | (np.cumsum(new) <= max_rows)))
    return ordered.combine_chunks()


def add_up(schemas: Sequence[pa.Schema], parts: Iterable[Sequence[pa.Table]]) -> list[pa.Table]:
    """Add up the counts of equal rows, a bounded amount of them at a time besides the sums.

    Each part has a table of each schema, whose last column is ``count``.
    """
    held, size, limit = [[schema.empty_table() for schema in schemas]], 0, FOLD_BYTES
    for part in parts:
        held.append(list(part))
        size += sum(table.nbytes + TABLE_BYTES for table in part)
        if size > limit:
            held = [_sums(schemas, held)]
            size = sum(table.nbytes for table in held[0])
            limit = max(FOLD_BYTES, 2 * size)
    return _sums(schemas, held)


def _sums(schemas: Sequence[pa.Schema], parts: Sequence[Sequence[pa.Table]]) -> list[pa.Table]:
    sums = []
    for schema, tables in zip(schemas, zip(*parts, strict=True), strict=True):
        grouped = pa.concat_tables(tables).group_by(schema.names[:-1], use_threads=False)
        sums.append(grouped.aggregate([("count", "sum")]).rename_columns(schema.names))
    return sums


def table_to_bytes(table: pa.Table, batch_rows: int = 0) -> bytes:
    """Encode a table as an Arrow IPC stream, in batches of BATCH_ROWS by default."""
    return tables_to_bytes([table], batch_rows or BATCH_ROWS)


def tables_to_bytes(tables: Iterable[pa.Table], batch_rows: int | None = None) -> bytes:
    """Encode tables as Arrow IPC streams, one after the other."""
    sink = pa.BufferOutputStream()
    for table in tables:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=batch_rows)
    return bytes(sink.getvalue())


def table_from_bytes(data: bytes) -> pa.Table:
    """Decode what table_to_bytes made."""
    return pa.ipc.open_stream(data).read_all()
