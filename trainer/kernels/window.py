"""The compiled step: one window's pairs against its word and K shared negatives, in explicit vector code.

Shapes: B pairs, V vocabulary rows, D dimensions; within a window C inputs, M outputs (the word, its negatives, then
ABSENT up to whole tiles).

A step is three small matrix products over the window's rows,

    scores_CM = inputs_CD · outputs_MDᵀ      gradient_CM = rate · (label − σ(scores))
    outputs_MD += gradientᵀ · inputs         inputs_CD += gradient · outputs

in place: `tiles.update` holds outputs and their sums in registers while it changes the inputs, so that every gradient
is taken from the rows as they were before the step. That needs rows that differ: a word which stands in a window
twice has equal scores, so its gradients are added up and the second row left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from trainer.kernels.draws import ABSENT, POOL_STREAM, draw_outputs, fill_pool, mix, roll_pool
from trainer.kernels.jit import jit, prefetch, source_digest
from trainer.kernels.shape import Shape
from trainer.kernels.tiles import COLUMNS, SEEN, place, run_length, score, update, update_between

LINE_BYTES = 64
MAX_PREFETCH_LINES = 8  # more of a row is late anyway, and fills the buffers
MASKED = np.float32(-1e30)  # σ of a score with this added is 0: no loss
MAX_FACTORS = 60  # of 1 to 2 in a float32; the lanes' product must stay below 2^1024
ID_BYTES = 4
LN_2 = np.log(2)
ZERO, ONE = np.float32(0), np.float32(1)


@jit()
def fetch_row(base: Any, row: Any, row_bytes: Any) -> None:
    address = base + row * row_bytes
    for offset in range(0, min(row_bytes, MAX_PREFETCH_LINES * LINE_BYTES), LINE_BYTES):
        prefetch(address + offset)


@jit()
def tile_end(output_ids_B: Any, start: Any, stop: Any, longest: Any) -> Any:
    end, last = start + 1, min(stop, start + longest)
    if start + SEEN <= output_ids_B.size:
        end = min(start + run_length(output_ids_B.ctypes.data + ID_BYTES * start), last)
        if end < start + SEEN:
            return end
    while end < last and output_ids_B[end] == output_ids_B[start]:
        end += 1
    return end


class Scratch(NamedTuple):
    """What a thread works with; made once, reused for each window.

    Attributes:
        inputs: addresses of a window's input rows.
        outputs: addresses of its output rows, whole tiles.
        ids: the output words of this window and of the next.
        gradient: tiles · rows · COLUMNS; a tile's numbers stand together.
        bias: like gradient; what is added to scores. Zero between windows.
        signs: of each tile, COLUMNS twice: −1 for the window's word, 1 for a negative, 0 for nothing.
        losses: what `tiles.score` adds up.
        spare: rows for sums on their way, where outputs take several tiles; the first is always zero.
        spare_rows: addresses of all but the first.
        pool: ids, none where negatives are drawn for each window.
    """

    inputs: Any
    outputs: Any
    ids: Any
    gradient: Any
    bias: Any
    signs: Any
    losses: Any
    spare: Any
    spare_rows: Any
    pool: Any


class Addresses(NamedTuple):
    """Where the arrays of a Scratch lie."""

    inputs: int
    outputs: int
    gradient: int
    bias: int
    signs: int
    losses: int
    spare_rows: int


def make_scratch(shape: Shape, negatives: int, longest: int, dim: int, pool_rows: int) -> Scratch:
    """Room for windows of up to `longest` pairs."""
    used = negatives + 1
    tiles = -(-used // shape.outputs)
    rows = longest + shape.inputs
    room = max(tiles * shape.outputs, SEEN)
    signs = aligned((tiles, 2 * COLUMNS), np.float32)
    for m in range(used):
        tile, column = divmod(m, shape.outputs)
        signs[tile, column::COLUMNS] = 1 if m else -1
    spare = aligned((1 + (longest if tiles > 1 else 0), dim + shape.lanes), np.float32)
    losses = aligned(2 * shape.lanes, np.float32)
    losses[shape.lanes :] = 1
    return Scratch(
        inputs=aligned(max(rows, SEEN), np.int64),
        outputs=aligned(room, np.int64, spare.ctypes.data),
        ids=aligned(2 * room, np.int32, ABSENT),
        gradient=aligned(tiles * rows * COLUMNS, np.float32),
        bias=aligned(tiles * rows * COLUMNS, np.float32),
        signs=signs.ravel(),
        losses=losses,
        spare=spare,
        spare_rows=spare.ctypes.data + spare.strides[0] * np.arange(1, len(spare), dtype=np.int64),
        pool=aligned(pool_rows, np.int64),
    )


def aligned(shape: tuple[int, ...] | int, kind: Any, value: float = 0) -> Any:
    """An array that begins with a cache line: what straddles two costs twice."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    room = np.zeros(size + LINE_BYTES, np.uint8)
    start = -room.ctypes.data % LINE_BYTES
    array = room[start : start + size].view(kind).reshape(shape)
    array[...] = value
    return array


@jit()
def place_rows(
    shape: Any, addresses: Any, ids_N: Any, start: Any, count: Any, base: Any, row_bytes: Any, nowhere: Any
) -> Any:
    """Addresses of some rows; tells whether some may be equal or absent."""
    if count <= SEEN and start + SEEN <= ids_N.size:
        ids = ids_N.ctypes.data + ID_BYTES * start
        return place(shape, addresses.ctypes.data, ids, count, base, row_bytes, nowhere)
    for n in range(count):
        row = np.int64(ids_N[start + n])
        addresses[n] = base + row * row_bytes if row != ABSENT else nowhere
    return True


