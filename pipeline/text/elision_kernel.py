"""Cutting elided words off the tokens of a chunk (the twin of elisions.split_elisions)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.native.jit import as_int, compiled
from pipeline.text.word_kernel import kind_of
from pipeline.text.wordbreak import EXTEND

_APOSTROPHE, _LONGEST = 0x27, 7  # bytes of an elided word, so that one fits into a number


@compiled
def _elided(
    text: NDArray[np.uint8], start: int, stop: int, classes: NDArray[np.uint8], keys: NDArray[np.uint64]
) -> int:
    """Where the elided word that [start, stop) begins with ends, its apostrophe included; ``start`` if it has none."""
    key = np.uint64(0)
    for k in range(min(_LONGEST + 1, stop - start)):
        i = start + k
        straight = text[i] == _APOSTROPHE
        if straight or (text[i] == 0xE2 and text[i + 1] == 0x80 and text[i + 2] == 0x99):
            end = i + (1 if straight else 3)
            if end >= stop or kind_of(text, end, classes) == EXTEND:
                return start
            for one in keys:
                if one == key:
                    return end
            return start
        key |= np.uint64(text[i]) << np.uint64(8 * k) if k < _LONGEST else np.uint64(0)
    return start


@compiled
def cut_spans(
    text: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    classes: NDArray[np.uint8],
    keys: NDArray[np.uint64],
    new_starts: NDArray[np.int32],
    new_lengths: NDArray[np.int32],
    pieces: NDArray[np.int32],
) -> None:
    """Write the tokens that come of each token; how many come of it and those before it goes to pieces[1:]."""
    j = as_int(0)
    pieces[0] = 0
    for t in range(len(starts)):
        start, stop = as_int(starts[t]), as_int(starts[t]) + as_int(lengths[t])
        while True:
            end = as_int(_elided(text, start, stop, classes, keys))
            new_starts[j], new_lengths[j] = start, (end if end > start else stop) - start
            j += 1
            if end == start:
                break
            start = end
        pieces[t + 1] = j
