"""What a thread of the compiled step works with: addresses of rows, gradients, sums; made once, reused each time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trainer.engines.kernels.numba.draws import ABSENT
from trainer.engines.kernels.numba.instructions.ids import SEEN
from trainer.engines.kernels.numba.instructions.tiles import COLUMNS
from trainer.engines.kernels.numba.jit import Floats, Ids, Longs, jit
from trainer.engines.kernels.numba.shape import Shape
from trainer.engines.lines import aligned


class Scratch(NamedTuple):
    """What a thread works with; made once, reused for each window.

    Attributes:
        inputs: addresses of a window's input rows.
        outputs: addresses of its output rows, whole tiles.
        ids: the output words of this window and of the next.
        gradient: tiles · rows · COLUMNS; a tile's numbers are adjacent.
        bias: like gradient; what is added to scores. Zero between windows.
        signs: of each tile, COLUMNS twice: −1 for the window's word, 1 for a negative, 0 for nothing.
        losses: what `tiles.score` adds up.
        spare: rows for sums on their way, where outputs take several tiles; the first is always zero.
        spare_rows: addresses of all but the first.
        pool: ids, none where negatives are drawn for each window.
    """

    inputs: Longs
    outputs: Longs
    ids: Ids
    gradient: Floats
    bias: Floats
    signs: Floats
    losses: Floats
    spare: Floats
    spare_rows: Longs
    pool: Longs


class Addresses(NamedTuple):
    """Where the arrays of a Scratch are."""

    inputs: int
    outputs: int
    gradient: int
    bias: int
    signs: int
    losses: int
    spare_rows: int


@jit()
def addresses(scratch: Scratch) -> Addresses:
    return Addresses(
        scratch.inputs.ctypes.data, scratch.outputs.ctypes.data, scratch.gradient.ctypes.data,
        scratch.bias.ctypes.data, scratch.signs.ctypes.data, scratch.losses.ctypes.data,
        scratch.spare_rows.ctypes.data,
    )  # fmt: skip


def make_scratch(shape: Shape, negatives: int, longest: int, dim: int, pool_rows: int, single: bool = False) -> Scratch:
    """Room for windows of up to `longest` pairs; `clear` makes it ready.

    Args:
        shape: what the code is built for.
        negatives: K.
        longest: pairs of a window.
        dim: D.
        pool_rows: ids of the pool, 0 for none.
        single: a window has one row of scores, as CBOW's, and two spare rows: its input, and what that changes by.
    """
    used = negatives + 1
    tiles = -(-used // shape.outputs)
    rows = (1 if single else longest) + shape.inputs
    room = max(tiles * shape.outputs, SEEN)
    signs = aligned((tiles, 2 * COLUMNS), np.float32)
    for m in range(used):
        tile, column = divmod(m, shape.outputs)
        signs[tile, column::COLUMNS] = 1 if m else -1
    spare = aligned((1 + (2 if single else longest if tiles > 1 else 0), dim + shape.lanes), np.float32)
    return Scratch(
        inputs=aligned(max(longest + shape.inputs, SEEN), np.int64),
        outputs=aligned(room, np.int64, spare.ctypes.data),
        ids=aligned(2 * room, np.int32, ABSENT),
        gradient=aligned(tiles * rows * COLUMNS, np.float32),
        bias=aligned(tiles * rows * COLUMNS, np.float32),
        signs=signs.ravel(),
        losses=aligned(2 * shape.lanes, np.float32),
        spare=spare,
        spare_rows=spare.ctypes.data + spare.strides[0] * np.arange(1, len(spare), dtype=np.int64),
        pool=aligned(pool_rows, np.int64),
    )


def clear(scratch: Scratch) -> None:
    """Make it ready for a batch, whatever the one before left: rows with NaN leave some."""
    for array in (scratch.gradient, scratch.bias, scratch.spare, scratch.losses):
        array[...] = 0
    scratch.losses[scratch.losses.size // 2 :] = 1
