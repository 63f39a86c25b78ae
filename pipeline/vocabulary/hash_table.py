"""An open-addressing hash table from token bytes to a row number and a count, for counting and for encoding.

Rows are numbered in order of insertion: the bytes of row r are arena[ends[r] : ends[r + 1]]. A table's slots are
entries of four words: of a token of at most 16 bytes the bytes themselves, filled up with zeros, of a longer one its
hash and all ones; then its length and, below that, row + 1 (0 is an empty slot); then its count. So nearly every
token is found, compared and counted in the half of one cache line; only long ones are compared in the arena. Texts
and arenas have machine.PADDING bytes after their end, so that words can be read at any token.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.native.jit import as_int, compiled, inlined
from pipeline.native.machine import PADDING, load_word, multiply_high, prefetch

# Odd constants with evenly spread bits: the 64-bit golden ratio, and SplitMix64's (Steele et al. 2014).
_GOLDEN, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
_ALL, _ROW, _HALF = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(0xFFFFFFFF), np.uint64(32)

#: Words of an entry, and bytes of a token that fit into its key.
ENTRY, KEY_BYTES = 4, 16

#: Tokens whose slots are asked for ahead of their use: large tables are in memory, not in a cache.
_AHEAD = 128


def empty_slots(rows: int) -> NDArray[np.uint64]:
    """Return a table with room for so many rows; at most three slots of four are ever full."""
    slots = 1 << max(4, (-(-rows * 4 // 3) - 1).bit_length())
    words = np.zeros(ENTRY * (slots + 1), np.uint64)
    first = -words.ctypes.data // 8 % ENTRY  # an entry is in one cache line
    return words[first : first + ENTRY * slots]


def room_of(slots: NDArray[np.uint64]) -> int:
    """Return the rows that a table has room for."""
    return len(slots) // ENTRY * 3 // 4


@inlined
def _fold(a: np.uint64, b: np.uint64) -> np.uint64:
    """Both halves of the 128-bit product, as one word: every bit of ``a`` reaches every bit of the result."""
    return multiply_high(a, b) ^ (a * b)


@inlined
def _mix(length: int, first: np.uint64, second: np.uint64) -> np.uint64:
    return _fold(_fold(np.uint64(length) * _MIX ^ first, _GOLDEN) ^ second, _MIX)


@compiled
def _hash_long(text: NDArray[np.uint8], start: int, length: int) -> np.uint64:
    """64-bit hash of more than eight bytes, eight a step."""
    h, i, left = np.uint64(length) * _MIX, as_int(start), as_int(length)
    while left > 8:
        h = _fold(h ^ load_word(text, i), _GOLDEN)
        i, left = i + 8, left - 8
    return _fold(h ^ load_word(text, i) & _ALL >> np.uint64(64 - 8 * left), _GOLDEN) * _MIX


@inlined
def _shift(slots: NDArray[np.uint64]) -> np.uint64:
    """How far to shift a hash to get a slot: their number is a power of two."""
    return np.uint64(64 - as_int(np.log2(len(slots) // ENTRY) + 0.5))


@inlined
def _place(h: np.uint64, shift: np.uint64) -> int:
    """The first word of the entry where the search for a hash begins."""
    return ENTRY * as_int(h >> shift)  # type: ignore[no-any-return]


@compiled
def _same_bytes(a: NDArray[np.uint8], i: int, b: NDArray[np.uint8], j: int, length: int) -> bool:
    for k in range(length):
        if a[i + k] != b[j + k]:
            return False
    return True


@compiled
def _find_keys(
    text: NDArray[np.uint8],
    starts: NDArray[np.signedinteger[Any]],
    lengths: NDArray[np.signedinteger[Any]],
    first: int,
    stop: int,
    slots: NDArray[np.uint64],
    keys: NDArray[np.uint64],
) -> None:
    """Write the key and the hash of tokens [first, stop), and ask for their slots.

    One function without helpers that take arrays: inlined ones count references in every round of the loop, which
    makes it three times as slow.
    """
    shift = _shift(slots)
    for t in range(first, stop):
        start, length = as_int(starts[t]), as_int(lengths[t])
        if length > KEY_BYTES:
            one = h = _hash_long(text, start, length)
            two = _ALL
        else:
            # Without a branch: the length of the next token is what no predictor knows.
            one, two = load_word(text, start), load_word(text, start + 8)
            low, high = min(length, 8), max(length - 8, 0)
            one &= _ALL >> np.uint64(64 - 8 * low)
            two = two & ~(_ALL << np.uint64(8 * (high & 7))) if high < 8 else two
            h = _mix(length, one, two)
        k = 3 * (t - first)
        keys[k], keys[k + 1], keys[k + 2] = one, two, h
        prefetch(slots, _place(h, shift))


@compiled
def look_up(
    text: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    first: int,
    slots: NDArray[np.uint64],
    ends: NDArray[np.int64],
    arena: NDArray[np.uint8],
    rows: int,
    counting: bool,
    out: NDArray[np.int32],
) -> tuple[int, int]:
    """Find the rows of tokens from number ``first`` on, and add and count them if asked to.

    Args:
        text: with its padding, as ``arena``.
        starts: of the tokens.
        lengths: of the tokens.
        first: see above.
        slots: of the table, as all that follow.
        ends: of as many rows as there is room for, and one.
        arena: …
        rows: in use.
        counting: add tokens that are in no row, and count all.
        out: output: the row of each token, −1 for none.

    Returns:
        The number of the first token for which the table has no room, and the rows in use.
    """
    shift, room, last = _shift(slots), len(arena) - PADDING, len(slots) - 1
    keys = np.empty(3 * _AHEAD, np.uint64)
    for block in range(first, len(starts), _AHEAD):
        stop = min(block + _AHEAD, len(starts))
        _find_keys(text, starts, lengths, block, stop, slots, keys)
        for t in range(block, stop):
            k, length = 3 * (t - block), as_int(lengths[t])
            one, two, place = keys[k], keys[k + 1], _place(keys[k + 2], shift)
            while True:
                about = slots[place + 2]
                row = as_int(about & _ROW) - 1
                if row < 0:
                    break
                same = slots[place] == one and slots[place + 1] == two and as_int(about >> _HALF) == length
                if same and length > KEY_BYTES:
                    same = _same_bytes(text, as_int(starts[t]), arena, as_int(ends[row]), length)
                if same:
                    break
                place = (place + ENTRY) & last
            if counting:
                if row < 0:
                    row, begin, start = rows, as_int(ends[rows]), as_int(starts[t])
                    if rows + 1 >= len(ends) or begin + length > room:
                        return t, rows
                    for i in range(length):
                        arena[begin + i] = text[start + i]
                    slots[place], slots[place + 1] = one, two
                    slots[place + 2] = np.uint64(length) << _HALF | np.uint64(row + 1)
                    ends[rows + 1], rows = begin + length, rows + 1
                slots[place + 3] += np.uint64(1)
            out[t] = row
    return len(starts), rows


@compiled
def _find_row_keys(
    arena: NDArray[np.uint8], ends: NDArray[np.int64], first: int, stop: int, slots: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """Return the keys and hashes of rows [first, stop)."""
    keys = np.empty(3 * (stop - first), np.uint64)
    starts = ends[first:stop]
    _find_keys(arena, starts, ends[first + 1 : stop + 1] - starts, 0, stop - first, slots, keys)
    return keys


@compiled
def fill_slots(slots: NDArray[np.uint64], arena: NDArray[np.uint8], ends: NDArray[np.int64], rows: int) -> None:
    """Enter rows of distinct bytes, none of them counted yet, into empty slots."""
    shift, last = _shift(slots), len(slots) - 1
    for block in range(0, rows, _AHEAD):
        stop = min(block + _AHEAD, rows)
        keys = _find_row_keys(arena, ends, block, stop, slots)
        for row in range(block, stop):
            k, length = 3 * (row - block), as_int(ends[row + 1] - ends[row])
            place = _place(keys[k + 2], shift)
            while slots[place + 2] != 0:
                place = (place + ENTRY) & last
            slots[place], slots[place + 1] = keys[k], keys[k + 1]
            slots[place + 2] = np.uint64(length) << _HALF | np.uint64(row + 1)


@compiled
def hash_rows(arena: NDArray[np.uint8], ends: NDArray[np.int64], hashes: NDArray[np.uint64]) -> None:
    """Hash the bytes of every row."""
    nowhere = np.empty(ENTRY << 4, np.uint64)
    for block in range(0, len(hashes), _AHEAD):
        stop = min(block + _AHEAD, len(hashes))
        keys = _find_row_keys(arena, ends, block, stop, nowhere)
        for row in range(block, stop):
            hashes[row] = keys[3 * (row - block) + 2]


@compiled
def move_slots(old: NDArray[np.uint64], new: NDArray[np.uint64]) -> None:
    """Enter all that one table holds into another, empty one."""
    shift, last = _shift(new), len(new) - 1
    for entry in range(0, len(old), ENTRY):
        length = as_int(old[entry + 2] >> _HALF)
        if old[entry + 2] != 0:
            h = old[entry] if length > KEY_BYTES else _mix(length, old[entry], old[entry + 1])
            place = _place(h, shift)
            while new[place + 2] != 0:
                place = (place + ENTRY) & last
            for word in range(ENTRY):
                new[place + word] = old[entry + word]


@compiled
def read_counts(slots: NDArray[np.uint64], counts: NDArray[np.int64]) -> None:
    """Write the count of every row."""
    for entry in range(0, len(slots), ENTRY):
        if slots[entry + 2] != 0:
            counts[as_int(slots[entry + 2] & _ROW) - 1] = as_int(slots[entry + 3])
