"""The compiled step: one window's pairs against its word and K shared negatives, in explicit vector code.

Shapes: B pairs, V vocabulary rows, D dimensions; within a window C inputs, M outputs (the word, its negatives, then
ABSENT up to whole tiles).

A step is three small matrix products over the window's rows,

    scores_CM = inputs_CD · outputs_MDᵀ      gradient_CM = rate · (label − σ(scores))
    outputs_MD += gradientᵀ · inputs         inputs_CD += gradient · outputs

in place: `tiles.update` holds outputs and their sums in registers while it changes the inputs, so that every gradient
is taken from the rows as they were before the step. That needs rows that differ: a word which occurs in a window
twice has equal scores, so its gradients are added up and the second row left out.
"""

from __future__ import annotations

import numpy as np

from trainer.engines.kernels.numba.draws import ABSENT
from trainer.engines.kernels.numba.instructions.ids import ID_BYTES, SEEN, place
from trainer.engines.kernels.numba.instructions.tiles import COLUMNS, score, update, update_between
from trainer.engines.kernels.numba.jit import Floats, Ids, Longs, jit
from trainer.engines.kernels.numba.scratch import Addresses, Scratch
from trainer.engines.kernels.numba.shape import Shape

MASKED = np.float32(-1e30)  # σ of a score with this added is 0: no loss
MAX_FACTORS = 60  # of 1 to 2 in a float32; the lanes' product must stay below 2^1024
LN_2 = float(np.log(2))
ZERO, ONE = np.float32(0), np.float32(1)


@jit()
def place_rows(
    shape: Shape, addresses: Longs, ids_N: Ids, start: int, count: int, base: int, row_bytes: int, nowhere: int
) -> bool:
    """Addresses of some rows; tells whether some may be equal or absent."""
    if count <= SEEN and start + SEEN <= ids_N.size:
        ids = ids_N.ctypes.data + ID_BYTES * start
        return place(addresses.ctypes.data, ids, count, base, row_bytes, nowhere)
    for n in range(count):
        row = np.int64(ids_N[start + n])
        addresses[n] = base + row * row_bytes if row != ABSENT else nowhere
    return True


@jit()
def mask_terms(
    scratch: Scratch, start: int, used: int, columns: int, input_ids_B: Ids, begin: int, pairs: int, mask_input: bool,
    bias: np.float32,
) -> None:  # fmt: skip
    """Add a bias to all terms that are none: absent negatives, and those that are a pair's own input word."""
    rows = scratch.gradient.size // -(-used // columns)
    for m in range(1, used):
        row = scratch.ids[start + m]
        for c in range(pairs):
            if row == ABSENT or (mask_input and row == input_ids_B[begin + c]):
                place = m // columns * rows + c * COLUMNS + m % columns
                scratch.bias[place] = bias
                scratch.gradient[place] = ZERO


@jit()
def merge_repeats(scratch: Scratch, used: int, columns: int, pairs: int, nowhere: int) -> int:
    """Add up the gradients of equal rows, then leave all but one of them out; returns how many inputs are left."""
    gradient, tiles = scratch.gradient, -(-used // columns)
    rows = gradient.size // tiles
    for m in range(used):
        for other in range(m + 1, used):
            if scratch.outputs[m] == scratch.outputs[other] and scratch.outputs[m] != nowhere:
                scratch.outputs[other] = nowhere
                to, source = m // columns * rows + m % columns, other // columns * rows + other % columns
                for c in range(pairs):
                    gradient[to + c * COLUMNS] += gradient[source + c * COLUMNS]
                    gradient[source + c * COLUMNS] = ZERO
    c = 0
    while c < pairs:
        other = c + 1
        while other < pairs:
            if scratch.inputs[c] == scratch.inputs[other]:
                pairs -= 1
                scratch.inputs[other] = scratch.inputs[pairs]
                for tile in range(tiles):
                    start = tile * rows
                    for k in range(COLUMNS):
                        gradient[start + c * COLUMNS + k] += gradient[start + other * COLUMNS + k]
                        gradient[start + other * COLUMNS + k] = gradient[start + pairs * COLUMNS + k]
            else:
                other += 1
        c += 1
    return pairs


@jit()
def take_losses(losses: Floats) -> float:
    """Add up what `tiles.score` has left, and clear it; ln 2 is missing for each term.

    A term's loss is log(1 + exp z) = max(z, 0) + ln 2 − log(1 + 2·|σ(z) − ½|). Of the last, the factors' product is
    kept: one logarithm of many is cheap.
    """
    lanes = losses.size // 2
    total, product = 0.0, 1.0
    for lane in range(lanes):
        total += losses[lane]
        product *= np.float64(losses[lanes + lane])
        losses[lane], losses[lanes + lane] = ZERO, ONE
    return total - np.log(product)  # type: ignore[no-any-return]


@jit()
def score_window(
    shape: Shape, scratch: Scratch, at: Addresses, pairs: int, tiles: int, stride: int, rate: np.float32, dim: int,
    factors: int,
) -> tuple[float, int]:  # fmt: skip
    """All scores of a window; returns losses that were taken, and the factors that the others hold by now."""
    loss, more = 0.0, pairs * COLUMNS // shape.lanes + 2
    for tile in range(tiles):
        factors += more
        if factors > MAX_FACTORS:
            loss += take_losses(scratch.losses)
            factors = more
        outputs, signs = at.outputs + tile * shape.outputs * 8, at.signs + tile * 2 * COLUMNS * 4
        bias, gradient = at.bias + tile * stride, at.gradient + tile * stride
        score(shape, at.inputs, pairs, outputs, bias, signs, rate, gradient, at.losses, dim)
    return loss, factors


@jit()
def update_window(shape: Shape, at: Addresses, pairs: int, tiles: int, stride: int, dim: int) -> None:
    """All rows of a window; with several tiles of outputs the inputs' new rows are kept apart until the last one."""
    if tiles == 1:
        update(shape, at.inputs, pairs, at.outputs, at.gradient, dim)
        return
    for tile in range(tiles):
        before = at.inputs if tile == 0 else at.spare_rows
        after = at.inputs if tile == tiles - 1 else at.spare_rows
        outputs, gradient = at.outputs + tile * shape.outputs * 8, at.gradient + tile * stride
        update_between(shape, at.inputs, before, after, pairs, outputs, gradient, dim)
