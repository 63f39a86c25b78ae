"""The compiled step: one window's pairs against its word and K shared negatives.

Shapes: B pairs, V vocabulary rows, D dimensions; within a window C inputs (rounded up to pairs of rows), M outputs
(the word, its negatives, then ABSENT up to a multiple of OUTPUT_TILE), P dimensions of a local row (D rounded up to
whole vectors, the rest zero).

A step is three small matrix products over local copies of the window's rows,

    scores_CM = inputs_CP · outputs_MPᵀ     gradient_CM = rate · (label − σ(scores))
    output_change_MP = gradientᵀ · inputs    input_change = gradient · outputs

so every gradient is taken from the rows as they were before the step, also where a word stands in it twice.

All of the step is one file because Numba's cache does not see changes to functions of another one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from trainer.kernels.jit import IN_ORDER, REORDER, jit, prefetch
from trainer.kernels.simd import LANES, load, multiply_add, splat, store, total

ABSENT = -1  # in place of an output's id: no row, no loss, no gradient
ABSENT_SCORE = np.float32(-1e30)  # σ of it is 0: neither loss nor gradient
OUTPUT_TILE = 6
VECTOR = 16  # floats: a multiple of any register's LANES
LINE_BYTES = 64
MAX_PREFETCH_LINES = 8  # more of a row is late anyway, and fills the buffers
MAX_REDRAWS = 64
MAX_FACTORS, MAX_PRODUCT = 896, 1e18  # each factor is at most 2: 2^896·1e18 is below 1e308

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
SHIFT_30, SHIFT_27, SHIFT_31, SHIFT_32 = (np.uint64(bits) for bits in (30, 27, 31, 32))

ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
LOG2_E = np.float32(1.4426950408889634)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)  # their sum is ln 2 (Cody and Waite)
LOWEST_EXPONENT = np.float32(-87)
EXPONENT_BIAS, MANTISSA_BITS = np.int32(127), np.int32(23)
# exp(x) = 1 + x + x²·(…) on ±ln 2 / 2; coefficients of Cephes' expf.
EXP_0, EXP_1, EXP_2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
EXP_3, EXP_4, EXP_5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)


@jit()
def mix(word: Any) -> Any:
    """Scramble a uint64 (the finaliser of SplitMix64: Steele, Lea, Flood, OOPSLA 2014)."""
    word = (word ^ (word >> SHIFT_30)) * MIX_1
    word = (word ^ (word >> SHIFT_27)) * MIX_2
    return word ^ (word >> SHIFT_31)


@jit()
def draw(state: Any, alias: Any, excluded_1: int, excluded_2: int) -> Any:
    """One negative; returns (state, id). Excluded words are drawn again, ABSENT after MAX_REDRAWS of them."""
    rows = np.uint64(alias.size // 2)
    for _ in range(MAX_REDRAWS):
        state += GOLDEN
        word = mix(state)
        column = np.int64(((word >> SHIFT_32) * rows) >> SHIFT_32)
        threshold, other = alias[2 * column], np.int64(alias[2 * column + 1])  # both, so that no branch is guessed
        chosen = column if np.uint32(word) < threshold else other
        if chosen not in (excluded_1, excluded_2):
            return state, chosen
    return state, np.int64(ABSENT)


@jit(IN_ORDER)
def exp_of_negative(x: Any) -> Any:
    """The exponential of x ≤ 0 in float32, without a branch; relative error below 2e-7, 0 below −87; NaN stays NaN."""
    clipped = LOWEST_EXPONENT if x < LOWEST_EXPONENT else x
    power = np.int32(clipped * LOG2_E - HALF)
    rest = clipped - np.float32(power) * LN2_HIGH
    rest = rest - np.float32(power) * LN2_LOW
    tail = ((((EXP_0 * rest + EXP_1) * rest + EXP_2) * rest + EXP_3) * rest + EXP_4) * rest + EXP_5
    scale = np.int32((power + EXPONENT_BIAS) << MANTISSA_BITS).view(np.float32)
    value = (ONE + (rest + rest * rest * tail)) * scale
    return ZERO if x < LOWEST_EXPONENT else value


@jit()
def multiply_scores(inputs_CP: Any, outputs_MP: Any, scores_CM: Any, pairs: int) -> None:
    """Inner products, two inputs by six outputs at a time so that twelve sums stay in registers.

    After an odd last pair comes a row of no meaning.
    """
    for m in range(0, outputs_MP.shape[0], OUTPUT_TILE):
        for c in range(0, pairs, 2):
            a0 = a1 = a2 = a3 = a4 = a5 = b0 = b1 = b2 = b3 = b4 = b5 = splat(ZERO)
            for d in range(0, outputs_MP.shape[1], LANES):
                a, b = load(inputs_CP, c, d), load(inputs_CP, c + 1, d)
                o = load(outputs_MP, m, d)
                a0, b0 = multiply_add(a, o, a0), multiply_add(b, o, b0)
                o = load(outputs_MP, m + 1, d)
                a1, b1 = multiply_add(a, o, a1), multiply_add(b, o, b1)
                o = load(outputs_MP, m + 2, d)
                a2, b2 = multiply_add(a, o, a2), multiply_add(b, o, b2)
                o = load(outputs_MP, m + 3, d)
                a3, b3 = multiply_add(a, o, a3), multiply_add(b, o, b3)
                o = load(outputs_MP, m + 4, d)
                a4, b4 = multiply_add(a, o, a4), multiply_add(b, o, b4)
                o = load(outputs_MP, m + 5, d)
                a5, b5 = multiply_add(a, o, a5), multiply_add(b, o, b5)
            scores_CM[c, m], scores_CM[c, m + 1], scores_CM[c, m + 2] = total(a0), total(a1), total(a2)
            scores_CM[c, m + 3], scores_CM[c, m + 4], scores_CM[c, m + 5] = total(a3), total(a4), total(a5)
            scores_CM[c + 1, m], scores_CM[c + 1, m + 1], scores_CM[c + 1, m + 2] = total(b0), total(b1), total(b2)
            scores_CM[c + 1, m + 3], scores_CM[c + 1, m + 4], scores_CM[c + 1, m + 5] = total(b3), total(b4), total(b5)


@jit()
def multiply_changes(
    inputs_CP: Any, outputs_MP: Any, gradient_CM: Any, input_change_CP: Any, output_change_MP: Any, pairs: int
) -> None:
    """Both changes in one walk: six outputs and their sums stay in registers while the inputs stream by."""
    for m in range(0, outputs_MP.shape[0], OUTPUT_TILE):
        for d in range(0, outputs_MP.shape[1], LANES):
            o0, o1, o2 = load(outputs_MP, m, d), load(outputs_MP, m + 1, d), load(outputs_MP, m + 2, d)
            o3, o4, o5 = load(outputs_MP, m + 3, d), load(outputs_MP, m + 4, d), load(outputs_MP, m + 5, d)
            s0 = s1 = s2 = s3 = s4 = s5 = splat(ZERO)
            for c in range(pairs):
                x = load(inputs_CP, c, d)
                change = splat(ZERO) if m == 0 else load(input_change_CP, c, d)
                g = splat(gradient_CM[c, m])
                change, s0 = multiply_add(g, o0, change), multiply_add(g, x, s0)
                g = splat(gradient_CM[c, m + 1])
                change, s1 = multiply_add(g, o1, change), multiply_add(g, x, s1)
                g = splat(gradient_CM[c, m + 2])
                change, s2 = multiply_add(g, o2, change), multiply_add(g, x, s2)
                g = splat(gradient_CM[c, m + 3])
                change, s3 = multiply_add(g, o3, change), multiply_add(g, x, s3)
                g = splat(gradient_CM[c, m + 4])
                change, s4 = multiply_add(g, o4, change), multiply_add(g, x, s4)
                g = splat(gradient_CM[c, m + 5])
                change, s5 = multiply_add(g, o5, change), multiply_add(g, x, s5)
                store(input_change_CP, c, d, change)
            store(output_change_MP, m, d, s0)
            store(output_change_MP, m + 1, d, s1)
            store(output_change_MP, m + 2, d, s2)
            store(output_change_MP, m + 3, d, s3)
            store(output_change_MP, m + 4, d, s4)
            store(output_change_MP, m + 5, d, s5)


@jit(REORDER)
def negative_gradient(scores_N: Any, rate: Any) -> Any:
    """Turn scores into −rate·σ(score) in place; returns (Σ max(score, 0), Π (1 + exp −|score|))."""
    positive = ZERO
    product = 1.0
    for n in range(scores_N.size):
        score = scores_N[n]
        e = exp_of_negative(-abs(score))
        inverse = ONE / (ONE + e)
        positive += max(score, ZERO)  # a select here would keep LLVM from vectorising
        product *= np.float64(ONE + e)
        scores_N[n] = -rate * (inverse if score > ZERO else e * inverse)
    return positive, product


@jit()
def fetch_row(base: int, row: int, row_bytes: int) -> None:
    address = base + row * row_bytes
    for offset in range(0, min(row_bytes, MAX_PREFETCH_LINES * LINE_BYTES), LINE_BYTES):
        prefetch(address + offset)


@jit()
def tile_end(output_ids_B: Any, start: int, stop: int, longest: int) -> int:
    end, last = start + 1, min(stop, start + longest)
    while end < last and output_ids_B[end] == output_ids_B[start]:
        end += 1
    return end


@jit()
def cut_segments(output_ids_B: Any, segment_pairs: int, longest: int) -> Any:
    """First pairs of the segments, and B at the end: every segment_pairs, moved on to where a run starts.

    A run that goes on for longer than a tile is cut where it stands.
    """
    pairs = output_ids_B.size
    cuts = np.empty(-(-pairs // segment_pairs) + 1, np.int64)
    cuts[0], cuts[-1] = 0, pairs
    for segment in range(1, cuts.size - 1):
        cut = segment * segment_pairs
        cuts[segment] = cut
        for pair in range(cut, min(cut + longest, pairs)):
            if output_ids_B[pair] != output_ids_B[pair - 1]:
                cuts[segment] = pair
                break
    return cuts


@jit()
def draw_outputs(ids_M: Any, state: Any, alias: Any, negatives: int, word: Any, other: Any, redraw: Any) -> Any:
    """Fill in a tile's output ids; returns the new state of the generator."""
    redraw_output, redraw_input = redraw
    excluded_1 = word if redraw_output else ABSENT
    excluded_2 = other if redraw_input else ABSENT
    ids_M[0] = word
    for k in range(1, negatives + 1):
        state, ids_M[k] = draw(state, alias, excluded_1, excluded_2)
    return state


