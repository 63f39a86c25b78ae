"""Subsampling keeps words as word2vec.c does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pairs.draws import raw_words, stream_key
from pipeline.pairs.subsample import is_kept, keep_probabilities, keep_thresholds

pytestmark = pytest.mark.unit


@given(counts=st.lists(st.integers(1, 10**9), min_size=1, max_size=20), sample=st.sampled_from([1e-5, 1e-3, 0.1]))
def test_the_formula(counts: list[int], sample: float) -> None:
    total = sum(counts)
    expected = [min(1.0, math.sqrt(sample / (n / total)) + sample / (n / total)) for n in counts]
    assert keep_probabilities(np.array(counts), sample) == pytest.approx(expected, rel=1e-12)


def test_gensim_keeps_the_same_words() -> None:
    # gensim and word2vec.c: (√(f/t) + 1) · t/f, capped at 1.
    counts = np.array([50_000, 3_000, 200, 5])
    share = counts / counts.sum()
    expected = np.minimum(1, (np.sqrt(share / 1e-3) + 1) * 1e-3 / share)
    assert keep_probabilities(counts, 1e-3) == pytest.approx(expected)


def test_zero_keeps_everything() -> None:
    thresholds = keep_thresholds(np.array([10**9, 1]), 0)
    assert is_kept(np.array([2**64 - 1, 2**64 - 1], np.uint64), thresholds).all()


def test_the_share_kept_is_the_probability() -> None:
    counts = np.array([900_000, 90_000, 10_000])
    words = raw_words(stream_key(3, "subsample", 0, 0, 0), 0, 100_000)
    for threshold, expected in zip(keep_thresholds(counts, 1e-3), keep_probabilities(counts, 1e-3), strict=True):
        share = is_kept(words, np.full(len(words), threshold)).mean()
        assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / len(words)) + 1e-12