@jit()
def mask_terms(
    scratch: Any,
    start: Any,
    used: Any,
    columns: Any,
    input_ids_B: Any,
    begin: Any,
    pairs: Any,
    mask_input: Any,
    bias: Any,
) -> None:
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
def merge_repeats(scratch: Any, used: Any, columns: Any, pairs: Any, nowhere: Any) -> Any:
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
def take_losses(losses: Any) -> Any:
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
    return total - np.log(product)


@jit()
def score_window(
    shape: Any, scratch: Any, at: Any, pairs: Any, tiles: Any, stride: Any, rate: Any, dim: Any, factors: Any
) -> Any:
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
def update_window(shape: Any, at: Any, pairs: Any, tiles: Any, stride: Any, dim: Any) -> None:
    """All rows of a window; with several tiles of outputs the inputs' new rows are kept apart until the last one."""
    if tiles == 1:
        update(shape, at.inputs, pairs, at.outputs, at.gradient, dim)
        return
    for tile in range(tiles):
        before = at.inputs if tile == 0 else at.spare_rows
        after = at.inputs if tile == tiles - 1 else at.spare_rows
        outputs, gradient = at.outputs + tile * shape.outputs * 8, at.gradient + tile * stride
        update_between(shape, at.inputs, before, after, pairs, outputs, gradient, dim)


@jit()
def train_segment(
    shape: Any,
    output_ids_B: Any,
    input_ids_B: Any,
    start: Any,
    stop: Any,
    tables: Any,
    alias: Any,
    negatives: Any,
    longest: Any,
    exclude: Any,
    rates: Any,
    state: Any,
    scratch: Any,
) -> Any:
    """Train pairs start … stop − 1 one window after the other; returns their summed loss.

    `output_ids_B` are the words predicted; a run of equal ones, cut after `longest` pairs, is a window. `tables` are
    (input_VD, output_VD), updated in place; `exclude` (draw again a window's output word, draw again its first input
    word, mask each pair's input word); `rates` (learning rate at pair 0, its change a pair); `state` the generator's.

    The loop must count no references to arrays: an atomic instruction waits for all stores before it. So it has no
    slices, swaps no arrays, and hands out addresses.
    """
    input_VD, output_VD = tables
    redraw_output, redraw_input, mask_input = exclude
    dim, used = input_VD.shape[1], negatives + 1
    columns = shape.outputs
    tiles = -(-used // columns)
    stride = scratch.gradient.size // tiles * 4
    at = Addresses(
        scratch.inputs.ctypes.data, scratch.outputs.ctypes.data, scratch.gradient.ctypes.data,
        scratch.bias.ctypes.data, scratch.signs.ctypes.data, scratch.losses.ctypes.data,
        scratch.spare_rows.ctypes.data,
    )  # fmt: skip
    nowhere = scratch.spare.ctypes.data
    input_base, output_base, row_bytes = input_VD.ctypes.data, output_VD.ctypes.data, dim * 4
    pooled = scratch.pool.size > 0
    pool_state = mix(state ^ POOL_STREAM)
    turn = fill_pool(scratch.pool, pool_state, alias)
    loss, factors, terms = 0.0, 0, 0
    now, following = 0, scratch.ids.size // 2
    begin = end = next_end = start
    while begin < stop:
        # Draw one window ahead, so that its rows are on their way while this one is computed.
        if end < stop:
            next_end = tile_end(output_ids_B, end, stop, longest)
            word, other = np.int64(output_ids_B[end]), np.int64(input_ids_B[end])
            if pooled:
                fresh = roll_pool(scratch.pool, turn, pool_state, alias)
                turn += 1
                fetch_row(output_base, fresh, row_bytes)
            excluded = word if redraw_output else ABSENT
            state = draw_outputs(
                scratch.ids, following, state, alias, scratch.pool, negatives, word, excluded,
                other if redraw_input else ABSENT,
            )  # fmt: skip
            for m in range(1 if pooled else used):  # the pool's rows are at hand
                fetch_row(output_base, max(np.int64(scratch.ids[following + m]), 0), row_bytes)
            fetch_row(input_base, np.int64(input_ids_B[next_end - 1]), row_bytes)
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
            if masked:
                mask_terms(scratch, now, used, columns, input_ids_B, begin, pairs, mask_input, ZERO)
            if repeated:
                pairs = merge_repeats(scratch, used, columns, pairs, nowhere)
            update_window(shape, at, pairs, tiles, stride, dim)
        begin, end = end, next_end
        now, following = following, now
    return loss + take_losses(scratch.losses) + terms * LN_2


@jit(allocates=True, cache=True)
def cut_segments(output_ids_B: Any, segment_pairs: Any, longest: Any) -> Any:
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


def _compiled(sources: int) -> Any:
    @jit(cache=True)
    def train_segments(
        shape: Any, output_ids_B: Any, input_ids_B: Any, cuts: Any, first: Any, last: Any, tables: Any, alias: Any,
        negatives: Any, longest: Any, exclude: Any, rates: Any, key: Any, scratch: Any,
    ) -> Any:  # fmt: skip
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
