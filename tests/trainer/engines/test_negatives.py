"""The alias table and the reference sampler against what they promise: exact weights, exact exclusions, exact keys."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trainer.config import EXCLUDE
from trainer.engines.negatives import NegativeSampler, build_alias, drawable_weights, unigram_weights
from trainer.errors import UserError

counts = st.lists(st.integers(1, 10**9), min_size=1, max_size=60)


def implied_probabilities(table: np.ndarray) -> np.ndarray:
    """What a uniform column and a uniform 32-bit word make of an alias table."""
    rows = len(table) // 2
    result = np.zeros(rows)
    for column in range(rows):
        threshold, alias = int(table[2 * column]), int(table[2 * column + 1])
        result[column] += threshold / 2**32 / rows
        result[alias] += (1 - threshold / 2**32) / rows
    return result


@given(counts, st.sampled_from([0.0, 0.5, 0.75, 1.0, 3.0]))
def test_weights_are_the_counts_power(values: list[int], power: float) -> None:
    expected = np.array([value**power for value in values])
    np.testing.assert_allclose(unigram_weights(np.array(values), power), expected / expected.sum(), rtol=1e-12)


@given(counts, st.sampled_from([0.0, 0.75, 1.0]))
def test_alias_table_implies_the_probabilities(values: list[int], power: float) -> None:
    probabilities = unigram_weights(np.array(values), power)
    table = build_alias(probabilities)
    assert table.dtype == np.uint32
    assert (table[1::2] < len(values)).all()
    np.testing.assert_allclose(implied_probabilities(table), probabilities, rtol=0, atol=2**-31)
    np.testing.assert_array_equal(table, build_alias(probabilities))


@pytest.mark.parametrize("power", [0.0, 0.75, 1.0])
def test_large_alias_table_is_exact_for_its_rare_words_too(power: float) -> None:
    probabilities = unigram_weights(1e9 / np.arange(1, 200_001), power)
    implied = implied_probabilities(build_alias(probabilities))
    np.testing.assert_allclose(implied, probabilities, rtol=0, atol=2**-31 / len(probabilities) * 2)


def test_alias_table_never_gives_a_word_without_weight() -> None:
    implied = implied_probabilities(build_alias(np.array([0.0, 0.5, 0.0, 0.5, 0.0])))
    assert implied[[0, 2, 4]].max() <= 2**-31


@pytest.mark.parametrize("power", [-0.5, math.nan, math.inf])
def test_impossible_power_is_refused(power: float) -> None:
    with pytest.raises(UserError, match="--power: found"):
        unigram_weights(np.array([1, 2]), power)


@pytest.mark.parametrize("values", [[], [0, 0], [3, -1]])
def test_vocabulary_without_a_count_is_refused(values: list[int]) -> None:
    with pytest.raises(UserError, match="vocabulary"):
        unigram_weights(np.array(values), 0.75)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 10**6), min_size=9, max_size=30),
    st.sampled_from(EXCLUDE),
    st.booleans(),
    st.integers(1, 7),
    st.integers(0, 2**32),
)
def test_draws_keep_off_the_excluded_words(
    values: list[int], exclude: str, distinct: bool, negatives: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    inputs, outputs = rng.integers(0, len(values), (2, 50))
    sampler = NegativeSampler(np.array(values), exclude=exclude, distinct=distinct, seed=seed)
    drawn = sampler.draw(inputs, outputs, negatives, key=(0, 0))
    assert drawn.shape == (50, negatives)
    assert drawn.dtype == np.int64
    assert drawn.min() >= 0
    assert drawn.max() < len(values)
    for row, input_id, output_id in zip(drawn.tolist(), inputs, outputs, strict=True):
        if exclude in ("input", "pair"):
            assert input_id not in row
        if exclude in ("output", "pair"):
            assert output_id not in row
        if distinct:
            assert len(set(row)) == negatives


@pytest.mark.parametrize("power", [0.0, 0.75, 1.0])
@pytest.mark.parametrize("exclude", EXCLUDE)
def test_draws_follow_the_weights_of_the_words_that_remain(power: float, exclude: str) -> None:
    values = np.array([500, 200, 100, 50, 20, 10, 5, 1])
    pairs = 40_000
    inputs, outputs = np.full(pairs, 1), np.full(pairs, 4)
    drawn = NegativeSampler(values, power=power, exclude=exclude, seed=3).draw(inputs, outputs, 3, key=(0, 0))
    weights = unigram_weights(values, power)
    weights[{"none": [], "output": [4], "input": [1], "pair": [1, 4]}[exclude]] = 0
    observed, expected = np.bincount(drawn.ravel(), minlength=8), weights / weights.sum() * drawn.size
    left = weights > 0
    assert (observed[~left] == 0).all()
    assert stats.chisquare(observed[left], expected[left]).pvalue > 0.001


def test_distinct_draws_are_successive_sampling() -> None:
    values = np.array([8, 4, 2, 1])
    pairs = 60_000
    nobody = np.zeros(pairs, np.int64)
    drawn = NegativeSampler(values, power=1, exclude="none", distinct=True).draw(nobody, nobody, 2, key=(0, 0))
    observed, expected = [], []
    for first, second in permutations(range(4), 2):
        observed.append(int(((drawn[:, 0] == first) & (drawn[:, 1] == second)).sum()))
        expected.append(pairs * values[first] / 15 * values[second] / (15 - values[first]))
    assert stats.chisquare(observed, expected).pvalue > 0.001


def test_one_word_with_nearly_all_the_mass_does_not_hold_up_distinct_draws() -> None:
    values = np.array([10**13, 1, 1, 1, 1])
    ids = np.zeros(1000, np.int64)
    drawn = NegativeSampler(values, power=1, exclude="none", distinct=True).draw(ids, ids, 5, key=(0, 0))
    np.testing.assert_array_equal(np.sort(drawn, axis=1), np.tile(np.arange(5), (1000, 1)))
    others = NegativeSampler(values, power=1, exclude="output", distinct=True).draw(ids, ids, 4, key=(0, 0))
    np.testing.assert_array_equal(np.sort(others, axis=1), np.tile(np.arange(1, 5), (1000, 1)))
    assert stats.chisquare(np.bincount(others[:, 0], minlength=5)[1:]).pvalue > 0.001


def test_draws_depend_on_seed_and_key_alone() -> None:
    values, ids = np.arange(1, 100), np.arange(50)
    sampler = NegativeSampler(values, seed=5)
    first = sampler.draw(ids, ids, 4, key=(1, 2))
    others = [sampler.draw(ids, ids, 4, key=key) for key in ((0, 2), (1, 1), (2, 1))]
    np.testing.assert_array_equal(first, NegativeSampler(values, seed=5).draw(ids, ids, 4, key=(1, 2)))
    others.append(NegativeSampler(values, seed=6).draw(ids, ids, 4, key=(1, 2)))
    assert len({array.tobytes() for array in [first, *others]}) == 5


@pytest.mark.parametrize(
    ("words", "exclude", "distinct", "negatives"),
    [(1, "output", False, 1), (2, "pair", False, 1), (5, "none", True, 6), (5, "output", True, 5)],
)
def test_too_small_a_vocabulary_is_refused(words: int, exclude: str, distinct: bool, negatives: int) -> None:
    ids = np.zeros(3, np.int64)
    with pytest.raises(UserError, match=rf"--exclude {exclude}: found a vocabulary of {words} words"):
        NegativeSampler(np.ones(words), exclude=exclude, distinct=distinct).draw(ids, ids, negatives, key=(0, 0))


def test_unknown_exclusion_is_refused() -> None:
    with pytest.raises(UserError, match="expected one of none, output, input, pair"):
        NegativeSampler(np.ones(5), exclude="word")


def test_import_needs_neither_torch_nor_numba() -> None:
    code = "import sys, trainer.engines.negatives; print([name for name in ('torch', 'numba') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


@pytest.mark.parametrize("exclude", EXCLUDE)
@pytest.mark.parametrize("power", [1e10, 1e300])
def test_a_power_that_leaves_too_few_words_is_named(exclude: str, power: float) -> None:
    counts_V = np.array([1000, 900, 800, 700, 5, 1, 0])
    for make in (
        lambda p: drawable_weights(counts_V, p, exclude),
        lambda p: NegativeSampler(counts_V, power=p, exclude=exclude),
    ):
        if exclude == "none":
            make(power)
            continue
        found = rf"^--power {re.escape(f'{power:g}')}: leaves 1 of 6 words .* for --exclude {exclude}; "
        with pytest.raises(UserError, match=found) as caught:
            make(power)
        works = re.search(r"powers up to about ([\d.]+) do that", str(caught.value))
        assert works is not None
        make(float(works[1]))


def test_words_of_equal_counts_stay_with_any_power() -> None:
    assert np.count_nonzero(drawable_weights(np.full(5, 3), 1e10, "pair")) == 5
    with pytest.raises(UserError, match="--exclude pair: found a vocabulary of 2 words"):
        drawable_weights(np.array([2, 1]), 0.75, "pair")
