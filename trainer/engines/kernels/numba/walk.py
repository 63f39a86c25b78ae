"""The walk over the windows of a batch: where they begin, what is drawn and fetched ahead of each.

Shapes: B pairs, V vocabulary rows, D dimensions.
"""

from __future__ import annotations

import numpy as np

from trainer.engines.kernels.numba.draws import ABSENT, draw_outputs, roll_pool
from trainer.engines.kernels.numba.instructions.ids import ID_BYTES, SEEN, run_length
from trainer.engines.kernels.numba.jit import Id, Ids, Longs, Step, Words, jit, prefetch, prefetch_to_write
from trainer.engines.kernels.numba.scratch import Scratch
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


@jit()
def look_ahead(
    output_ids_B: Ids, input_ids_B: Ids, end: int, next_end: int, stop: int, step: Step, scratch: Scratch,
    following: int, turn: int, state: np.uint64, pool_state: np.uint64, alias: Words, output_base: int, row_bytes: int,
) -> tuple[int, int, np.uint64]:  # fmt: skip
    """Draw the outputs of the next window, pairs `end` … `next_end` - 1, and find the one after it.

    Rows are asked for two windows ahead, in three places: more requests at once than a core has room for would stop it.
    A pool's rows were asked for when they came into it.

    Returns:
        Where the window after the next ends, the number of the pool's next draw, and the generator's state.
    """
    after_end = next_end
    if end < stop:
        word, other = np.int64(output_ids_B[end]), np.int64(input_ids_B[end])
        pooled = scratch.pool.size > 0
        if pooled:
            roll_pool(scratch.pool, turn, pool_state, alias)
        turn += 1
        excluded = word if step.redraw_output else ABSENT
        state = draw_outputs(
            scratch.ids, following, state, alias, scratch.pool, step.negatives, word, excluded,
            other if step.redraw_input else ABSENT,
        )  # fmt: skip
        for m in range(1, 1 if pooled else step.negatives + 1):
            fetch_row(output_base, max(np.int64(scratch.ids[following + m]), 0), row_bytes)  # type: ignore[arg-type]
    if next_end < stop:
        after_end = tile_end(output_ids_B, next_end, stop, step.longest)
        fetch_row(output_base, np.int64(output_ids_B[next_end]), row_bytes)
        fetch_ids(output_ids_B, input_ids_B, next_end)
    return after_end, turn, state


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
