"""Arrays that begin with a cache line; needs no compiler, so that every engine's tables can be such."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

LINE_BYTES = 64


def aligned(shape: tuple[int, ...] | int, kind: Any, value: float = 0) -> Any:
    """An array that begins with a cache line: what straddles two costs twice."""
    shape = shape if isinstance(shape, tuple) else (shape,)
    size = math.prod(shape) * np.dtype(kind).itemsize
    room = np.zeros(size + LINE_BYTES, np.uint8)
    start = -room.ctypes.data % LINE_BYTES
    array = room[start : start + size].view(kind).reshape(shape)
    if value:  # zeros are there, and not yet in memory
        array[...] = value
    return array
