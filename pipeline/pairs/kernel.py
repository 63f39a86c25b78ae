"""Subsampling and windows in one walk over a run of sentences (the twin of windows.sentence_pairs)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.native.jit import as_int, compiled
from pipeline.native.machine import SEVERAL, copy_several, fill_several
from pipeline.pairs.philox import fill_block
from pipeline.pairs.subsample import THRESHOLD_BITS

_DROP_BITS = np.uint64(64 - THRESHOLD_BITS)
_HALF = np.uint64(32)


@compiled
def _keep(
    ids: NDArray[np.int32],
    begin: int,
    stop: int,
    first: int,
    keys: tuple[NDArray[np.uint64], NDArray[np.uint64]],
    thresholds: NDArray[np.uint64],
    window: int,
    fixed: bool,
    words: NDArray[np.uint64],
    kept_ids: NDArray[np.int32],
    radii: NDArray[np.int32],
) -> int:
    """Write ids and radii of the tokens that subsampling leaves of one sentence; return how many."""
    # What is dropped is written too, and overwritten: which tokens are kept no branch predictor can tell.
    kept, radius = 0, as_int(window)
    keep_words, window_words = words[:4], words[4:]
    for t in range(begin, stop):
        block, place = (first + t) >> 2, (first + t) & 3
        if t == begin or place == 0:
            fill_block(keys[0], block, keep_words)
            if not fixed:
                fill_block(keys[1], block, window_words)
        if not fixed:
            radius = 1 + as_int(((window_words[place] >> _HALF) * np.uint64(window)) >> _HALF)
        kept_ids[kept], radii[kept] = ids[t], radius
        kept += keep_words[place] >> _DROP_BITS < thresholds[ids[t]]
    return kept


@compiled
def _copy(source: NDArray[np.int32], first: int, target: NDArray[np.int32], place: int, count: int) -> None:
    """Copy numbers, and what follows them up to a multiple of SEVERAL."""
    k = 0
    while True:
        copy_several(source, first + k, target, place + k)
        k += SEVERAL
        if k >= count:
            return


@compiled
def pair_sentences(
    ids: NDArray[np.int32],
    lengths: NDArray[np.int32],
    sentence: int,
    token: int,
    first: int,
    subsample_key: NDArray[np.uint64],
    window_key: NDArray[np.uint64],
    thresholds: NDArray[np.uint64],
    window: int,
    fixed: bool,
    center: NDArray[np.int32],
    context: NDArray[np.int32],
    filled: int,
    limit: int,
) -> tuple[int, int, int, int]:
    """Append the pairs of sentences from number ``sentence`` on, until ``limit`` pairs are filled or all are done.

    Args:
        ids: the run's ids.
        lengths: ids of each sentence.
        sentence: the first sentence to do, which starts at id number ``token``.
        token: see ``sentence``.
        first: what the draws count from: the index of ids[0] in its chunk.
        subsample_key: Philox key of the subsampling draws.
        window_key: Philox key of the radius draws.
        thresholds: by id, from subsample.keep_thresholds.
        window: largest radius.
        fixed: use it always.
        center: output, with room for ``limit`` pairs, those of any one sentence, and 2 · SEVERAL that mean nothing.
        context: output, likewise.
        filled: pairs already there.
        limit: stop at the first sentence's end at or after this many pairs.

    Returns:
        Next sentence, its first id, pairs filled, tokens kept.
    """
    longest = as_int(0)
    for s in range(sentence, len(lengths)):
        longest = max(longest, lengths[s])
    kept_ids, radii = np.empty(longest + SEVERAL, np.int32), np.empty(longest + 1, np.int32)
    words, total = np.empty(8, np.uint64), 0
    keys = (subsample_key, window_key)
    while sentence < len(lengths) and filled < limit:
        stop = token + lengths[sentence]
        kept = _keep(ids, token, stop, first, keys, thresholds, window, fixed, words, kept_ids, radii)
        for i in range(kept):
            radius = as_int(radii[i])
            word = kept_ids[i]
            before, after = min(radius, i), min(radius, kept - 1 - i)
            for k in range(0, before + after, SEVERAL):
                fill_several(word, center, filled + k)
            _copy(kept_ids, i - before, context, filled, before)
            _copy(kept_ids, i + 1, context, filled + before, after)
            filled += before + after
        total += kept
        sentence, token = sentence + 1, stop
    return sentence, token, filled, total
