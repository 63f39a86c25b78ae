"""Dropping frequent words at random, as word2vec.c does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Bits of a raw word that are compared with a threshold: as many as a float64 holds exactly.
THRESHOLD_BITS = 53

_BLOCK = 1 << 20


def keep_probabilities(counts_V: NDArray[np.int64], sample: float, total: int | None = None) -> NDArray[np.float64]:
    """Return the probability with which each word is kept, float64 [V].

    min(1, √(t/f) + t/f) with f the word's share of all vocabulary counts: the rule of word2vec.c and gensim. The
    paper's is 1 − √(t/f) for dropping (Mikolov et al. 2013, "Distributed representations of words and phrases
    and their compositionality", eq. 5), which lacks the second term.

    Args:
        counts_V: int64, how often each word occurs in the corpus.
        sample: t; 0 keeps everything.
        total: sum of all counts, where these are some of them.
    """
    if sample == 0:
        return np.ones(len(counts_V))
    total = int(counts_V.sum()) if total is None else total
    ratio_V = min(sample, 1.0) * total / np.maximum(counts_V, 1)
    keep_V: NDArray[np.float64] = np.minimum(1.0, np.sqrt(ratio_V) + ratio_V)
    return keep_V


def keep_thresholds(counts_V: NDArray[np.int64], sample: float) -> NDArray[np.uint64]:
    """Return the integer thresholds of `is_kept`, uint64 [V]; square root and division are exact to the bit."""
    thresholds_V, total = np.empty(len(counts_V), np.uint64), int(counts_V.sum())
    for start in range(0, len(counts_V), _BLOCK):  # all at once would take five times as much as comes out
        some = slice(start, start + _BLOCK)
        thresholds_V[some] = np.floor(keep_probabilities(counts_V[some], sample, total) * 2.0**THRESHOLD_BITS)
    return thresholds_V


def kept_tokens(here_V: NDArray[np.int64], counts_V: NDArray[np.int64], sample: float) -> float:
    """Return how many tokens of a text subsampling is expected to keep.

    Of a word that occurs ``here_V`` times, by the probability that ``counts_V`` gives it. Summed in integers of 2^-20
    tokens: a float sum's last bits would depend on numpy's way of adding.
    """
    kept, total = 0, int(counts_V.sum())
    for start in range(0, len(counts_V), _BLOCK):
        some = slice(start, start + _BLOCK)
        expected = np.floor(here_V[some] * keep_probabilities(counts_V[some], sample, total) * 2.0**20)
        kept += int(expected.astype(np.int64).sum())
    return kept / 2**20


def is_kept(words_T: NDArray[np.uint64], thresholds_T: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Decide for each token by its raw word."""
    return (words_T >> np.uint64(64 - THRESHOLD_BITS)) < thresholds_T
