"""Philox4x64-10 a block at a time, equal word for word to numpy's stream (the twin of draws.raw_words)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.native.jit import compiled
from pipeline.native.machine import multiply_high

# Multipliers and key increments of Salmon et al. 2011, table 2 and section 3.3.
_M0, _M1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_W0, _W1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)


@compiled
def fill_block(key: NDArray[np.uint64], block: int, out: NDArray[np.uint64]) -> None:
    """Write words 4 · ``block`` to 4 · ``block`` + 3 of the stream under ``key``."""
    # numpy counts up before it makes a block: the first one has counter 1.
    a, b, c, d = np.uint64(block + 1), np.uint64(0), np.uint64(0), np.uint64(0)
    k0, k1 = key[0], key[1]
    for _ in range(10):
        high0, low0 = multiply_high(_M0, a), _M0 * a
        high1, low1 = multiply_high(_M1, c), _M1 * c
        a, b, c, d = high1 ^ b ^ k0, low1, high0 ^ d ^ k1, low0
        k0, k1 = k0 + _W0, k1 + _W1
    out[0], out[1], out[2], out[3] = a, b, c, d
