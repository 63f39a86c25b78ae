"""Dropping frequent words at random, as word2vec.c does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Bits of a raw word that are compared with a threshold: as many as a float64 holds exactly.
THRESHOLD_BITS = 53


def keep_probabilities(counts_V: NDArray[np.int64], sample: float) -> NDArray[np.float64]:
    """Return the probability with which each word is kept, float64 [V].

    min(1, √(t/f) + t/f) with f the word's share of all vocabulary counts: the rule of word2vec.c and gensim. The
    paper's is 1 − √(t/f) for dropping (Mikolov et al. 2013, "Distributed representations of words and phrases
    and their compositionality", eq. 5), which lacks the second term.

    Args:
        counts_V: int64, how often each word stands in the corpus.
        sample: t; 0 keeps everything.
    """
    if sample == 0:
        return np.ones(len(counts_V))
    ratio_V = min(sample, 1.0) * counts_V.sum() / np.maximum(counts_V, 1)
    keep_V: NDArray[np.float64] = np.minimum(1.0, np.sqrt(ratio_V) + ratio_V)
    return keep_V


def keep_thresholds(counts_V: NDArray[np.int64], sample: float) -> NDArray[np.uint64]:
    """Return the integer thresholds of `is_kept`, uint64 [V]; square root and division are exact to the bit."""
    return np.floor(keep_probabilities(counts_V, sample) * 2.0**THRESHOLD_BITS).astype(np.uint64)


def is_kept(words_T: NDArray[np.uint64], thresholds_T: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Decide for each token by its raw word."""
    return (words_T >> np.uint64(64 - THRESHOLD_BITS)) < thresholds_T
