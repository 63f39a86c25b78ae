"""An open-addressing hash table from token bytes to a row number, for counting and for encoding.

Rows are numbered in order of insertion: the bytes of row r are arena[ends[r] : ends[r + 1]]. A slot holds the upper
half of a row's hash and, below it, row + 1; 0 is an empty slot. Bytes are compared, not only hashes. Texts and arenas
carry machine.PADDING bytes behind their end, so that eight bytes can be read at any token.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.jit import as_int, compiled, inlined
from pipeline.kernels.machine import load_word, multiply_high, prefetch

# Odd constants with evenly spread bits: the 64-bit golden ratio, and SplitMix64's (Steele et al. 2014).
_GOLDEN, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ROW = np.uint64(0xFFFFFFFF)

#: Tokens whose slots are asked for ahead of their use.
_AHEAD = 16


@inlined
def _fold(a: np.uint64, b: np.uint64) -> np.uint64:
    """Both halves of the 128-bit product, as one word: every bit of ``a`` reaches every bit of the result."""
    return multiply_high(a, b) ^ (a * b)


@inlined
def _last_word(text: NDArray[np.uint8], start: int, length: int) -> np.uint64:
    """The 1 to 8 bytes from ``start`` on, zeros above them."""
    return load_word(text, start) & (_ALL >> np.uint64(64 - 8 * length))


@inlined
def hash_bytes(text: NDArray[np.uint8], start: int, length: int) -> np.uint64:
    """64-bit hash, eight bytes a step."""
    h, i, left = np.uint64(length) * _MIX, as_int(start), as_int(length)
    while left > 8:
        h = _fold(h ^ load_word(text, i), _GOLDEN)
        i, left = i + 8, left - 8
    return _fold(h ^ (_last_word(text, i, left) if left > 0 else np.uint64(0)), _GOLDEN) * _MIX


@inlined
def _equal(
    text: NDArray[np.uint8], start: int, length: int, arena: NDArray[np.uint8], ends: NDArray[np.int64], row: int
) -> bool:
    begin = as_int(ends[row])
    if ends[row + 1] - begin != length:
        return False
    i, left = as_int(0), as_int(length)
    while left > 8:
        if load_word(text, start + i) != load_word(arena, begin + i):
            return False
        i, left = i + 8, left - 8
    return bool(left == 0 or _last_word(text, start + i, left) == _last_word(arena, begin + i, left))


@inlined
def _shift(slots: NDArray[np.uint64]) -> np.uint64:
    """How far to shift a hash to get a slot: their number is a power of two."""
    return np.uint64(64 - as_int(np.log2(len(slots)) + 0.5))


@compiled
def _hash_ahead(
    text: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    first: int,
    stop: int,
    slots: NDArray[np.uint64],
    hashes: NDArray[np.uint64],
) -> None:
    """Hash some tokens, and ask for their slots: large tables lie in memory, not in a cache."""
    shift = _shift(slots)
    for t in range(first, stop):
        h = hash_bytes(text, as_int(starts[t]), as_int(lengths[t]))
        hashes[t - first] = h
        prefetch(slots, as_int(h >> shift))


@compiled
def _look_ahead(
    count: int,
    slots: NDArray[np.uint64],
    ends: NDArray[np.int64],
    arena: NDArray[np.uint8],
    hashes: NDArray[np.uint64],
) -> None:
    """Ask for the rows that hashed tokens are likely to be: the slots are here by now, a row is a miss of its own."""
    shift = _shift(slots)
    for t in range(count):
        content = slots[as_int(hashes[t] >> shift)]
        if content != 0:
            prefetch(ends, as_int(content & _ROW) - 1)
    for t in range(count):
        content = slots[as_int(hashes[t] >> shift)]
        if content != 0:
            prefetch(arena, as_int(ends[as_int(content & _ROW) - 1]))


@compiled
def find_or_add(
    text: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    first: int,
    slots: NDArray[np.uint64],
    ends: NDArray[np.int64],
    arena: NDArray[np.uint8],
    room: int,
    counts: NDArray[np.int64],
    rows: int,
) -> tuple[int, int]:
    """Count tokens from number ``first`` on, until all are counted or the table has no room for another row.

    Args:
        text: with its padding, as ``arena``.
        starts: of the tokens.
        lengths: of the tokens.
        first: see above.
        slots: of the table, as all that follow.
        ends: …
        arena: …
        room: bytes of the arena without its padding.
        counts: …
        rows: in use.

    Returns:
        The number of the first token not counted, and the rows in use.
    """
    shift, mask = _shift(slots), len(slots) - 1
    hashes = np.empty(_AHEAD, np.uint64)
    for block in range(first, len(starts), _AHEAD):
        stop = min(block + _AHEAD, len(starts))
        _hash_ahead(text, starts, lengths, block, stop, slots, hashes)
        _look_ahead(stop - block, slots, ends, arena, hashes)
        for t in range(block, stop):
            start, length, h = as_int(starts[t]), as_int(lengths[t]), hashes[t - block]
            slot = as_int(h >> shift)
            while True:
                content = slots[slot]
                if content == 0:
                    begin = as_int(ends[rows])
                    if rows + 1 >= len(ends) or begin + length > room:
                        return t, rows
                    for i in range(length):
                        arena[begin + i] = text[start + i]
                    slots[slot] = (h & ~_ROW) | np.uint64(rows + 1)
                    counts[rows], ends[rows + 1] = 1, begin + length
                    rows += 1
                    break
                row = as_int(content & _ROW) - 1
                if (content ^ h) >> np.uint64(32) == 0 and _equal(text, start, length, arena, ends, row):
                    counts[row] += 1
                    break
                slot = (slot + 1) & mask
    return len(starts), rows


@compiled
def fill_slots(slots: NDArray[np.uint64], arena: NDArray[np.uint8], ends: NDArray[np.int64], rows: int) -> None:
    """Enter rows of distinct bytes into empty slots."""
    shift, mask = _shift(slots), len(slots) - 1
    for row in range(rows):
        h = hash_bytes(arena, as_int(ends[row]), as_int(ends[row + 1] - ends[row]))
        slot = as_int(h >> shift)
        while slots[slot] != 0:
            slot = (slot + 1) & mask
        slots[slot] = (h & ~_ROW) | np.uint64(row + 1)


@compiled
def hash_rows(arena: NDArray[np.uint8], ends: NDArray[np.int64], hashes: NDArray[np.uint64]) -> None:
    """Hash the bytes of every row."""
    for row in range(len(hashes)):
        hashes[row] = hash_bytes(arena, as_int(ends[row]), as_int(ends[row + 1] - ends[row]))


@compiled
def find(
    text: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    slots: NDArray[np.uint64],
    ends: NDArray[np.int64],
    arena: NDArray[np.uint8],
    out: NDArray[np.int32],
) -> None:
    """Write the row of every token, −1 for tokens that are in no row."""
    shift, mask = _shift(slots), len(slots) - 1
    hashes = np.empty(_AHEAD, np.uint64)
    for block in range(0, len(starts), _AHEAD):
        stop = min(block + _AHEAD, len(starts))
        _hash_ahead(text, starts, lengths, block, stop, slots, hashes)
        _look_ahead(stop - block, slots, ends, arena, hashes)
        for t in range(block, stop):
            start, length, h = as_int(starts[t]), as_int(lengths[t]), hashes[t - block]
            slot = as_int(h >> shift)
            while True:
                content = slots[slot]
                row = as_int(content & _ROW) - 1
                if row < 0 or ((content ^ h) >> np.uint64(32) == 0 and _equal(text, start, length, arena, ends, row)):
                    out[t] = row
                    break
                slot = (slot + 1) & mask
