"""What is known of each chunk, as compact rows: a trillion tokens have six million chunks, and all meet in one place.

Rows are bytes: sums first, int64 each, then a packed row for each chunk, 24 to 44 bytes. A bundle may be as small
as one chunk, and then an Arrow or NumPy object around each would take more than what it holds.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

#: Powers of two up to the longest sentence that can be asked for, a million tokens.
LENGTH_BINS = 20

#: NamedTuples with the fields ``file``, ``chunk`` and ``digest`` (hexadecimal), perhaps ``lengths`` (a uint32 for each
#: bin, the last ones may be missing); the others are integers too.
Record = Any
#: A structured array with the fields of _ROW that a kind of record has: by file, then by chunk.
Rows = NDArray[np.void]

#: What is kept of each chunk; of all other fields only the sum is. A chunk has 2 MiB at most.
_ROW = {
    "file": "<u4", "chunk": "<u4", "bytes": "<u4", "lines": "<u4", "tokens": "<u4", "weight": "<i8", "digest": "V16",
}  # fmt: skip
_SUM_WIDTHS = {"lengths": LENGTH_BINS}
_FILE_DIGEST = np.dtype([("file", "<u4"), ("digest", "V16")])


class ChunkTable(NamedTuple):
    """Records of all chunks.

    Attributes:
        rows: a row for each.
        sums: of the fields that have no column, int64 [bins of the field, 1 for most].
    """

    rows: Rows
    sums: dict[str, NDArray[np.int64]]

    def total(self, name: str) -> int:
        """Add up a field over all chunks."""
        values = self.rows[name] if name in _ROW else self.sums[name]
        return int(values.sum(dtype=np.int64))


def pack_rows(records: Sequence[Record], kind: type[Record]) -> bytes:
    """Encode records of one kind."""
    sums = [_sums_of(records, name) for name in _sum_names(kind)]
    rows = np.empty(len(records), _row_type(kind))
    for name in rows.dtype.names or ():
        column = list(map(operator.attrgetter(name), records))
        rows[name] = [bytes.fromhex(value) for value in column] if name == "digest" else column
    return b"".join([*(one.astype("<i8").tobytes() for one in sums), rows.tobytes()])


def join_rows(packed: Iterable[bytes], kind: type[Record]) -> ChunkTable:
    """Put rows end to end, in the order of files and their chunks, whatever order they come in.

    Takes 2.3 times the rows' bytes while it sorts.
    """
    names = _sum_names(kind)
    widths = [_SUM_WIDTHS.get(name, 1) for name in names]
    sums, data = np.zeros(sum(widths), np.int64), bytearray()
    for part in packed:
        sums += np.frombuffer(part, "<i8", len(sums))
        data += memoryview(part)[sums.nbytes :]
    rows = np.frombuffer(data, _row_type(kind))
    by_name = dict(zip(names, np.split(sums, np.cumsum(widths)[:-1]) if names else [], strict=True))
    return ChunkTable(rows[np.lexsort((rows["chunk"], rows["file"]))], by_name)


def sum_of(packed: Iterable[bytes], kind: type[Record], name: str) -> int:
    """Add up one column of a row without holding the rows."""
    skipped = sum(_SUM_WIDTHS.get(one, 1) for one in _sum_names(kind)) * 8
    parts = (np.frombuffer(part, _row_type(kind), offset=skipped)[name] for part in packed)
    return sum(int(part.sum(dtype=np.int64)) for part in parts)


def file_bounds(rows: Rows) -> NDArray[np.int64]:
    """Return where each file's rows begin, and the number of all rows."""
    files = rows["file"]
    inner = np.flatnonzero(files[1:] != files[:-1]) + 1
    return np.unique(np.concatenate(([0], inner, [len(rows)])))


def file_digests(rows: Rows) -> Rows:
    """Combine the digests of chunks into one XXH3-128 a file, over their hexadecimal forms: fields file and digest."""
    bounds = file_bounds(rows)
    found = np.empty(len(bounds) - 1, _FILE_DIGEST)
    found["file"] = rows["file"][bounds[:-1]]
    texts = (rows["digest"][low:high].tobytes().hex() for low, high in itertools.pairwise(bounds.tolist()))
    found["digest"] = np.frombuffer(b"".join(xxhash.xxh3_128_digest(text.encode()) for text in texts), "V16")
    return found


def first_difference(one: Rows, other: Rows) -> int | None:
    """Compare what file_digests returned; return the first file that is not in both with the same digest."""
    if one.tobytes() == other.tobytes():
        return None
    left, right = (dict(zip(each["file"].tolist(), each["digest"].tolist(), strict=True)) for each in (one, other))
    return min(int(file) for file in left.keys() | right.keys() if left.get(file) != right.get(file))


def _row_type(kind: type[Record]) -> np.dtype[np.void]:
    return np.dtype([(name, _ROW[name]) for name in kind._fields if name in _ROW])


def _sum_names(kind: type[Record]) -> list[str]:
    return [name for name in kind._fields if name not in _ROW]


def _sums_of(records: Sequence[Record], name: str) -> NDArray[np.int64]:
    column = map(operator.attrgetter(name), records)
    if name == "lengths":
        padded = b"".join(value.ljust(4 * LENGTH_BINS, b"\0") for value in column)
        found: NDArray[np.int64] = np.frombuffer(padded, "<u4").reshape(-1, LENGTH_BINS).sum(axis=0, dtype=np.int64)
        return found
    return np.array([sum(column)], np.int64)
