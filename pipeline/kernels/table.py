"""An open-addressing hash table from token bytes to a row number, for counting and for encoding.

Rows are numbered in order of insertion. `slots` holds row + 1, 0 for an empty slot; `hashes`, `ends` and `arena`
describe the rows: the bytes of row r are arena[ends[r] : ends[r + 1]]. Bytes are compared, not only hashes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.jit import as_int, compiled, inlined

_OFFSET = np.uint64(14695981039346656037)
_PRIME = np.uint64(1099511628211)
_MIX = np.uint64(0x9E3779B97F4A7C15)


@inlined
def hash_bytes(text: NDArray[np.uint8], start: int, length: int) -> np.uint64:
    """64-bit FNV-1a, then one multiply so that the upper bits depend on every byte."""
    h = _OFFSET
    for i in range(start, start + length):
        h = (h ^ np.uint64(text[i])) * _PRIME
    return (h ^ (h >> np.uint64(32))) * _MIX


@inlined
def _equal(
    text: NDArray[np.uint8], start: int, length: int, arena: NDArray[np.uint8], ends: NDArray[np.int64], row: int
) -> bool:
    begin = ends[row]
    if ends[row + 1] - begin != length:
        return False
    for i in range(length):
        if text[start + i] != arena[begin + i]:
            return False
    return True


@compiled
def find_or_add(
    text: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    first: int,
    slots: NDArray[np.int32],
    hashes: NDArray[np.uint64],
    ends: NDArray[np.int64],
    arena: NDArray[np.uint8],
    counts: NDArray[np.int64],
    rows: int,
) -> tuple[int, int]:
    """Count tokens from number ``first`` on, until all are counted or the table has no room for another row.

    Returns:
        The number of the first token not counted, and the rows in use.
    """
    shift = np.uint64(64 - as_int(np.log2(len(slots)) + 0.5))
    mask = len(slots) - 1
    for t in range(first, len(starts)):
        start, length = as_int(starts[t]), as_int(lengths[t])
        h = hash_bytes(text, start, length)
        slot = as_int(h >> shift)
        while True:
            row = as_int(slots[slot]) - 1
            if row < 0:
                if rows + 1 >= len(ends) or ends[rows] + length > len(arena):
                    return t, rows
                begin = ends[rows]
                for i in range(length):
                    arena[begin + i] = text[start + i]
                slots[slot], hashes[rows], counts[rows], ends[rows + 1] = rows + 1, h, 1, begin + length
                rows += 1
                break
            if hashes[row] == h and _equal(text, start, length, arena, ends, row):
                counts[row] += 1
                break
            slot = (slot + 1) & mask
    return len(starts), rows


@compiled
def fill_slots(slots: NDArray[np.int32], hashes: NDArray[np.uint64], rows: int) -> None:
    """Enter rows whose hashes are known into empty slots."""
    shift = np.uint64(64 - as_int(np.log2(len(slots)) + 0.5))
    mask = len(slots) - 1
    for row in range(rows):
        slot = as_int(hashes[row] >> shift)
        while slots[slot] != 0:
            slot = (slot + 1) & mask
        slots[slot] = row + 1


@compiled
def hash_rows(arena: NDArray[np.uint8], ends: NDArray[np.int64], hashes: NDArray[np.uint64]) -> None:
    """Hash the bytes of every row."""
    for row in range(len(hashes)):
        hashes[row] = hash_bytes(arena, ends[row], ends[row + 1] - ends[row])


@compiled
def find(
    text: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    slots: NDArray[np.int32],
    hashes: NDArray[np.uint64],
    ends: NDArray[np.int64],
    arena: NDArray[np.uint8],
    out: NDArray[np.int32],
) -> None:
    """Write the row of every token, −1 for tokens that are in no row."""
    shift = np.uint64(64 - as_int(np.log2(len(slots)) + 0.5))
    mask = len(slots) - 1
    for t in range(len(starts)):
        start, length = as_int(starts[t]), as_int(lengths[t])
        h = hash_bytes(text, start, length)
        slot = as_int(h >> shift)
        while True:
            row = as_int(slots[slot]) - 1
            if row < 0 or (hashes[row] == h and _equal(text, start, length, arena, ends, row)):
                out[t] = row
                break
            slot = (slot + 1) & mask
