"""Alignment: SciPy's orthogonal Procrustes as the oracle, and what a rotation must leave as it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes

from pipeline.dataset.vocabulary import make_vocabulary
from trainer.evaluation.align import align, common_rows, rotation, turn
from trainer.models.store import Model
from trainer.vectors.search import unit_rows

INFO = {"config": {}, "lineage": {}, "metrics": {}}


def make_model(tokens: list[str], seed: int, dim: int = 6, counts: list[int] | None = None) -> Model:
    tables = np.random.default_rng(seed).standard_normal((2, len(tokens), dim)).astype(np.float32)
    counts = counts or list(range(len(tokens), 0, -1))
    return Model(tables[0], tables[1], make_vocabulary(tokens, counts), INFO)


def random_rotation(dim: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0]


@given(rows=st.integers(1, 40), dim=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=80, deadline=None)
def test_the_rotation_is_as_good_as_scipys(rows: int, dim: int, seed: int) -> None:
    source, target = np.random.default_rng(seed).standard_normal((2, rows, dim))
    found, (expected, _) = rotation(source, target), orthogonal_procrustes(source, target)
    np.testing.assert_allclose(found @ found.T, np.eye(dim), atol=1e-10)
    assert np.linalg.norm(source @ found - target) == pytest.approx(np.linalg.norm(source @ expected - target))
    if rows >= dim:  # otherwise there are many that are equally good
        np.testing.assert_allclose(found, expected, atol=1e-6)


@given(seed=st.integers(0, 2**32 - 1), dim=st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_a_model_that_was_turned_comes_back(seed: int, dim: int) -> None:
    old = make_model([f"w{i}" for i in range(30)], seed, dim)
    away = random_rotation(dim, seed)
    turned = Model(turn(old.input_VD, away), turn(old.output_VD, away), old.vocabulary, INFO)
    found, words = align(turned, old, 20)
    assert words == 20
    np.testing.assert_allclose(found.input_VD, old.input_VD, atol=1e-4)
    np.testing.assert_allclose(found.output_VD, old.output_VD, atol=1e-4)


def test_products_stay_and_new_words_turn_along() -> None:
    old = make_model([f"w{i}" for i in range(20)], 1)
    new = make_model([f"w{i}" for i in range(25, 4, -1)], 2)
    found, words = align(new, old, 50_000)
    assert words == 15
    np.testing.assert_allclose(found.input_VD @ found.output_VD.T, new.input_VD @ new.output_VD.T, atol=1e-5)
    assert not np.allclose(found.input_VD, new.input_VD)
    old_rows, new_rows = common_rows(old, new)
    expected, _ = orthogonal_procrustes(unit_rows(new.input_VD[new_rows]), unit_rows(old.input_VD[old_rows]))
    np.testing.assert_allclose(found.input_VD, new.input_VD @ expected, atol=1e-4)


def test_common_words_come_by_the_old_models_counts() -> None:
    old = make_model(["a", "b", "c", "d"], 1, counts=[1, 9, 5, 7])
    new = make_model(["x", "d", "c", "b"], 2, counts=[9, 8, 7, 6])
    found = common_rows(old, new, 2)
    assert [old.vocabulary.token(int(row)) for row in found[0]] == ["b", "d"]
    assert [new.vocabulary.token(int(row)) for row in found[1]] == ["b", "d"]


@pytest.mark.parametrize("new", [make_model(["a", "b", "x"], 2, 4), make_model([f"w{i}" for i in range(9)], 2, 3)])
def test_too_few_common_words_or_another_size_leave_the_model_as_it_is(new: Model) -> None:
    old = make_model([f"w{i}" for i in range(9)], 1, 4)
    assert align(new, old, 100) == (new, 0)
