"""shards.parquet, the list of a run's shards and of their row groups: kept in columns, checked as a whole.

Shape suffixes: S shards, G row groups of all shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.dataset.schema import SHARDS_SCHEMA, FormatError, require_inside
from pipeline.dataset.shards import MAGIC, MAX_ROW_GROUP_PAIRS, RowGroup, Shard
from pipeline.dataset.tables import LARGEST_RATIO, read_batches, require_ratio

#: What is kept of a row group: it begins where the one before it ends, and has 2 GiB at most.
GROUP = np.dtype([("bytes", "<u4"), ("rows", "<u4"), ("xxh3", "V8")])
_MOST_BYTES = (1 << 32) - 1
_XXH3 = "^[0-9a-f]{16}$"

T = TypeVar("T")


def save_shards(tables: Iterable[pa.Table]) -> pa.Buffer:
    """Encode shards.parquet from tables of SHARDS_SCHEMA, ordered by pass and name; each becomes one row group."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, SHARDS_SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        for table in tables:
            writer.write_table(table)
    return sink.getvalue()


class Columns(Sequence[T]):
    """Items that are kept in columns of numbers; each is an object only when it is asked for."""

    def make(self, index: int) -> T:
        """Make the object of one item, counted from 0."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...

    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        found = range(len(self))[index]
        return self.make(found) if isinstance(found, int) else tuple(map(self.make, found))

    def __iter__(self) -> Iterator[T]:
        return map(self.make, range(len(self)))


class ShardTable(Columns[Shard]):
    """The rows of shards.parquet, each taken apart when it is asked for.

    A pass over 1 T tokens has some 250,000 shards of 16 row groups: as objects of Python they would take 3 GB in every
    process that opens the dataset. Here a shard takes 230 bytes and a row group 16.
    """

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Keep what batches in SHARDS_SCHEMA hold, whose row groups follow each other."""
        flat = [name for name in SHARDS_SCHEMA.names if name != "row_groups"]
        held, counts, groups = list[pa.RecordBatch](), [np.zeros(1, np.int64)], [np.zeros(0, GROUP)]
        for batch in batches:
            held.append(batch.select(flat))
            counts.append(batch["row_groups"].value_lengths().to_numpy().astype(np.int64))
            groups.append(_pack_groups(batch["row_groups"].flatten()))
        schema = pa.schema([SHARDS_SCHEMA.field(name) for name in flat])
        self._table = pa.Table.from_batches(
            [pa.RecordBatch.from_arrays(batch.columns, schema=schema) for batch in held], schema
        )
        self._ends_S, self._groups_G = np.cumsum(np.concatenate(counts)), np.concatenate(groups)
        self.passes_S: NDArray[np.int32] = self._table["pass"].to_numpy()
        self.rows_S: NDArray[np.int64] = self._table["rows"].to_numpy()
        self.bytes_S: NDArray[np.int64] = self._table["bytes"].to_numpy()

    @property
    def names(self) -> list[str]:
        found: list[str] = self._table["shard"].to_pylist()
        return found

    def digests_of(self, pass_index: int) -> str:
        """Return the digests of a pass's shards, end to end in order of their names."""
        shards = pa.array(np.flatnonzero(self.passes_S == pass_index))
        names, digests = (self._table[name].take(shards) for name in ("shard", "digest"))
        return "".join(digests.take(pc.sort_indices(names)).to_pylist())

    def name(self, number: int) -> str:
        """Return the name of one shard."""
        return str(self._table["shard"][number])

    def row_groups_of(self, pass_index: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        """Return the shard, the index in it and the rows of each row group of a pass, in file order."""
        shards_S = np.flatnonzero(self.passes_S == pass_index).astype(np.int32)
        starts_S, counts_S = self._ends_S[shards_S], np.diff(self._ends_S)[shards_S]
        group_G = np.arange(counts_S.sum(), dtype=np.int32)
        group_G -= np.repeat(np.cumsum(counts_S) - counts_S, counts_S).astype(np.int32)
        rows_G = self._groups_G["rows"][np.repeat(starts_S, counts_S) + group_G]
        return np.repeat(shards_S, counts_S), group_G, rows_G.astype(np.int64)

    def _groups_of(self, number: int) -> NDArray[np.void]:
        return self._groups_G[self._ends_S[number] : self._ends_S[number + 1]]

    def __len__(self) -> int:
        return len(self.rows_S)

    def make(self, index: int) -> Shard:
        """Take a shard apart."""
        listed, offset = [], len(MAGIC)
        for size, rows, xxh3 in self._groups_of(index).tolist():
            listed.append({"offset": offset, "bytes": size, "rows": rows, "xxh3": xxh3.hex()})
            offset += size
        return _shard({name: self._table[name][index].as_py() for name in self._table.column_names}, listed)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ShardTable)
            and self._table.equals(other._table)
            and np.array_equal(self._ends_S, other._ends_S)
            and self._groups_G.tobytes() == other._groups_G.tobytes()
        )

    __hash__ = None  # type: ignore[assignment]


