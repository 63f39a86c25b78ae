"""CBOW's training step on a GPU, in Triton: the mean (or sum) of a window's inputs against its word and K negatives.

    h_D = factor · Σ inputs      gradient_M = rate · (label − σ(outputs · h))
    outputs_MD += gradient_M · h      each input += factor · Σ gradient_M · outputs

As `kernels.numba.cbow` has it, which also cuts a long run where one of its segments begins, and takes the mean loss of
each segment's windows: here it is that of the batch's.

Shapes: B pairs, P programs, V vocabulary rows, D dimensions; within a window C inputs, of which `tile` are loaded at
once, M outputs (the word, its negatives, padding up to a power of two), S columns of a slice of D.

A window is a run of equal output ids, cut after each MEAN_PAIRS of its pairs. Programs have even shares of the pairs:
one begins with the window that its share begins in, and leaves one that goes on after it to the next. What is drawn
for a window depends on its place in the batch and the key alone, so any number of programs trains the same windows with
the same negatives. All rows of a window are read before the first of them is changed.
"""

from __future__ import annotations

import triton
import triton.language as tl

from trainer.engines.kernels import MEAN_PAIRS
from trainer.engines.kernels.triton.step import add_rows, draw_outputs, gradient, load_rows

_LONGEST = tl.constexpr(MEAN_PAIRS)
_SEEN = tl.constexpr(32)  # ids that are looked at together; MEAN_PAIRS are so many times some


@triton.jit
def window_pairs(ids_B, begin, pairs):
    """How many pairs the window has that begins at `begin`."""
    i = tl.arange(0, _SEEN)
    word = tl.load(ids_B + begin)
    count, same = 0, 32
    while (same == _SEEN) & (count < _LONGEST):
        near = begin + count + i
        ids = tl.load(ids_B + near, mask=near < pairs, other=-1)
        same = tl.min(tl.where(ids == word, _SEEN, i))
        count += same
    return count


@triton.jit
def window_begin(ids_B, at, pairs):
    """Where the window of pair `at` begins; `pairs` for `pairs`."""
    i = tl.arange(0, _SEEN)
    run, last = -1, at
    while run < 0:  # back to where its run begins
        near = last - i
        here = tl.load(ids_B + near, mask=(near >= 0) & (near < pairs), other=-1)
        before = tl.load(ids_B + near - 1, mask=near > 0, other=-1)
        run = tl.max(tl.where(here != before, near, -1))
        last -= _SEEN
    return run + (at - run) // _LONGEST * _LONGEST


@triton.jit
def train_window(
    input_VD, output_VD, input_ids_C, count, ids, there, rate,
    m, d, tile: tl.constexpr, dim: tl.constexpr, slices: tl.constexpr, mean: tl.constexpr,
):  # fmt: skip
    """One window, its inputs `tile` at a time: summed, and then added to; its losses as gradient's, [M]."""
    outputs = load_rows(output_VD, ids, there, d, dim, slices)
    c = tl.arange(0, tile)
    sums, inputs = (), ()
    for _ in tl.static_range(slices):
        sums = sums + (tl.zeros([tile, d.shape[0]], tl.float32),)
    for first in range(0, count, tile):
        inside = first + c < count
        input_ids = tl.load(input_ids_C + first + c, mask=inside, other=0)
        rows = load_rows(input_VD, input_ids, inside, d, dim, slices)
        added = ()
        for s in tl.static_range(slices):
            added = added + (sums[s] + rows[s],)
        sums = added
    share = 1.0 / count if mean else 1.0
    for s in tl.static_range(slices):
        inputs = inputs + (share * tl.sum(sums[s], axis=0),)
    product = outputs[0] * inputs[0][None, :]
    for s in tl.static_range(1, slices):
        product += outputs[s] * inputs[s][None, :]
    change, loss, factor = gradient(tl.sum(product, axis=1), tl.where(m == 0, -1.0, 1.0), rate, there)
    input_changes = ()
    for s in tl.static_range(slices):
        input_changes = input_changes + (share * tl.sum(change[:, None] * outputs[s], axis=0),)
        add_rows(output_VD, ids, there, d, change[:, None] * inputs[s][None, :], s, dim)
    for first in range(0, count, tile):
        inside = first + c < count
        input_ids = tl.load(input_ids_C + first + c, mask=inside, other=0)
        for s in tl.static_range(slices):
            each = tl.broadcast_to(input_changes[s][None, :], [tile, d.shape[0]])
            add_rows(input_VD, input_ids, inside, d, each, s, dim)
    tl.debug_barrier()  # the next window may have rows that other threads have changed here
    return loss, factor


@triton.jit(do_not_specialize=["pairs", "rows", "key_low", "key_high"])
def train_windows(
    output_ids_B, input_ids_B, input_VD, output_VD, alias_V, loss_P, windows_P,
    pairs, rows, key_low, key_high, rate_start, rate_slope,
    dim: tl.constexpr, negatives: tl.constexpr, tile: tl.constexpr, outputs: tl.constexpr, columns: tl.constexpr,
    slices: tl.constexpr, redraw_output: tl.constexpr, mean: tl.constexpr,
) -> None:  # fmt: skip
    """Train this program's share of the windows; their losses' sum goes to loss_P, their number to windows_P."""
    program = tl.program_id(0).to(tl.int64)
    m, d = tl.arange(0, outputs), tl.arange(0, columns)
    key = (key_high.to(tl.uint64) << 32) | key_low.to(tl.uint64)
    begin = window_begin(output_ids_B, (program * pairs // tl.num_programs(0)).to(tl.int32), pairs)
    stop = window_begin(output_ids_B, ((program + 1) * pairs // tl.num_programs(0)).to(tl.int32), pairs)
    windows, total = 0, tl.zeros([outputs], tl.float64)
    while begin < stop:
        count = window_pairs(output_ids_B, begin, pairs)
        word = tl.load(output_ids_B + begin)
        ids, there = draw_outputs(alias_V, rows, key, begin, word, word, m, negatives, redraw_output, False)
        loss, factor = train_window(
            input_VD, output_VD, input_ids_B + begin, count, ids, there, rate_start + rate_slope * begin,
            m, d, tile, dim, slices, mean,
        )  # fmt: skip
        total += (loss + tl.log(factor)).to(tl.float64)
        windows += 1
        begin += count
    tl.store(loss_P + program, tl.sum(total))
    tl.store(windows_P + program, windows)
