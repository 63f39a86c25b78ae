"""Neighbouring words as pairs of numbers: counting them, and joining those that are phrases.

A pair of rows (a, b) is the int64 key a << 32 | b. Tables are open-addressing ones of a power of two of slots, at most
half of them full; `keys` holds −1 in an empty slot.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.native.jit import as_int, compiled, inlined

_MIX = np.uint64(0x9E3779B97F4A7C15)
_JOINT = np.uint8(ord("_"))


@inlined
def _slot_of(keys: NDArray[np.int64], key: int) -> int:
    """The slot that holds ``key``, or the empty one where it belongs."""
    shift = np.uint64(64 - as_int(np.log2(len(keys)) + 0.5))
    mask = len(keys) - 1
    slot = as_int((np.uint64(key) * _MIX) >> shift)
    while keys[slot] >= 0 and keys[slot] != key:
        slot = (slot + 1) & mask
    return slot  # type: ignore[no-any-return]


@compiled
def add_pairs(
    pairs: NDArray[np.int64], first: int, keys: NDArray[np.int64], counts: NDArray[np.int64], used: int
) -> tuple[int, int]:
    """Count pairs from number ``first`` on, until all are counted or the table has no room for another one.

    Returns:
        The number of the first pair not counted, and the slots in use.
    """
    for p in range(first, len(pairs)):
        slot = _slot_of(keys, pairs[p])
        if keys[slot] < 0:
            if 2 * used >= len(keys):
                return p, used
            keys[slot], counts[slot], used = pairs[p], 0, used + 1
        counts[slot] += 1
    return len(pairs), used


@compiled
def set_pairs(
    pairs: NDArray[np.int64], values: NDArray[np.int64], keys: NDArray[np.int64], out: NDArray[np.int64]
) -> None:
    """Enter pairs with their values into a table that has room for them; −1 is none."""
    for p in range(len(pairs)):
        if pairs[p] >= 0:
            slot = _slot_of(keys, pairs[p])
            keys[slot], out[slot] = pairs[p], values[p]


@compiled
def join_units(
    ids: NDArray[np.int32],
    firsts: NDArray[np.int32],
    ends: NDArray[np.int32],
    keys: NDArray[np.int64],
    joined: NDArray[np.int64],
) -> int:
    """Join neighbours of a sentence that are a phrase, from left to right, in place (the twin of join_sentence).

    Args:
        ids: of each unit, a token or several joined ones; −1 for those that are in no phrase.
        firsts: number of each unit's first token.
        ends: one past each sentence's last unit.
        keys: table of the phrases' pairs of ids.
        joined: by slot, the id of the two as one.

    Returns:
        How many units are left.
    """
    read, filled = 0, 0
    for s in range(len(ends)):
        stop = ends[s]
        while read < stop:
            word, first = as_int(ids[read]), firsts[read]
            read += 1
            if word >= 0 and read < stop and ids[read] >= 0:
                slot = _slot_of(keys, word << 32 | as_int(ids[read]))
                if keys[slot] >= 0:
                    word = joined[slot]
                    read += 1
            ids[filled], firsts[filled] = word, first
            filled += 1
        ends[s] = filled
    return filled


@compiled
def write_units(
    text: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    firsts: NDArray[np.int32],
    used: int,
    out_starts: NDArray[np.int32],
    out_lengths: NDArray[np.int32],
) -> int:
    """Write the span of every unit; units of several tokens are copied after the text, with ``_`` between them.

    Args:
        text: with room after its ``used`` bytes.
        starts: first byte of each token.
        lengths: bytes of each token.
        firsts: number of each unit's first token, and at the end the number of tokens.
        used: bytes of text there are.
        out_starts: output.
        out_lengths: output.

    Returns:
        Bytes of text there are now.
    """
    for u in range(len(out_starts)):
        first, stop = firsts[u], firsts[u + 1]
        out_starts[u], out_lengths[u] = starts[first], lengths[first]
        if stop > first + 1:
            out_starts[u] = used
            for t in range(first, stop):
                if t > first:
                    text[used] = _JOINT
                    used += 1
                for i in range(lengths[t]):
                    text[used + i] = text[starts[t] + i]
                used += lengths[t]
            out_lengths[u] = used - out_starts[u]
    return used
