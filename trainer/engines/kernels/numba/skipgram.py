"""Skip-gram: each input of a window against its word and K negatives, one window after the other.

Shapes: B pairs, V vocabulary rows, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trainer.engines.kernels.numba.draws import POOL_STREAM, draw_pooled, fill_pool, mix
from trainer.engines.kernels.numba.jit import Ids, Longs, Rates, Step, Where, Words, jit, source_digest
from trainer.engines.kernels.numba.scratch import Scratch, addresses
from trainer.engines.kernels.numba.shape import Shape
from trainer.engines.kernels.numba.step import (
    LN_2,
    MASKED,
    ZERO,
    mask_terms,
    merge_repeats,
    place_rows,
    score_window,
    take_losses,
    update_window,
)
from trainer.engines.kernels.numba.walk import fetch_inputs, fetch_row, look_ahead, tile_end


@jit(inline=True)
def train_segment(
    shape: Shape, output_ids_B: Ids, input_ids_B: Ids, start: int, stop: int, tables: Where, alias: Words, step: Step,
    rates: Rates, state: np.uint64, scratch: Scratch,
) -> float:  # fmt: skip
    """Train pairs start … stop − 1 one window after the other; returns their summed loss.

    `output_ids_B` are the words predicted; a run of equal ones, cut after `step.longest` pairs, is a window. `state` is
    the generator's.

    The loop must count no references to arrays: an atomic instruction waits for all stores before it. So it has no
    slices, swaps no arrays, and hands out addresses.
    """
    input_base, output_base, row_bytes, dim = tables
    used = step.negatives + 1
    columns = shape.outputs
    tiles = -(-used // columns)
    stride = scratch.gradient.size // tiles * 4
    at = addresses(scratch)
    nowhere = scratch.spare.ctypes.data
    pooled = scratch.pool.size > 0
    pool_state = mix(state ^ POOL_STREAM)
    turn = fill_pool(scratch.pool, pool_state, alias)
    # Numba compiles what a literal is passed to once for the literal, and once more for other values.
    factors: int = np.int64(0)  # type: ignore[assignment]
    now: int = np.int64(0)  # type: ignore[assignment]
    reach: int = np.int64(0)  # type: ignore[assignment]
    loss, terms, following = 0.0, 0, scratch.ids.size // 2
    begin = end = start
    next_end = tile_end(output_ids_B, start, stop, step.longest)
    while begin < stop:
        after_end, turn, state = look_ahead(
            output_ids_B, input_ids_B, end, next_end, stop, step, scratch, following, turn, state, pool_state, alias,
            output_base, row_bytes,
        )  # fmt: skip
        if begin < end:
            pairs = end - begin
            repeated = place_rows(
                shape, scratch.inputs, input_ids_B, begin, pairs, input_base, row_bytes, nowhere
            ) | place_rows(shape, scratch.outputs, scratch.ids, now, used, output_base, row_bytes, nowhere)
            terms += pairs * used
            rate = np.float32(rates[0] + rates[1] * begin)
            masked = step.mask_input or repeated
            if masked:
                mask_terms(scratch, now, used, columns, input_ids_B, begin, pairs, step.mask_input, MASKED)
            taken, factors = score_window(shape, scratch, at, pairs, tiles, stride, rate, dim, factors)
            loss += taken
            if pooled:
                fetch_row(output_base, draw_pooled(turn, pool_state, alias), row_bytes)
            reach = fetch_inputs(input_ids_B, next_end, after_end, reach, input_base, row_bytes)
            if masked:
                mask_terms(scratch, now, used, columns, input_ids_B, begin, pairs, step.mask_input, ZERO)
            if repeated:
                pairs = merge_repeats(scratch, used, columns, pairs, nowhere)
            update_window(shape, at, pairs, tiles, stride, dim)
        begin, end, next_end = end, next_end, after_end
        now, following = following, now
    return loss + take_losses(scratch.losses) + terms * LN_2


def _compiled(sources: int) -> Callable[..., float]:
    @jit(cache=True)
    def train_segments(
        shape: Shape, output_ids_B: Ids, input_ids_B: Ids, cuts: Longs, first: int, last: int, tables: Where,
        alias: Words, step: Step, rates: Rates, key: np.uint64, scratch: Scratch,
    ) -> float:  # fmt: skip
        """Train whole segments first … last − 1; a segment's draws depend on the key and its number alone."""
        loss = 0.0 * sources  # named here so that the cache's key holds it: see jit.source_digest
        for segment in range(first, last):
            state = mix(mix(key) + np.uint64(segment))
            loss += train_segment(
                shape, output_ids_B, input_ids_B, cuts[segment], cuts[segment + 1], tables, alias, step, rates, state,
                scratch,
            )  # fmt: skip
        return loss

    return train_segments


train_segments = _compiled(source_digest())
