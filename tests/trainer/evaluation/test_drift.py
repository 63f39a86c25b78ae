"""Drift, maps and histories, against what was planted."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.dataset.vocabulary import make_vocabulary
from trainer.evaluation.drift import measure_drift
from trainer.models.store import Model
from trainer.reports.words import frequency_section, project
from trainer.vectors.search import unit_rows


def model_of(tokens: list[str], table: np.ndarray) -> Model:
    vocabulary = make_vocabulary(tokens, range(len(tokens) + 10, 10, -1))
    return Model(table.astype(np.float32), np.zeros_like(table, np.float32), vocabulary, {})


def turn(dim: int, seed: int) -> np.ndarray:
    orthogonal, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))
    return orthogonal


def test_words_that_were_moved_are_found_through_a_rotation() -> None:
    rng = np.random.default_rng(3)
    tokens = [f"w{number}" for number in range(400)]
    old = unit_rows(rng.standard_normal((400, 12)).astype(np.float32))
    now = old @ turn(12, 4) * rng.uniform(0.5, 2, (400, 1))  # lengths do not matter
    now[[3, 57, 123]] = -now[[3, 57, 123]]  # the first is one of the 20 function words
    drift = measure_drift(model_of(tokens, old), model_of(tokens, now), most=2)
    assert drift is not None
    assert sorted(one.token for one in drift.moved) == ["w123", "w57"]
    assert all(one.cosine < -0.9 for one in drift.moved)
    assert np.median(drift.cosines_N) > 0.99
    assert (drift.new, drift.gone) == (0, 0)
    similar = (unit_rows(old) @ unit_rows(old)[57]).argsort()[::-1][1:4]
    assert next(one for one in drift.moved if one.token == "w57").before == tuple(f"w{row}" for row in similar)


def test_only_common_words_are_compared_whatever_their_ids() -> None:
    table = np.random.default_rng(5).standard_normal((50, 6))
    old = model_of([f"w{i}" for i in range(50)], table)
    # Those of ids 10 to 49 in reverse order and at other places, behind eleven new ones.
    tokens = [*(f"x{i}" for i in range(11)), *(f"w{i}" for i in range(49, 9, -1))]
    now = model_of(tokens, np.vstack([table[:11], table[:9:-1]]))
    drift = measure_drift(old, now)
    assert drift is not None
    assert len(drift.cosines_N) == 40
    np.testing.assert_allclose(drift.cosines_N, 1, atol=1e-5)
    assert (drift.new, drift.gone) == (11, 10)
    assert measure_drift(old, model_of(["x"], table[:1])) is None
    assert measure_drift(old, model_of(["w1"], table[:1, :3])) is None


@pytest.mark.parametrize("size", [1, 2, 3, 9, 10, 11, 40])
def test_a_map_of_few_words_is_finite(size: int) -> None:
    for vectors in (np.random.default_rng(size).standard_normal((size, 5)), np.zeros((size, 5)), np.ones((size, 1))):
        places = project(unit_rows(vectors.astype(np.float32)))
        assert np.isfinite(places).all()
        assert places.shape == (size, 2)


def test_the_nearest_of_a_word_is_another_one_whatever_its_frequency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.reports.words._SEARCHED", 50)  # of 100 words, so that a band is partly among them
    angles = np.repeat(np.arange(50), 2) * 0.01 + np.tile([0.0, 0.001], 50)
    table = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    [norms, nearest] = frequency_section(model_of([f"w{number}" for number in range(100)], table * 3)).blocks
    assert {row[1] for row in norms.table.rows} == {"3.000"}
    rows = nearest.spec["data"]["values"]
    assert all(0.8 < row["cosine"] < 1 for row in rows)
    assert rows[0]["cosine"] == pytest.approx(np.cos(0.001), abs=1e-7)


def test_groups_stay_together_and_nothing_is_left_to_chance() -> None:
    rng = np.random.default_rng(7)
    centers = rng.standard_normal((5, 20)) * 4
    vectors = np.repeat(centers, 30, axis=0) + rng.standard_normal((150, 20)) * 0.5
    units = unit_rows(vectors.astype(np.float32))
    places = project(units)
    np.testing.assert_array_equal(places, project(units.copy()))
    distances = np.linalg.norm(places[:, None] - places, axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argsort(axis=1)[:, :10]
    assert (nearest // 30 == np.arange(150)[:, None] // 30).mean() > 0.98
