"""Skip-gram's training step on a GPU, in Triton: a program walks over windows, many programs race without locks.

Shapes: B pairs, V vocabulary rows, D dimensions; within a window C inputs, M outputs (the word, its negatives, padding
up to a power of two), S columns of a slice of D.

The batch is cut into segments of SEGMENT_PAIRS; a program takes consecutive ones. Within a segment a run of equal
output ids, cut after `tile` pairs, is a window. Where windows begin and what is drawn for them depends on the batch and
the key alone, so any number of programs trains the same windows with the same negatives. All rows of a window are read
before the first of them is changed.
"""

from __future__ import annotations

import triton
import triton.language as tl

from trainer.engines.kernels.triton.step import add_rows, draw_outputs, gradient, load_rows

# One logarithm a segment: it has at most 32 pairs more than this, and the product of as many factors stays below 2¹²⁸.
SEGMENT_PAIRS = 64

_SEGMENT = tl.constexpr(SEGMENT_PAIRS)
_NONE = tl.constexpr(2**31 - 1)


@triton.jit
def segment_start(ids_B, at, pairs, tile: tl.constexpr):
    """The first pair from `at` on that begins a run; `at` itself where there is none within `tile` pairs."""
    near = at + tl.arange(0, tile)
    inside = near < pairs
    here = tl.load(ids_B + near, mask=inside, other=-1)
    before = tl.load(ids_B + near - 1, mask=inside & (near > 0), other=-1)
    first = tl.min(tl.where(inside & (here != before), near, _NONE))
    return tl.minimum(tl.where(first == _NONE, at, first), pairs)


@triton.jit
def load_row(table_VD, row, d, dim: tl.constexpr, slices: tl.constexpr):
    """One row as a tuple of slices [S]."""
    start = table_VD + row.to(tl.int64) * dim + d
    parts = ()
    for s in tl.static_range(slices):
        column = d + s * d.shape[0]
        parts = parts + (tl.load(start + s * d.shape[0], mask=column < dim, other=0.0, cache_modifier=".cg"),)
    return parts


@triton.jit
def step_fp32(
    input_VD, output_VD, input_ids_C, count, ids, there, rate, scratch_CM,
    m, d, dim: tl.constexpr, slices: tl.constexpr, mask_input: tl.constexpr,
):  # fmt: skip
    """One window, input after input against the outputs, which stay in registers; its losses as gradient's, [M].

    Sums of products in float32. There is no padding along the inputs, of which a window has about six, so this costs
    fewer instructions than the tensor cores' tiles of 16 by 16 with each product in three parts.
    """
    outputs = load_rows(output_VD, ids, there, d, dim, slices)
    sign = tl.where(m == 0, -1.0, 1.0)
    changes = ()
    for _ in tl.static_range(slices):
        changes = changes + (tl.zeros([m.shape[0], d.shape[0]], tl.float32),)
    loss, factor = tl.zeros([m.shape[0]], tl.float32), tl.full([m.shape[0]], 1.0, tl.float32)
    input_id = tl.load(input_ids_C)
    row = load_row(input_VD, input_id, d, dim, slices)
    for c in range(count):
        # The next row is on its way while this one is computed.
        next_id = tl.load(input_ids_C + tl.minimum(c + 1, count - 1))
        next_row = load_row(input_VD, next_id, d, dim, slices)
        product = outputs[0] * row[0][None, :]
        for s in tl.static_range(1, slices):
            product += outputs[s] * row[s][None, :]
        is_term = there
        if mask_input:
            is_term = there & ((m == 0) | (ids != input_id))
        change, losses, factors = gradient(tl.sum(product, axis=1), sign, rate, is_term)
        loss += losses
        factor *= factors
        added = ()
        for s in tl.static_range(slices):
            added = added + (changes[s] + change[:, None] * row[s][None, :],)
        changes = added
        tl.store(scratch_CM + c * m.shape[0] + m, change)
        input_id, row = next_id, next_row
    for s in tl.static_range(slices):
        add_rows(output_VD, ids, there, d, changes[s], s, dim)
    tl.debug_barrier()  # the gradients in scratch were written by other threads
    for c in range(count):
        change = tl.load(scratch_CM + c * m.shape[0] + m)
        start = input_VD + tl.load(input_ids_C + c).to(tl.int64) * dim + d
        for s in tl.static_range(slices):
            total = tl.sum(change[:, None] * outputs[s], axis=0)
            tl.atomic_add(start + s * d.shape[0], total, mask=d + s * d.shape[0] < dim, sem="relaxed")
    tl.debug_barrier()
    return loss, factor


