"""The learning rate over a run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import SCHEDULES
from trainer.training.schedule import learning_rate


def test_linear_is_word2vecs() -> None:
    assert learning_rate("linear", 0.025, 0.0) == 0.025
    assert learning_rate("linear", 0.025, 0.25) == pytest.approx(0.025 * 0.75)
    assert learning_rate("linear", 0.025, 1.0) == pytest.approx(0.025 * 1e-4)


def test_cosine_falls_slowly_at_both_ends() -> None:
    rates = [learning_rate("cosine", 1.0, fraction, floor=0.0) for fraction in (0.0, 0.1, 0.5, 0.9, 1.0)]
    assert rates == pytest.approx([1.0, 0.975528, 0.5, 0.024472, 0.0], abs=1e-6)


def test_constant_stays() -> None:
    assert learning_rate("constant", 0.1, 0.9) == 0.1


@given(st.sampled_from(SCHEDULES), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_it_never_rises_and_keeps_to_its_limits(schedule: str, one: float, other: float, floor: float) -> None:
    early, late = (learning_rate(schedule, 0.5, fraction, floor) for fraction in sorted((one, other)))
    assert 0.5 * (1 + 1e-12) >= early >= late - 1e-12
    assert late >= 0.5 * floor * (1 - 1e-12)
