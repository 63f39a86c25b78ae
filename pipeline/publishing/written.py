"""The shards that were written, as compact rows: a pass over a trillion tokens has four million row groups.

168 bytes a shard and 16 a row group meet in the place that writes shards.parquet; as objects they would take ten times
as much. Shape suffixes: S shards, G row groups of all shards.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.dataset.manifest import PassTotals
from pipeline.dataset.publish import pass_totals
from pipeline.dataset.schema import SHARDS_SCHEMA
from pipeline.dataset.shard_index import GROUP
from pipeline.dataset.shards import MAGIC
from pipeline.results import WrittenShard

_SHARD = np.dtype(
    [
        ("pass", "<i4"), ("shard", "S64"), ("rows", "<i8"), ("bytes", "<i8"), ("sha256", "V32"), ("digest", "V32"),
        ("footer_xxh3", "V8"), ("kept", "<i8"), ("groups", "<i4"),
    ]
)  # fmt: skip
#: Shards, and row groups of them, that are one row group of shards.parquet: 60 MB of columns at most.
_MOST_SHARDS, _MOST_GROUPS = 1 << 16, 1 << 20


def pack_shards(written: Sequence[WrittenShard]) -> bytes:
    """Encode what was written: how many there are, then a row for each, then those of their row groups."""
    shards = [item.shard for item in written if item.shard is not None]
    groups = [(group.bytes, group.rows, bytes.fromhex(group.xxh3)) for shard in shards for group in shard.row_groups]
    rows = np.array([_row_of(item) for item in written], _SHARD)
    assert all(len(shard.name) <= rows["shard"].itemsize for shard in shards), "a shard's name fits its column"
    return len(rows).to_bytes(8, "little") + rows.tobytes() + np.array(groups, GROUP).tobytes()


def _row_of(item: WrittenShard) -> tuple[int | bytes, ...]:
    shard = item.shard
    if shard is None:
        return item.pass_index, b"", 0, 0, b"", b"", b"", item.kept, 0
    hashes = (bytes.fromhex(text) for text in (shard.sha256, shard.digest, shard.footer_xxh3))
    name = shard.name.encode("ascii")
    return item.pass_index, name, shard.rows, shard.bytes, *hashes, item.kept, len(shard.row_groups)


class WrittenShards:
    """All shards of a run, by pass and name."""

    def __init__(self, packed: Iterable[bytes]) -> None:
        """Put together what pack_shards made, in any order."""
        shards, groups = bytearray(), bytearray()
        for data in packed:
            view = memoryview(data)
            end = 8 + _SHARD.itemsize * int.from_bytes(view[:8], "little")
            shards += view[8:end]
            groups += view[end:]
        self._shards_S, self._groups_G = np.frombuffer(shards, _SHARD), np.frombuffer(groups, GROUP)
        counts_S = self._shards_S["groups"].astype(np.int64)
        self._first_S = np.cumsum(counts_S) - counts_S
        order_S = np.lexsort((self._shards_S["shard"], self._shards_S["pass"]))
        self._order_S = order_S[self._shards_S["rows"][order_S] > 0]  # of the others nothing was written

    def __len__(self) -> int:
        return len(self._order_S)

    def totals(self, pass_index: int) -> PassTotals:
        """Add up one pass."""
        kept = self._shards_S["kept"][self._shards_S["pass"] == pass_index]
        order_S = self._order_S[self._shards_S["pass"][self._order_S] == pass_index]
        digests = self._shards_S["digest"][order_S].tobytes().hex()
        return pass_totals(int(kept.sum()), self._shards_S["rows"][order_S], digests)

    def tables(self) -> Iterator[pa.Table]:
        """Yield the rows of shards.parquet, piece by piece: how they are grouped follows from the shards alone."""
        counts_S = self._shards_S["groups"][self._order_S].astype(np.int64)
        piece_S = (np.cumsum(counts_S) - counts_S) // _MOST_GROUPS
        inner = np.flatnonzero(np.diff(piece_S)) + 1
        bounds = np.unique(np.concatenate((np.arange(0, len(self), _MOST_SHARDS), inner, [len(self)])))
        return (self._table(self._order_S[low:high]) for low, high in itertools.pairwise(bounds.tolist()))

    def _table(self, order_S: NDArray[np.int64]) -> pa.Table:
        rows_S = self._shards_S[order_S]
        counts_S = rows_S["groups"].astype(np.int64)
        ends_S = np.cumsum(counts_S)
        firsts_S = ends_S - counts_S  # in the table
        places_G = np.arange(int(counts_S.sum())) + np.repeat(self._first_S[order_S] - firsts_S, counts_S)
        groups_G = self._groups_G[places_G]
        bytes_G = groups_G["bytes"].astype(np.int64)
        starts_G = np.cumsum(bytes_G) - bytes_G
        offsets_G = starts_G - np.repeat(starts_G[firsts_S], counts_S) + len(MAGIC)
        kind = SHARDS_SCHEMA.field("row_groups").type
        columns = [offsets_G, bytes_G, groups_G["rows"].astype(np.int64), _hexadecimal(groups_G["xxh3"])]
        listed = pa.ListArray.from_arrays(
            np.concatenate(([0], ends_S)).astype(np.int32),
            pa.StructArray.from_arrays([pa.array(column) for column in columns], fields=list(kind.value_type)),
            type=kind,
        )
        names = pa.array(rows_S["shard"].tolist(), pa.binary()).cast(pa.string())
        hashes = [_hexadecimal(rows_S[name]) for name in ("sha256", "digest", "footer_xxh3")]
        numbers = [np.ascontiguousarray(rows_S[name]) for name in ("pass", "rows", "bytes")]
        return pa.table([numbers[0], names, *numbers[1:], *hashes, listed], schema=SHARDS_SCHEMA)


def _hexadecimal(column: NDArray[np.void]) -> pa.Array:
    """Turn bytes of one width into text."""
    text, width = column.tobytes().hex().encode("ascii"), 2 * column.itemsize
    ends = np.arange(0, len(text) + 1, width, dtype=np.int32)
    return pa.StringArray.from_buffers(len(column), pa.py_buffer(ends), pa.py_buffer(text))
