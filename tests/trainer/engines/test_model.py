"""The reference model against formulas, finite differences and the field's three classic mistakes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.engines.model import SGNS

Floats = npt.NDArray[np.float64]
MISTAKES = ("sign of the negatives", "changed rows", "fresh negatives")


@dataclass(frozen=True)
class Case:
    """Tables in float64, and pairs with their negatives."""

    input_VD: Floats
    output_VD: Floats
    input_B: npt.NDArray[np.int64]
    output_B: npt.NDArray[np.int64]
    negatives_BK: npt.NDArray[np.int64]

    def model(self) -> SGNS:
        return SGNS((self.input_VD, self.output_VD))  # type: ignore[arg-type]

    def loss(self, input_VD: Floats, output_VD: Floats) -> float:
        """Ten lines of the formula: the sum over pairs."""
        total = 0.0
        for i, o, negatives in zip(self.input_B, self.output_B, self.negatives_BK, strict=True):
            total += math.log1p(math.exp(-input_VD[i] @ output_VD[o]))
            total += sum(math.log1p(math.exp(input_VD[i] @ output_VD[n])) for n in negatives)
        return total

    def gradients(self) -> tuple[Floats, Floats]:
        model = self.model()
        model(*(torch.from_numpy(ids) for ids in (self.input_B, self.output_B, self.negatives_BK))).sum().backward()
        grads = [table.weight.grad for table in (model.input, model.output)]
        assert grads[0] is not None
        assert grads[1] is not None
        return grads[0].numpy(), grads[1].numpy()


def make_case(seed: int, pairs: int = 6, negatives: int = 3, words: int = 5, dim: int = 4) -> Case:
    rng = np.random.default_rng(seed)
    tables = rng.normal(0, 0.7, (2, words, dim))
    ids = [rng.integers(0, words, shape) for shape in (pairs, pairs, (pairs, negatives))]
    return Case(tables[0], tables[1], *ids)


def finite_differences(case: Case, step: float = 1e-5) -> tuple[Floats, Floats]:
    tables = [case.input_VD.copy(), case.output_VD.copy()]
    found = []
    for table in tables:
        gradient = np.zeros_like(table)
        for place in np.ndindex(table.shape):
            kept, losses = table[place], []
            for sign in (1, -1):
                table[place] = kept + sign * step
                losses.append(case.loss(*tables))
            table[place] = kept
            gradient[place] = (losses[0] - losses[1]) / (2 * step)
        found.append(gradient)
    return found[0], found[1]


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 4), st.integers(2, 5), st.integers(1, 4))
def test_loss_and_gradients_are_the_formulas(seed: int, pairs: int, negatives: int, words: int, dim: int) -> None:
    case = make_case(seed, pairs, negatives, words, dim)
    loss = case.model()(*map(torch.from_numpy, (case.input_B, case.output_B, case.negatives_BK))).sum()
    assert loss.item() == pytest.approx(case.loss(case.input_VD, case.output_VD), rel=1e-12)
    for found, expected in zip(case.gradients(), finite_differences(case), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-7)


def sgd_step(case: Case, rate: float, mistake: str = "") -> tuple[Floats, Floats]:
    """One step of stochastic gradient descent over all pairs, by hand; with one of the mistakes, if asked."""
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    old_in, old_out = case.input_VD, case.output_VD
    new_in, new_out = old_in.copy(), old_out.copy()
    others = np.random.default_rng(9).integers(0, len(old_in), case.negatives_BK.shape)
    for i, o, negatives, fresh in zip(case.input_B, case.output_B, case.negatives_BK, others, strict=True):
        for n, label in [(o, 1.0), *((n, 0.0) for n in negatives)]:
            g = sigmoid(old_in[i] @ old_out[n]) - label
            new_out[n] -= rate * (-g if mistake == "sign of the negatives" and label == 0 else g) * old_in[i]
        rows = new_out if mistake == "changed rows" else old_out
        for n, label in [(o, 1.0), *((n, 0.0) for n in (fresh if mistake == "fresh negatives" else negatives))]:
            g = sigmoid(old_in[i] @ old_out[n]) - label
            new_in[i] -= rate * g * rows[n]
    return new_in, new_out


def reference_step(case: Case, rate: float) -> tuple[Floats, Floats]:
    gradients = case.gradients()
    return case.input_VD - rate * gradients[0], case.output_VD - rate * gradients[1]


def test_a_step_is_the_one_done_by_hand() -> None:
    case = make_case(4)
    for found, expected in zip(reference_step(case, 0.1), sgd_step(case, 0.1), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_classic_mistake_would_be_seen(mistake: str) -> None:
    case = make_case(4)
    found, wrong = reference_step(case, 0.1), sgd_step(case, 0.1, mistake)
    assert max(np.abs(one - other).max() for one, other in zip(found, wrong, strict=True)) > 1e-3


def test_sparse_gradients_are_the_dense_ones() -> None:
    case = make_case(7)
    ids = [torch.from_numpy(array) for array in (case.input_B, case.output_B, case.negatives_BK)]
    found = []
    for sparse in (False, True):
        model = SGNS((case.input_VD, case.output_VD), sparse=sparse)  # type: ignore[arg-type]
        model(*ids).sum().backward()
        grads = [table.weight.grad for table in (model.input, model.output)]
        found.append([grad.to_dense().numpy() for grad in grads if grad is not None])
        assert len(found[-1]) == 2
    for dense, thin in zip(*found, strict=True):
        np.testing.assert_allclose(thin, dense, atol=1e-12)


def test_rows_of_zero_cost_k_plus_one_times_ln_2() -> None:
    model = SGNS((np.ones((3, 2), np.float32), np.zeros((3, 2), np.float32)))
    loss_B = model(torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([[2, 0, 0], [1, 1, 0]]))
    assert loss_B.tolist() == pytest.approx([4 * math.log(2)] * 2)