def parse_shards(data: bytes, path: str) -> ShardTable:
    """Decode shards.parquet; ``path`` names it in errors.

    Raises:
        FormatError: no Parquet, other columns, a shard name that leaves the folder, numbers that do not fit together.
    """
    return ShardTable(_checked(read_batches(data, SHARDS_SCHEMA, path), path))


def _checked(batches: Iterable[pa.RecordBatch], path: str) -> Iterator[pa.RecordBatch]:
    """Pass batches on whose shards are as a writer's."""
    for batch in batches:
        for name in batch["shard"].to_pylist():
            require_inside(name, path)
        for number in _suspects(batch):
            row = batch.slice(number, 1).to_pylist()[0]
            require_shard(_shard(row, row["row_groups"]), path)
        odd = np.flatnonzero(pc.invert(pc.match_substring_regex(batch["row_groups"].flatten().field("xxh3"), _XXH3)))
        if len(odd):
            found = batch["row_groups"].flatten().field("xxh3")[int(odd[0])]
            raise FormatError(f"{path}: found the checksum {found.as_py()!r}, expected 16 hexadecimal digits")
        yield batch


def _suspects(batch: pa.RecordBatch) -> list[int]:
    """Numbers of the shards that `require_shard` may refuse: looked for in columns, since nearly all have none."""
    groups, all_S = batch["row_groups"], {name: batch[name].to_numpy() for name in ("rows", "bytes")}
    shard_G = np.repeat(np.arange(len(groups)), groups.value_lengths().to_numpy())
    offset_G, bytes_G, rows_G = (
        groups.flatten().field(name).to_numpy().astype(np.float64) for name in ("offset", "bytes", "rows")
    )
    first_G = np.diff(shard_G, prepend=-1) > 0
    end_G = offset_G + bytes_G
    is_odd_G = (offset_G != np.where(first_G, len(MAGIC), np.roll(end_G, 1))) | (bytes_G <= 0) | (rows_G <= 0)
    is_odd_G |= (rows_G > MAX_ROW_GROUP_PAIRS) | (8 * rows_G > LARGEST_RATIO * bytes_G) | (bytes_G > _MOST_BYTES)
    rows_S = np.bincount(shard_G, rows_G, len(groups))
    last_S = np.bincount(shard_G, bytes_G, len(groups)) + len(MAGIC)
    is_odd_S = (rows_S != all_S["rows"]) | (last_S >= all_S["bytes"]) | (rows_S <= 0)
    return [int(number) for number in np.union1d(shard_G[is_odd_G], np.flatnonzero(is_odd_S))]


def _pack_groups(groups: pa.StructArray) -> NDArray[np.void]:
    """Keep of row groups what does not follow from the others."""
    packed = np.empty(len(groups), GROUP)
    for name in ("bytes", "rows"):
        packed[name] = groups.field(name).to_numpy()
    text = groups.field("xxh3")
    _, offsets, data = text.buffers()
    if len(text):  # of 16 digits each, so that it need not be taken apart
        first = int(np.frombuffer(offsets, np.int32)[text.offset])
        packed["xxh3"] = np.frombuffer(
            bytes.fromhex(str(memoryview(data)[first : first + 16 * len(text)], "ascii")), "V8"
        )
    return packed


def _shard(row: dict[str, Any], groups: Iterable[dict[str, Any]]) -> Shard:
    return Shard(
        pass_index=row["pass"], name=row["shard"], rows=row["rows"], bytes=row["bytes"],
        sha256=row["sha256"], digest=row["digest"], footer_xxh3=row["footer_xxh3"],
        row_groups=tuple(RowGroup(**group) for group in groups),
    )  # fmt: skip


def require_shard(shard: Shard, path: str) -> None:
    """Check that a shard's numbers agree: readers take memory by them.

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
    largest = max((group.bytes for group in shard.row_groups), default=0)
    if not shard.row_groups or rows != shard.rows or end >= shard.bytes or largest > _MOST_BYTES:
        raise FormatError(
            f"{path}: {shard.name}: found row groups of {rows} rows that end at byte {end}, "
            f"expected {shard.rows} rows, and an end before byte {shard.bytes}"
        )
