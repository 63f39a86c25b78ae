"""The compiled steps as plain loops: what `skipgram` and `cbow` do, to read, to test them against, to measure them by.

Shapes: B pairs, V vocabulary rows, D dimensions; within a window C inputs, M outputs (its word and the negatives).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trainer.engines.kernels.numba.draws import ABSENT, POOL_STREAM, draw_outputs, fill_pool, mix, roll_pool
from trainer.engines.kernels.numba.jit import REORDER, Floats, Ids, Longs, Rates, Step, Words, jit, source_digest

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


@jit(allocates=True)
def train_mean(
    input_ids_C: Ids, output_ids_M: Ids, tables: tuple[Floats, Floats], dim: int, mean: bool, rate: np.float32
) -> float:
    """One step of CBOW; returns its loss."""
    input_VD, output_VD = tables
    factor = ONE / np.float32(input_ids_C.size) if mean else ONE
    row_D, change_D = np.zeros(dim, np.float32), np.zeros(dim, np.float32)
    for c in range(input_ids_C.size):
        add_scaled(row_D, factor, input_VD[input_ids_C[c], :dim])
    loss, gradient_M = 0.0, np.zeros(output_ids_M.size, np.float32)
    for m in range(output_ids_M.size):
        if output_ids_M[m] != ABSENT:
            score = dot(row_D, output_VD[output_ids_M[m], :dim])
            signed = -score if m == 0 else score
            loss += max(signed, ZERO) + np.log1p(np.exp(-abs(signed)))  # −log σ(±score)
            gradient_M[m] = rate * ((ONE if m == 0 else ZERO) - ONE / (ONE + np.exp(-score)))
            add_scaled(change_D, gradient_M[m], output_VD[output_ids_M[m], :dim])
    for m in range(output_ids_M.size):
        if output_ids_M[m] != ABSENT:
            add_scaled(output_VD[output_ids_M[m], :dim], gradient_M[m], row_D)
    for c in range(input_ids_C.size):
        add_scaled(input_VD[input_ids_C[c], :dim], factor, change_D)
    return loss


def _compiled(sources: int) -> Callable[..., float]:
    @jit(allocates=True, cache=True)
    def train_segments(
        output_ids_B: Ids, input_ids_B: Ids, cuts: Longs, first: int, last: int, tables: tuple[Floats, Floats, int],
        alias: Words, step: Step, rates: Rates, key: np.uint64, pool_rows: int, cbow: bool,
    ) -> float:  # fmt: skip
        """See skipgram.train_segments: the same draws, the same steps. `tables` are (input_VD, output_VD, D)."""
        loss = 0.0 * sources  # named here so that the cache's key holds it: see jit.source_digest
        input_VD, output_VD, dim = tables
        pool, output_ids_M = np.zeros(pool_rows, np.int64), np.zeros(step.negatives + 1, np.int32)
        for segment in range(first, last):
            state = mix(mix(key) + np.uint64(segment))
            pool_state = mix(state ^ POOL_STREAM)
            turn = fill_pool(pool, pool_state, alias)
            begin, stop = cuts[segment], cuts[segment + 1]
            windows, segment_loss = 0, 0.0
            while begin < stop:
                end = window_end(output_ids_B, begin, stop, step.longest)
                if pool_rows:
                    roll_pool(pool, turn, pool_state, alias)
                    turn += 1
                word, other = np.int64(output_ids_B[begin]), np.int64(input_ids_B[begin])
                state = draw_outputs(
                    output_ids_M, 0, state, alias, pool, step.negatives, word, word if step.redraw_output else ABSENT,
                    other if step.redraw_input else ABSENT,
                )  # fmt: skip
                rate, inputs = np.float32(rates[0] + rates[1] * begin), input_ids_B[begin:end]
                if cbow:
                    segment_loss += train_mean(inputs, output_ids_M, (input_VD, output_VD), dim, step.mean, rate)
                else:
                    loss += train_window(inputs, output_ids_M, (input_VD, output_VD), dim, step.mask_input, rate)
                begin, windows = end, windows + 1
            loss += segment_loss * (stop - cuts[segment]) / max(windows, 1)
        return loss

    return train_segments


train_segments = _compiled(source_digest())
