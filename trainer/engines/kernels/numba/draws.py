"""Negatives inside compiled code: drawn one by one, or taken from a rolling pool."""

from __future__ import annotations

import numpy as np

from trainer.engines.kernels.numba.jit import Id, Ids, Longs, Words, jit, prefetch

ABSENT = -1  # in place of an id: no row, no loss, no gradient
MAX_REDRAWS = 64
POOL_ROWS = 64  # their rows stay in a core's nearest cache

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
LOW_31 = np.uint64(0x7FFFFFFF)
POOL_STREAM = np.uint64(0x706F6F6C)  # sets the pool's draws apart from a segment's others
COLUMN_BYTES = 8
SHIFT_30, SHIFT_27, SHIFT_31, SHIFT_32 = (np.uint64(bits) for bits in (30, 27, 31, 32))


@jit()
def mix(word: np.uint64) -> np.uint64:
    """Scramble a uint64 (the finaliser of SplitMix64: Steele, Lea, Flood, OOPSLA 2014)."""
    word = (word ^ (word >> SHIFT_30)) * MIX_1
    word = (word ^ (word >> SHIFT_27)) * MIX_2
    return word ^ (word >> SHIFT_31)


@jit()
def choose(word: np.uint64, alias: Words) -> Id:
    """The id that a random uint64 selects."""
    column = np.int64(((word >> SHIFT_32) * np.uint64(alias.size // 2)) >> SHIFT_32)
    threshold, other = alias[2 * column], np.int64(alias[2 * column + 1])  # both, so that no branch is guessed
    return column if np.uint32(word) < threshold else other


@jit()
def fetch_column(word: np.uint64, alias: Words) -> None:
    """Prefetch what `choose` will look at."""
    column = np.int64(((word >> SHIFT_32) * np.uint64(alias.size // 2)) >> SHIFT_32)
    prefetch(alias.ctypes.data + COLUMN_BYTES * column)


@jit()
def draw(state: np.uint64, alias: Words, excluded_1: Id, excluded_2: Id) -> tuple[np.uint64, Id]:
    """One negative; returns (state, id). Excluded words are drawn again, ABSENT after MAX_REDRAWS of them."""
    for _ in range(MAX_REDRAWS):
        state += GOLDEN
        chosen = choose(mix(state), alias)
        if chosen not in (excluded_1, excluded_2):
            return state, chosen
    return state, np.int64(ABSENT)


@jit()
def draw_pooled(turn: int, state: np.uint64, alias: Words) -> Id:
    """The pool's draw of a number: being numbered, draws can be looked at before their turn."""
    return choose(mix(state + np.uint64(turn) * GOLDEN), alias)


@jit()
def roll_pool(pool: Longs, turn: int, state: np.uint64, alias: Words) -> None:
    """Replace the pool's oldest id by a fresh draw. The next one is looked at soon, so the one after is prefetched."""
    pool[turn & (pool.size - 1)] = draw_pooled(turn, state, alias)
    fetch_column(mix(state + np.uint64(turn + 2) * GOLDEN), alias)


@jit()
def fill_pool(pool: Longs, state: np.uint64, alias: Words) -> int:
    """Draw all of a pool; returns the number of the next draw."""
    for turn in range(pool.size):
        roll_pool(pool, turn, state, alias)
    return pool.size


@jit()
def draw_outputs(
    ids: Ids, start: int, state: np.uint64, alias: Words, pool: Longs, negatives: int, word: Id, excluded_1: Id,
    excluded_2: Id,
) -> np.uint64:  # fmt: skip
    """Fill in a window's output ids from a start on, its word and the negatives; returns the generator's new state.

    From a pool (its size a power of two of at least K) they come from K different slots; a slot that holds an
    excluded word gives way to a fresh draw for this once, so that frequencies are those of single draws.
    """
    ids[start] = word
    if pool.size == 0:
        for k in range(1, negatives + 1):
            state, ids[start + k] = draw(state, alias, excluded_1, excluded_2)
        for k in range(1, negatives + 1):  # those of the window after, if none is drawn again
            fetch_column(mix(state + np.uint64(k) * GOLDEN), alias)
        return state
    state += GOLDEN
    random = mix(state)
    slot, step = np.int64(random >> SHIFT_32), np.int64(random & LOW_31) | 1
    for k in range(1, negatives + 1):
        chosen: Id = np.int64(pool[(slot + k * step) & (pool.size - 1)])
        if chosen in (excluded_1, excluded_2):
            state, chosen = draw(state, alias, excluded_1, excluded_2)
        ids[start + k] = chosen
    return state
