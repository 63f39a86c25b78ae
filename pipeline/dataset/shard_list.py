"""shards.parquet, the list of a run's shards and of their row groups: kept in columns, checked as a whole.

Shape suffixes: S shards, G row groups of all shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.dataset.schema import SHARDS_SCHEMA, FormatError, require_inside
from pipeline.dataset.shards import MAGIC, MAX_ROW_GROUP_PAIRS, RowGroup, Shard
from pipeline.dataset.tables import LARGEST_RATIO, read_table, require_ratio

_EXACT = 2.0**53  # to here float64 holds whole numbers


def save_shards(tables: Iterable[pa.Table]) -> pa.Buffer:
    """Encode the bytes of shards.parquet.

    Args:
        tables: of SHARDS_SCHEMA, ordered by pass and name; each becomes one row group.
    """
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, SHARDS_SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        for table in tables:
            writer.write_table(table)
    return sink.getvalue()


class ShardTable(Sequence[Shard]):
    """The rows of shards.parquet, each taken apart when it is asked for.

    A pass over 1 T tokens has some 250,000 shards of 16 row groups: as objects of Python they would take 3 GB in every
    process that opens the dataset.
    """

    def __init__(self, table: pa.Table) -> None:
        """Keep the columns of a table in SHARDS_SCHEMA."""
        self._columns = {name: table[name] for name in SHARDS_SCHEMA.names}  # joining their chunks would copy them
        self.passes_S: NDArray[np.int32] = self._columns["pass"].to_numpy()
        self.rows_S: NDArray[np.int64] = self._columns["rows"].to_numpy()
        self.bytes_S: NDArray[np.int64] = self._columns["bytes"].to_numpy()

    @property
    def names(self) -> list[str]:
        """All names, in order."""
        return list(self.iter_names())

    def iter_names(self) -> Iterator[str]:
        """Yield the names in order, some thousand of them as objects of Python at a time."""
        for chunk in self._columns["shard"].chunks:
            yield from chunk.to_pylist()

    def digests_of(self, pass_index: int) -> str:
        """Return the digests of a pass's shards, end to end in order of their names."""
        shards = pa.array(np.flatnonzero(self.passes_S == pass_index))
        names, digests = (self._columns[name].take(shards) for name in ("shard", "digest"))
        return "".join(digests.take(pc.sort_indices(names)).to_pylist())

    def row_group_rows(self, number: int) -> list[int]:
        """Return the rows of each row group of a shard."""
        found: list[int] = self._columns["row_groups"][number].values.field("rows").to_pylist()
        return found

    def suspects(self) -> list[int]:
        """Numbers of the shards that `require_shard` may refuse: looked for in columns, since nearly all have none."""
        chunks, found, start = self._columns["row_groups"].chunks, list[int](), 0
        for groups in chunks:
            found += self._suspects(groups, start)
            start += len(groups)
        return found

    def _suspects(self, groups: pa.ListArray, start: int) -> list[int]:
        """Do it for the shards whose row groups are given, the first of which is number ``start``."""
        rows_S, bytes_S = (column[start : start + len(groups)] for column in (self.rows_S, self.bytes_S))
        shard_G = np.repeat(np.arange(len(groups)), groups.value_lengths().to_numpy())
        offset_G, bytes_G, rows_G = (
            groups.flatten().field(name).to_numpy().astype(np.float64) for name in ("offset", "bytes", "rows")
        )
        first_G = np.diff(shard_G, prepend=-1) > 0
        end_G = offset_G + bytes_G
        is_odd_G = (offset_G != np.where(first_G, len(MAGIC), np.roll(end_G, 1))) | (bytes_G <= 0) | (rows_G <= 0)
        is_odd_G |= (rows_G > MAX_ROW_GROUP_PAIRS) | (8 * rows_G > LARGEST_RATIO * bytes_G) | (end_G > _EXACT)
        sum_S = np.bincount(shard_G, rows_G, len(groups))
        last_S = np.bincount(shard_G, bytes_G, len(groups)) + len(MAGIC)
        is_odd_S = (sum_S != rows_S) | (last_S >= bytes_S) | (sum_S <= 0)
        return [start + int(number) for number in np.union1d(shard_G[is_odd_G], np.flatnonzero(is_odd_S))]

    def __len__(self) -> int:
        return len(self.rows_S)

    @overload
    def __getitem__(self, number: int) -> Shard: ...

    @overload
    def __getitem__(self, number: slice) -> tuple[Shard, ...]: ...

    def __getitem__(self, number: int | slice) -> Shard | tuple[Shard, ...]:
        if isinstance(number, slice):
            return tuple(self[one] for one in range(*number.indices(len(self))))
        return _shard({name: column[number].as_py() for name, column in self._columns.items()})

    def __iter__(self) -> Iterator[Shard]:
        return (self[number] for number in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShardTable) and self._columns == other._columns

    __hash__ = None  # type: ignore[assignment]


def parse_shards(data: bytes, path: str) -> ShardTable:
    """Decode shards.parquet; ``path`` names it in errors.

    Raises:
        FormatError: no Parquet, other columns, a shard name that leaves the folder.
    """
    table = ShardTable(read_table(data, SHARDS_SCHEMA, path))
    for name in table.iter_names():
        require_inside(name, path)
    for number in table.suspects():
        require_shard(table[number], path)
    return table


def _shard(row: dict[str, Any]) -> Shard:
    return Shard(
        pass_index=row["pass"], name=row["shard"], rows=row["rows"], bytes=row["bytes"],
        sha256=row["sha256"], digest=row["digest"], footer_xxh3=row["footer_xxh3"],
        row_groups=tuple(RowGroup(**group) for group in row["row_groups"]),
    )  # fmt: skip


def require_shard(shard: Shard, path: str) -> None:
    """Hold a shard's numbers against each other; what follows from them, above all memory, is what a writer asks for.

    Raises:
        FormatError: row groups that do not follow each other, or of other sizes than a writer's.
    """
    end = len(MAGIC)
    for group in shard.row_groups:
        if group.offset != end or group.bytes <= 0 or not 0 < group.rows <= MAX_ROW_GROUP_PAIRS:
            raise FormatError(
                f"{path}: {shard.name}: found {group.rows} rows in {group.bytes} bytes at {group.offset}, "
                f"expected a row group of 1 to {MAX_ROW_GROUP_PAIRS} rows at {end}"
            )
        require_ratio(8 * group.rows, group.bytes, f"{path}: {shard.name}")
        end += group.bytes
    rows = sum(group.rows for group in shard.row_groups)
    if not shard.row_groups or rows != shard.rows or end >= shard.bytes:
        raise FormatError(
            f"{path}: {shard.name}: found row groups of {rows} rows that end at byte {end}, "
            f"expected {shard.rows} rows, and an end before byte {shard.bytes}"
        )
