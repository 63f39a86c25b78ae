"""Random draws that depend on a place in the corpus and on nothing else.

A stream is numpy's Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") under a key
made of the seed, the purpose and the place; word t of the stream belongs to token t of a chunk. Words are compared
with integer thresholds: numpy promises the stability of raw words, not of its distributions.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

SUBSAMPLE = "subsample"
WINDOW = "window"

_BLOCK = 1 << 14


def stream_key(seed: int, purpose: str, *place: int) -> NDArray[np.uint64]:
    """Return the Philox key, uint64 [2], of the stream for one purpose and place."""
    text = ":".join(map(str, (seed, purpose, *place)))
    return np.frombuffer(hashlib.blake2b(text.encode("ascii"), digest_size=16).digest(), "<u8").astype(np.uint64)


def raw_words(key: NDArray[np.uint64], first: int, count: int) -> NDArray[np.uint64]:
    """Return words ``first`` to ``first + count`` of a stream, uint64; the readable twin of kernels.philox."""
    generator = np.random.Philox(key=key, counter=[first // 4, 0, 0, 0])
    words: NDArray[np.uint64] = generator.random_raw(count + first % 4)
    return words[first % 4 :]


def order_keys(seed: int, purpose: str, *places: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
    """Return order_key for many places, their numbers in columns; some thousand at a time are objects of Python."""
    keys = np.empty(len(places[0]), np.uint64)
    for start in range(0, len(keys), _BLOCK):
        some = zip(*(column[start : start + _BLOCK].tolist() for column in places), strict=True)
        keys[start : start + _BLOCK] = [order_key(seed, purpose, *place) for place in some]
    return keys


def order_key(seed: int, purpose: str, *place: int) -> int:
    """Return the 64-bit number by which things at ``place`` sort into a shuffled order."""
    return xxhash.xxh3_64_intdigest(":".join(map(str, (seed, purpose, *place))).encode("ascii"))
