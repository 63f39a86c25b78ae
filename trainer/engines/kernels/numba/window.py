"""The walk over the windows of a batch: drawing negatives and fetching rows one window ahead, then the step.

Shapes: B pairs, V vocabulary rows, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trainer.engines.kernels.numba.draws import (
    ABSENT,
    POOL_STREAM,
    draw_outputs,
    draw_pooled,
    fill_pool,
    mix,
    roll_pool,
)
from trainer.engines.kernels.numba.ids import ID_BYTES, SEEN, run_length
from trainer.engines.kernels.numba.jit import (
    Excluded,
    Id,
    Ids,
    Longs,
    Rates,
    Words,
    jit,
    prefetch,
    prefetch_to_write,
    source_digest,
)
from trainer.engines.kernels.numba.scratch import Addresses, Scratch
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
from trainer.engines.lines import LINE_BYTES

MAX_PREFETCH_LINES = 8  # more of a row is late anyway, and fills the buffers
IDS_AHEAD_BYTES = 512


@jit()
def fetch_row(base: int, row: Id, row_bytes: int) -> None:
    address = base + row * row_bytes
    for offset in range(0, min(row_bytes, MAX_PREFETCH_LINES * LINE_BYTES), LINE_BYTES):
        prefetch_to_write(address + offset)


@jit()
def fetch_inputs(input_ids_B: Ids, start: int, end: int, reach: int, base: int, row_bytes: int) -> int:
    """Prefetch a window's inputs that no window before it had; returns how many words it reaches to the right.

    Words come into sight on the right, where the second half of a window's pairs are. `reach` is what the window
    before returned.
    """
    right = (end - start + 1) >> 1
    for b in range(end - max(right - reach + 1, 0), end):
        fetch_row(base, np.int64(input_ids_B[b]), row_bytes)
    return max(reach - 1, right)


@jit()
def fetch_ids(output_ids_B: Ids, input_ids_B: Ids, start: int) -> None:
    """Prefetch what is read some windows later."""
    prefetch(output_ids_B.ctypes.data + ID_BYTES * start + IDS_AHEAD_BYTES)
    prefetch(input_ids_B.ctypes.data + ID_BYTES * start + IDS_AHEAD_BYTES)


@jit()
def tile_end(output_ids_B: Ids, start: int, stop: int, longest: int) -> int:
    end, last = start + 1, min(stop, start + longest)
    if start + SEEN <= output_ids_B.size:
        end = min(start + run_length(output_ids_B.ctypes.data + ID_BYTES * start), last)
        if end < start + SEEN:
            return end
    while end < last and output_ids_B[end] == output_ids_B[start]:
        end += 1
    return end


@jit(inline=True)
def train_segment(
    shape: Shape, output_ids_B: Ids, input_ids_B: Ids, start: int, stop: int, tables: tuple[int, int, int, int],
    alias: Words, negatives: int, longest: int, exclude: Excluded, rates: Rates, state: np.uint64, scratch: Scratch,
) -> float:  # fmt: skip
    """Train pairs start … stop − 1 one window after the other; returns their summed loss.

    `output_ids_B` are the words predicted; a run of equal ones, cut after `longest` pairs, is a window. `tables` tell
    where the rows that are updated are (addresses of the first input and output row, bytes from row to row, D);
    `exclude` (draw again a window's output word, draw again its first input word, mask each pair's input word);
    `rates` (learning rate at pair 0, its change a pair); `state` the generator's.

    The loop must count no references to arrays: an atomic instruction waits for all stores before it. So it has no
    slices, swaps no arrays, and hands out addresses.
    """
    input_base, output_base, row_bytes, dim = tables
    redraw_output, redraw_input, mask_input = exclude
    used = negatives + 1
    columns = shape.outputs
    tiles = -(-used // columns)
    stride = scratch.gradient.size // tiles * 4
    at = Addresses(
        scratch.inputs.ctypes.data, scratch.outputs.ctypes.data, scratch.gradient.ctypes.data,
        scratch.bias.ctypes.data, scratch.signs.ctypes.data, scratch.losses.ctypes.data,
        scratch.spare_rows.ctypes.data,
    )  # fmt: skip
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
    next_end = after_end = tile_end(output_ids_B, start, stop, longest)
    while begin < stop:
        # Outputs are drawn one window ahead. Rows are asked for two windows ahead, in three places: more requests at
        # once than a core has room for would stop it.
        if end < stop:
            word, other = np.int64(output_ids_B[end]), np.int64(input_ids_B[end])
            if pooled:
                roll_pool(scratch.pool, turn, pool_state, alias)
                turn += 1
            excluded = word if redraw_output else ABSENT
            state = draw_outputs(
                scratch.ids, following, state, alias, scratch.pool, negatives, word, excluded,
                other if redraw_input else ABSENT,
            )  # fmt: skip
            for m in range(1, 1 if pooled else used):
                fetch_row(output_base, max(np.int64(scratch.ids[following + m]), 0), row_bytes)  # type: ignore[arg-type]
        if next_end < stop:
            after_end = tile_end(output_ids_B, next_end, stop, longest)
            fetch_row(output_base, np.int64(output_ids_B[next_end]), row_bytes)
            fetch_ids(output_ids_B, input_ids_B, next_end)
        if begin < end:
            pairs = end - begin
            repeated = place_rows(
                shape, scratch.inputs, input_ids_B, begin, pairs, input_base, row_bytes, nowhere
            ) | place_rows(shape, scratch.outputs, scratch.ids, now, used, output_base, row_bytes, nowhere)
            terms += pairs * used
            rate = np.float32(rates[0] + rates[1] * begin)
            masked = mask_input or repeated
            if masked:
                mask_terms(scratch, now, used, columns, input_ids_B, begin, pairs, mask_input, MASKED)
            taken, factors = score_window(shape, scratch, at, pairs, tiles, stride, rate, dim, factors)
            loss += taken
            if pooled:
                fetch_row(output_base, draw_pooled(turn, pool_state, alias), row_bytes)
            reach = fetch_inputs(input_ids_B, next_end, after_end, reach, input_base, row_bytes)
            if masked:
                mask_terms(scratch, now, used, columns, input_ids_B, begin, pairs, mask_input, ZERO)
            if repeated:
                pairs = merge_repeats(scratch, used, columns, pairs, nowhere)
            update_window(shape, at, pairs, tiles, stride, dim)
        begin, end, next_end = end, next_end, after_end
        now, following = following, now
    return loss + take_losses(scratch.losses) + terms * LN_2


@jit(allocates=True, cache=True)
def cut_segments(output_ids_B: Ids, segment_pairs: int, longest: int) -> Longs:
    """First pairs of the segments, and B at the end: every segment_pairs, moved on to where a run starts.

    A run that is longer than a tile is cut where it is.
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


def _compiled(sources: int) -> Callable[..., float]:
    @jit(cache=True)
    def train_segments(
        shape: Shape, output_ids_B: Ids, input_ids_B: Ids, cuts: Longs, first: int, last: int,
        tables: tuple[int, int, int, int], alias: Words, negatives: int, longest: int, exclude: Excluded, rates: Rates,
        key: np.uint64, scratch: Scratch,
    ) -> float:  # fmt: skip
        """Train whole segments first … last − 1; a segment's draws depend on the key and its number alone."""
        loss = 0.0 * sources  # named here so that the cache's key holds it: see jit.source_digest
        for segment in range(first, last):
            state = mix(mix(key) + np.uint64(segment))
            loss += train_segment(
                shape, output_ids_B, input_ids_B, cuts[segment], cuts[segment + 1], tables, alias, negatives,
                longest, exclude, rates, state, scratch,
            )  # fmt: skip
        return loss

    return train_segments


train_segments = _compiled(source_digest())
