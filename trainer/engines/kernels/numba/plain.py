"""The compiled step as plain loops: what `window` does, to read, to test it against and to measure it by.

Shapes: B pairs, V vocabulary rows, D dimensions; within a window C inputs, M outputs (its word and the negatives).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trainer.engines.kernels.numba.draws import ABSENT, POOL_STREAM, draw_outputs, fill_pool, mix, roll_pool
from trainer.engines.kernels.numba.jit import REORDER, Excluded, Floats, Ids, Longs, Rates, Words, jit, source_digest

ZERO, ONE = np.float32(0), np.float32(1)


@jit(REORDER)
def dot(a_D: Floats, b_D: Floats) -> np.float32:
    total = ZERO
    for d in range(a_D.size):
        total += a_D[d] * b_D[d]
    return total


@jit(REORDER)
def add_scaled(target_D: Floats, factor: np.float32, source_D: Floats) -> None:
    """Target += factor·source."""
    for d in range(target_D.size):
        target_D[d] += factor * source_D[d]


@jit()
def window_end(output_ids_B: Ids, start: int, stop: int, longest: int) -> int:
    """Where the run of equal outputs ends that begins at a pair."""
    end = start + 1
    while end < min(stop, start + longest) and output_ids_B[end] == output_ids_B[start]:
        end += 1
    return end


@jit(allocates=True)
def train_window(
    input_ids_C: Ids, output_ids_M: Ids, tables: tuple[Floats, Floats], dim: int, mask_input: bool, rate: np.float32
) -> float:
    """One step, every gradient from the rows as they were before; returns the summed loss."""
    input_VD, output_VD = tables
    loss = 0.0
    changes_CD = np.zeros((input_ids_C.size, dim), np.float32)
    changes_MD = np.zeros((output_ids_M.size, dim), np.float32)
    for c in range(input_ids_C.size):
        for m in range(output_ids_M.size):
            word = output_ids_M[m]
            if word == ABSENT or (m > 0 and mask_input and word == input_ids_C[c]):
                continue
            input_D, output_D = input_VD[input_ids_C[c], :dim], output_VD[word, :dim]
            label = ONE if m == 0 else ZERO
            score = dot(input_D, output_D)
            signed = -score if m == 0 else score
            loss += max(signed, ZERO) + np.log1p(np.exp(-abs(signed)))  # −log σ(±score)
            gradient = rate * (label - ONE / (ONE + np.exp(-score)))
            add_scaled(changes_CD[c], gradient, output_D)
            add_scaled(changes_MD[m], gradient, input_D)
    for c in range(input_ids_C.size):
        add_scaled(input_VD[input_ids_C[c], :dim], ONE, changes_CD[c])
    for m in range(output_ids_M.size):
        if output_ids_M[m] != ABSENT:
            add_scaled(output_VD[output_ids_M[m], :dim], ONE, changes_MD[m])
    return loss


def _compiled(sources: int) -> Callable[..., float]:
    @jit(allocates=True, cache=True)
    def train_segments(
        output_ids_B: Ids, input_ids_B: Ids, cuts: Longs, first: int, last: int, tables: tuple[Floats, Floats, int],
        alias: Words, negatives: int, longest: int, exclude: Excluded, rates: Rates, key: np.uint64, pool_rows: int,
    ) -> float:  # fmt: skip
        """See window.train_segments: the same draws, the same steps. `tables` are (input_VD, output_VD, D)."""
        loss = 0.0 * sources  # named here so that the cache's key holds it: see jit.source_digest
        input_VD, output_VD, dim = tables
        redraw_output, redraw_input, mask_input = exclude
        pool, output_ids_M = np.zeros(pool_rows, np.int64), np.zeros(negatives + 1, np.int32)
        for segment in range(first, last):
            state = mix(mix(key) + np.uint64(segment))
            pool_state = mix(state ^ POOL_STREAM)
            turn = fill_pool(pool, pool_state, alias)
            begin = cuts[segment]
            while begin < cuts[segment + 1]:
                end = window_end(output_ids_B, begin, cuts[segment + 1], longest)
                if pool_rows:
                    roll_pool(pool, turn, pool_state, alias)
                    turn += 1
                word, other = np.int64(output_ids_B[begin]), np.int64(input_ids_B[begin])
                state = draw_outputs(
                    output_ids_M, 0, state, alias, pool, negatives, word, word if redraw_output else ABSENT,
                    other if redraw_input else ABSENT,
                )  # fmt: skip
                rate = np.float32(rates[0] + rates[1] * begin)
                loss += train_window(input_ids_B[begin:end], output_ids_M, (input_VD, output_VD), dim, mask_input, rate)
                begin = end
        return loss

    return train_segments


train_segments = _compiled(source_digest())