@jit()
def fetch_rows(ids_M: Any, output_base: int, input_base: int, newest_input: Any, row_bytes: int) -> None:
    """Prefetch a tile's output rows and the one input row that the tile before it did not have."""
    for m in range(ids_M.size):
        if ids_M[m] != ABSENT:
            fetch_row(output_base, ids_M[m], row_bytes)
    fetch_row(input_base, newest_input, row_bytes)


@jit()
def load_inputs(input_VD: Any, ids_B: Any, begin: int, end: int, inputs_CP: Any) -> None:
    for c in range(end - begin):
        row = ids_B[begin + c]
        for d in range(input_VD.shape[1]):
            inputs_CP[c, d] = input_VD[row, d]


@jit()
def load_outputs(output_VD: Any, ids_M: Any, outputs_MP: Any) -> None:
    for m in range(ids_M.size):
        row = ids_M[m]  # read once: a store in the inner loop might change it, as far as LLVM knows
        if row == ABSENT:
            for d in range(outputs_MP.shape[1]):
                outputs_MP[m, d] = ZERO
        else:
            for d in range(output_VD.shape[1]):
                outputs_MP[m, d] = output_VD[row, d]


@jit()
def store_inputs(input_VD: Any, ids_B: Any, begin: int, end: int, change_CP: Any) -> None:
    """Add row after row, so that a word which stands twice in the tile gets both changes."""
    for c in range(end - begin):
        row = ids_B[begin + c]
        for d in range(input_VD.shape[1]):
            input_VD[row, d] += change_CP[c, d]


