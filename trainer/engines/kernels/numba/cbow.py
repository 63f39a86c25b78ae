"""CBOW: the mean (or sum) of a window's inputs against its word and K negatives, one window after the other.

    h_D = factor · Σ inputs      gradient_M = rate · (label − σ(outputs · h))
    outputs_MD += gradient_M · h      each input += factor · Σ gradient_M · outputs

The inputs move by the gradient of the loss, factor 1/C for a mean of C rows (İrsoy, Benton and Stratos, "Corrected CBOW
Performs as well as Skip-gram", 2021); word2vec.c leaves the factor out there, gensim puts it in for the sum alone.

Shapes: B pairs, V vocabulary rows, D dimensions; within a window C inputs, M outputs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trainer.engines.kernels.numba.draws import POOL_STREAM, draw_pooled, fill_pool, mix
from trainer.engines.kernels.numba.instructions.rows import add_to_rows, sum_rows, update_outputs
from trainer.engines.kernels.numba.jit import Ids, Longs, Rates, Step, Where, Words, jit, source_digest
from trainer.engines.kernels.numba.scratch import Addresses, Scratch, addresses
from trainer.engines.kernels.numba.shape import Shape
from trainer.engines.kernels.numba.step import (
    LN_2,
    MASKED,
    ONE,
    ZERO,
    mask_terms,
    merge_repeats,
    place_rows,
    score_window,
    take_losses,
)
from trainer.engines.kernels.numba.walk import fetch_inputs, fetch_row, look_ahead, tile_end

ADDRESS_BYTES = 8


@jit(inline=True)
def train_segment(
    shape: Shape, output_ids_B: Ids, input_ids_B: Ids, start: int, stop: int, tables: Where, alias: Words, step: Step,
    rates: Rates, state: np.uint64, scratch: Scratch,
) -> float:  # fmt: skip
    """Train the windows of pairs start … stop − 1, see skipgram; returns their mean loss times the pairs."""
    input_base, output_base, row_bytes, dim = tables
    used, columns = step.negatives + 1, shape.outputs
    tiles = -(-used // columns)
    stride = scratch.gradient.size // tiles * 4
    # A window's input row and its change are spare rows; the first of all is zero.
    own, row, nowhere = addresses(scratch), scratch.spare_rows[0], scratch.spare.ctypes.data
    change_row = scratch.spare_rows[1]
    at = Addresses(own.spare_rows, own.outputs, own.gradient, own.bias, own.signs, own.losses, own.spare_rows)
    pooled = scratch.pool.size > 0
    pool_state = mix(state ^ POOL_STREAM)
    turn = fill_pool(scratch.pool, pool_state, alias)
    # Numba compiles what a literal is passed to once for the literal, and once more for other values.
    factors: int = np.int64(0)  # type: ignore[assignment]
    now: int = np.int64(0)  # type: ignore[assignment]
    reach: int = np.int64(0)  # type: ignore[assignment]
    loss, windows, following = 0.0, 0, scratch.ids.size // 2
    begin = end = start
    count, factor, repeated = 0, ONE, False
    next_end = tile_end(output_ids_B, start, stop, step.longest)
    while begin < stop:
        scored = begin < end
        if scored:
            count = end - begin
            place_rows(shape, scratch.inputs, input_ids_B, begin, count, input_base, row_bytes, nowhere)
            repeated = place_rows(shape, scratch.outputs, scratch.ids, now, used, output_base, row_bytes, nowhere)
            factor = ONE / np.float32(count) if step.mean else ONE
            sum_rows(shape, own.inputs, count, factor, row, dim)
            windows += 1
            rate = np.float32(rates[0] + rates[1] * begin)
            if repeated:
                mask_terms(scratch, now, used, columns, input_ids_B, begin, 1, False, MASKED)
            taken, factors = score_window(shape, scratch, at, 1, tiles, stride, rate, dim, factors)
            loss += taken
        after_end, turn, state = look_ahead(
            output_ids_B, input_ids_B, end, next_end, stop, step, scratch, following, turn, state, pool_state, alias,
            output_base, row_bytes,
        )  # fmt: skip
        if scored:
            if pooled:
                fetch_row(output_base, draw_pooled(turn, pool_state, alias), row_bytes)
            reach = fetch_inputs(input_ids_B, next_end, after_end, reach, input_base, row_bytes)
            if repeated:
                mask_terms(scratch, now, used, columns, input_ids_B, begin, 1, False, ZERO)
                merge_repeats(scratch, used, columns, 1, nowhere)
            for tile in range(tiles):
                outputs, gradient = own.outputs + tile * columns * ADDRESS_BYTES, own.gradient + tile * stride
                update_outputs(shape, row, outputs, gradient, change_row if tile else nowhere, change_row, dim)
            add_to_rows(shape, own.inputs, count, factor, change_row, dim)
        begin, end, next_end = end, next_end, after_end
        now, following = following, now
    loss += take_losses(scratch.losses) + windows * used * LN_2
    return loss * (stop - start) / max(windows, 1)


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