@triton.jit
def rounded(numbers, interpreted: tl.constexpr):
    """As bfloat16; Triton's interpreter would multiply their bits, so there float32 holds the rounded numbers."""
    if interpreted:
        return numbers.to(tl.bfloat16).to(tl.float32)
    return numbers.to(tl.bfloat16)


@triton.jit
def step_bf16(
    input_VD, output_VD, input_ids_C, count, ids, there, rate,
    m, d, tile: tl.constexpr, dim: tl.constexpr, slices: tl.constexpr, mask_input: tl.constexpr,
    interpreted: tl.constexpr,
):  # fmt: skip
    """One window as three products of bfloat16 on the tensor cores, summed in float32; losses as gradient's, [C, M]."""
    c = tl.arange(0, tile)
    inside = c < count
    input_ids = tl.load(input_ids_C + c, mask=inside, other=0)
    input_rows = load_rows(input_VD, input_ids, inside, d, dim, slices)
    output_rows = load_rows(output_VD, ids, there, d, dim, slices)
    score = tl.zeros([tile, m.shape[0]], tl.float32)
    for s in tl.static_range(slices):
        score += tl.dot(rounded(input_rows[s], interpreted), tl.trans(rounded(output_rows[s], interpreted)))
    sign = tl.where(m == 0, -1.0, 1.0)[None, :]
    is_term = inside[:, None] & there[None, :]
    if mask_input:
        is_term = is_term & ((m == 0)[None, :] | (ids[None, :] != input_ids[:, None]))
    change, loss, factor = gradient(score, sign, rate, is_term)
    change = rounded(change, interpreted)
    for s in tl.static_range(slices):
        input_change = tl.dot(change, rounded(output_rows[s], interpreted))
        output_change = tl.dot(tl.trans(change), rounded(input_rows[s], interpreted))
        add_rows(input_VD, input_ids, inside, d, input_change, s, dim)
        add_rows(output_VD, ids, there, d, output_change, s, dim)
    return loss, factor


@triton.jit(do_not_specialize=["pairs", "rows", "key_low", "key_high"])
def train_windows(
    output_ids_B, input_ids_B, input_VD, output_VD, alias_V, loss_P, scratch,
    pairs, rows, key_low, key_high, rate_start, rate_slope,
    dim: tl.constexpr, negatives: tl.constexpr, longest: tl.constexpr, tile: tl.constexpr, outputs: tl.constexpr,
    columns: tl.constexpr, slices: tl.constexpr, redraw_output: tl.constexpr, redraw_input: tl.constexpr,
    mask_input: tl.constexpr, bf16: tl.constexpr, interpreted: tl.constexpr,
) -> None:  # fmt: skip
    """Train this program's share of the segments; its summed loss goes to loss_P."""
    program = tl.program_id(0).to(tl.int64)
    segments = tl.cdiv(pairs, _SEGMENT)
    first = (program * segments // tl.num_programs(0)).to(tl.int32)
    last = ((program + 1) * segments // tl.num_programs(0)).to(tl.int32)
    c, m, d = tl.arange(0, tile), tl.arange(0, outputs), tl.arange(0, columns)
    key = (key_high.to(tl.uint64) << 32) | key_low.to(tl.uint64)
    scratch_CM = scratch + program * (tile * outputs)
    total = tl.sum(tl.zeros([outputs], tl.float64))
    begin = segment_start(output_ids_B, first * _SEGMENT, pairs, tile)
    for segment in range(first, last):
        stop = segment_start(output_ids_B, (segment + 1) * _SEGMENT, pairs, tile)
        if bf16:
            loss, factor = tl.zeros([tile, outputs], tl.float32), tl.full([tile, outputs], 1.0, tl.float32)
        else:
            loss, factor = tl.zeros([outputs], tl.float32), tl.full([outputs], 1.0, tl.float32)
        while begin < stop:
            word = tl.load(output_ids_B + begin)
            run = tl.load(output_ids_B + begin + c, mask=(begin + c < stop) & (c < longest), other=-1)
            count = tl.min(tl.where(run == word, tile, c))
            other = tl.load(input_ids_B + begin)
            ids, there = draw_outputs(alias_V, rows, key, begin, word, other, m, negatives, redraw_output, redraw_input)
            rate = rate_start + rate_slope * begin
            if bf16:
                losses, factors = step_bf16(
                    input_VD, output_VD, input_ids_B + begin, count, ids, there, rate,
                    m, d, tile, dim, slices, mask_input, interpreted,
                )  # fmt: skip
            else:
                losses, factors = step_fp32(
                    input_VD, output_VD, input_ids_B + begin, count, ids, there, rate, scratch_CM,
                    m, d, dim, slices, mask_input,
                )  # fmt: skip
            loss += losses
            factor *= factors
            begin += count
        total += tl.sum((loss + tl.log(factor)).to(tl.float64))
    tl.store(loss_P + program, total)