@jit()
def store_outputs(output_VD: Any, ids_M: Any, change_MP: Any) -> None:
    for m in range(ids_M.size):
        row = ids_M[m]
        if row != ABSENT:
            for d in range(output_VD.shape[1]):
                output_VD[row, d] += change_MP[m, d]


@jit()
def mask_scores(scores_CM: Any, ids_M: Any, input_ids_B: Any, begin: int, end: int, mask_input: bool) -> None:
    """Take out what is no term of the loss: padding, absent negatives and those equal to a pair's input word."""
    for m in range(1, ids_M.size):
        if ids_M[m] == ABSENT:
            for c in range(end - begin):
                scores_CM[c, m] = ABSENT_SCORE
    if mask_input:
        for c in range(end - begin):
            for m in range(1, ids_M.size):
                if ids_M[m] == input_ids_B[begin + c]:
                    scores_CM[c, m] = ABSENT_SCORE


@jit()
def scores_to_gradient(scores_CM: Any, scores_N: Any, pairs: int, rate: Any, product: float) -> Any:
    """In place, rate·(label − σ(score)); `scores_N` are the same numbers as one row.

    Returns the loss of the tile but for the logarithm of `product`: the factors whose logarithms are still to be
    added, carried on from tile to tile because one logarithm of many terms' product is cheap and many are not.
    """
    loss = 0.0
    for c in range(pairs):  # −log σ(s) = −log σ(−s) − s: the first column's label is 1
        loss -= scores_CM[c, 0]
    terms = pairs * scores_CM.shape[1]
    whole = -(-terms // VECTOR) * VECTOR  # whole vectors: a remainder would be worked off number by number
    for n in range(terms, whole):
        scores_N[n] = ABSENT_SCORE
    for first in range(0, whole, MAX_FACTORS):
        positive, factor = negative_gradient(scores_N[first : min(first + MAX_FACTORS, whole)], rate)
        loss += positive
        product *= factor
        if not product < MAX_PRODUCT:
            loss += np.log(product)
            product = 1.0
    for c in range(pairs):
        scores_CM[c, 0] += rate
    return loss, product


@jit()
def train_segment(
    output_ids_B: Any,
    input_ids_B: Any,
    start: int,
    stop: int,
    tables: Any,
    alias: Any,
    negatives: int,
    longest: int,
    exclude: Any,
    rates: Any,
    state: Any,
) -> float:
    """Train pairs start … stop − 1 one tile after the other; returns their summed loss.

    `output_ids_B` are the words predicted; a run of equal ones, cut after `longest` pairs, is a tile. `tables` are
    (input_VD, output_VD), updated in place; `exclude` (draw again a tile's output word, draw again its first input
    word, mask each pair's input word); `rates` (learning rate at pair 0, its change a pair); `state` the generator's.
    """
    input_VD, output_VD = tables
    redraw_output, redraw_input, mask_input = exclude
    padded = -(-input_VD.shape[1] // VECTOR) * VECTOR
    outputs = -(-(negatives + 1) // OUTPUT_TILE) * OUTPUT_TILE
    rows = longest + longest % 2
    inputs_CP = np.zeros((rows, padded), np.float32)
    outputs_MP = np.zeros((outputs, padded), np.float32)
    input_change_CP = np.zeros((longest, padded), np.float32)
    output_change_MP = np.zeros((outputs, padded), np.float32)
    scores_N = np.zeros(rows * outputs + VECTOR, np.float32)
    scores_CM = scores_N[: rows * outputs].reshape(rows, outputs)
    ids_M = np.full(outputs, ABSENT, np.int64)
    next_ids_M = np.full(outputs, ABSENT, np.int64)
    input_base, output_base, row_bytes = input_VD.ctypes.data, output_VD.ctypes.data, input_VD.shape[1] * 4
    redraw = redraw_output, redraw_input
    loss, product = 0.0, 1.0
    begin = end = start
    next_end = start
    while begin < stop:
        # Draw one tile ahead, so that its rows are on their way while this one is computed.
        if end < stop:
            next_end = tile_end(output_ids_B, end, stop, longest)
            word, other = np.int64(output_ids_B[end]), np.int64(input_ids_B[end])
            state = draw_outputs(next_ids_M, state, alias, negatives, word, other, redraw)
            fetch_rows(next_ids_M, output_base, input_base, np.int64(input_ids_B[next_end - 1]), row_bytes)
        if begin < end:
            load_inputs(input_VD, input_ids_B, begin, end, inputs_CP)
            load_outputs(output_VD, ids_M, outputs_MP)
            multiply_scores(inputs_CP, outputs_MP, scores_CM, end - begin)
            mask_scores(scores_CM, ids_M, input_ids_B, begin, end, mask_input)
            rate = np.float32(rates[0] + rates[1] * begin)
            tile_loss, product = scores_to_gradient(scores_CM, scores_N, end - begin, rate, product)
            loss += tile_loss
            multiply_changes(inputs_CP, outputs_MP, scores_CM, input_change_CP, output_change_MP, end - begin)
            store_inputs(input_VD, input_ids_B, begin, end, input_change_CP)
            store_outputs(output_VD, ids_M, output_change_MP)
        begin, end = end, next_end
        ids_M, next_ids_M = next_ids_M, ids_M
    return float(loss + np.log(product))


@jit()
def train_segments(
    output_ids_B: Any,
    input_ids_B: Any,
    cuts: Any,
    first: int,
    last: int,
    tables: Any,
    alias: Any,
    negatives: int,
    longest: int,
    exclude: Any,
    rates: Any,
    key: Any,
) -> float:
    """Train whole segments first … last − 1; a segment's draws depend on the key and its number alone."""
    loss = 0.0
    for segment in range(first, last):
        state = mix(mix(key) + np.uint64(segment))
        loss += train_segment(
            output_ids_B,
            input_ids_B,
            cuts[segment],
            cuts[segment + 1],
            tables,
            alias,
            negatives,
            longest,
            exclude,
            rates,
            state,
        )
    return loss
