"""Pair shards: the writer and the reader of one Parquet file, side by side.

Shape suffixes: N pairs of a row group, S shards.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from pipeline.dataset.schema import PAIR_SCHEMA, FormatError, require_schema, sha256_hex
from pipeline.dataset.tables import first_line

Pairs = tuple[NDArray[np.int32], NDArray[np.int32]]

#: A row group is read as a whole, 8 bytes a pair. One ends with a sentence, so that a long one makes a long row group.
MAX_ROW_GROUP_PAIRS = 1 << 28

MAGIC = b"PAR1"

COMPRESSIONS = ("zstd", "lz4", "none")


@dataclass(frozen=True)
class RowGroup:
    """Where one row group is in its shard: a byte range, its rows, the XXH3-64 (hex) of those bytes."""

    offset: int
    bytes: int
    rows: int
    xxh3: str


@dataclass(frozen=True)
class Shard:
    """One row of shards.parquet.

    Attributes:
        name: path relative to the run's folder.
        digest: logical digest: XXH3-128 (hex) of the center column, then of the context column, as int32
            little-endian; it survives a change of Parquet writer or compression.
        footer_xxh3: XXH3-64 (hex) of all bytes after the last row group.
    """

    pass_index: int
    name: str
    rows: int
    bytes: int
    sha256: str
    digest: str
    footer_xxh3: str
    row_groups: tuple[RowGroup, ...]


def shard_name(pass_index: int, index: int, count: int) -> str:
    """Return the name of shard ``index`` of ``count``, relative to the run's folder."""
    return f"pairs/pass-{pass_index:02d}/part-{index:05d}-of-{count:05d}.parquet"


def encode_shard(pass_index: int, name: str, groups: Iterable[Pairs], compression: str) -> tuple[pa.Buffer, Shard]:
    """Encode row groups, ``(center_N, context_N)`` int32 and none empty, as one Parquet file in memory.

    zstd is at level 1: higher levels cost time and gain no size here.
    """
    sink = pa.BufferOutputStream()
    # Plain pages: dictionaries, delta and byte-stream-split encodings came out larger and slower, since LZ
    # finds the repeated neighbourhoods. Page checksums: without them most flipped bits read back as data.
    writer = pq.ParquetWriter(
        sink, PAIR_SCHEMA, compression=compression, compression_level=1 if compression == "zstd" else None,
        use_dictionary=False, write_statistics=False, write_page_checksum=True, store_schema=False,
    )  # fmt: skip
    center_hash, context_hash = xxhash.xxh3_128(), xxhash.xxh3_128()
    rows = 0
    with writer:
        for center_N, context_N in groups:
            writer.write_table(pa.table([center_N, context_N], schema=PAIR_SCHEMA), row_group_size=len(center_N))
            center_hash.update(center_N.data)
            context_hash.update(context_N.data)
            rows += len(center_N)
    data = sink.getvalue()
    row_groups, end = _locate(data)
    return data, Shard(
        pass_index=pass_index, name=name, rows=rows, bytes=data.size, sha256=sha256_hex(data),
        digest=center_hash.hexdigest() + context_hash.hexdigest(),
        footer_xxh3=_xxh3(memoryview(data)[end:]), row_groups=row_groups,
    )  # fmt: skip


def decode_row_group(data: bytes, group: int, footer: pq.FileMetaData, offset: int, path: str) -> Pairs:
    """Decode one row group from its bytes alone, which start at ``offset`` of the shard and have the right checksum.

    Pages' own checksums are left alone: CRC-32 takes up to half of the time, and `require_checksum` has seen the bytes.

    Raises:
        FormatError: the pages are damaged, or the columns hold nulls.
    """
    try:
        file = pq.ParquetFile(pa.PythonFile(_Window(data, offset), "r"), metadata=footer)
        table = file.read_row_group(group, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"{path}: row group {group} cannot be decoded ({first_line(error)})") from None
    # Joining chunks copies, even a single one; a row group decodes to one.
    columns = [_joined(table[name]) for name in PAIR_SCHEMA.names]
    if any(column.null_count for column in columns):
        raise FormatError(f"{path}: row group {group} holds nulls, expected none")
    center_N, context_N = (column.to_numpy() for column in columns)
    return center_N, context_N


def _joined(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def parse_footer(tail: bytes, shard: Shard, path: str) -> pq.FileMetaData:
    """Decode the bytes after a shard's last row group and check them against the shard's description.

    Raises:
        FormatError: a failed checksum, other columns, other row counts.
    """
    if _xxh3(tail) != shard.footer_xxh3:
        raise FormatError(f"{path}: found a footer with checksum {_xxh3(tail)}, expected {shard.footer_xxh3}")
    try:
        footer = pq.read_metadata(pa.BufferReader(MAGIC + tail))
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"{path}: found an unreadable footer ({first_line(error)})") from None
    require_schema(footer.schema.to_arrow_schema(), PAIR_SCHEMA, path)
    found = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
    if found != [group.rows for group in shard.row_groups]:
        raise FormatError(f"{path}: found row groups of {found} rows, expected what shards.parquet lists")
    return footer


def require_checksum(data: bytes, group: RowGroup, index: int, path: str) -> None:
    """Check a row group's bytes against its description.

    Raises:
        FormatError: fewer bytes than listed, or another checksum.
    """
    if len(data) != group.bytes:
        raise FormatError(f"{path}: row group {index}: found {len(data)} bytes, expected {group.bytes} (truncated)")
    found = _xxh3(data)
    if found != group.xxh3:
        raise FormatError(f"{path}: row group {index}: found checksum {found}, expected {group.xxh3} (damaged)")


def _locate(data: pa.Buffer) -> tuple[tuple[RowGroup, ...], int]:
    """Find each row group's byte range in a finished file; also where the last one ends."""
    footer = pq.read_metadata(pa.BufferReader(data))
    view, groups, end = memoryview(data), [], len(MAGIC)
    for index in range(footer.num_row_groups):
        group = footer.row_group(index)
        columns = [group.column(i) for i in range(group.num_columns)]
        start, end = end, end + sum(column.total_compressed_size for column in columns)
        assert start == min(column.data_page_offset for column in columns), "row groups must be adjacent"
        groups.append(RowGroup(start, end - start, group.num_rows, _xxh3(view[start:end])))
    return tuple(groups), end


def _xxh3(data: bytes | memoryview) -> str:
    return xxhash.xxh3_64_hexdigest(data)


class _Window(io.RawIOBase):
    """A file of which only one byte range is there: all that Parquet's reader asks of one row group."""

    def __init__(self, data: bytes, offset: int) -> None:
        super().__init__()
        self._data, self._offset, self._position = memoryview(data), offset, offset

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._offset + len(self._data)}
        self._position = base[whence] + position
        return self._position

    def read(self, size: int | None = -1) -> memoryview:
        """Bytes where they are: copying them takes up to a third of the time, and Arrow needs no copy."""
        start = self._position - self._offset
        stop = len(self._data) if size is None or size < 0 else min(start + size, len(self._data))
        if start < 0:
            raise OSError(f"read at {self._position}, before the row group's start {self._offset}")
        self._position += max(0, stop - start)
        return self._data[start:stop]
