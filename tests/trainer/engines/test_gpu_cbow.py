"""CBOW's GPU kernel against a line by line computation and the CPU's: on a GPU, or else in Triton's interpreter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.support.triton_mode import DEVICE
from tests.trainer.engines import sgns_oracle as oracle
from tests.trainer.engines.sgns_oracle import Batch, make_batch
from tests.trainer.engines.test_gpu_kernel import Result, error, train

# isort: split
from trainer.engines.kernels import MEAN_PAIRS
from trainer.engines.kernels.numba import cpu
from trainer.engines.kernels.triton.launch import MEAN_ROWS, Sizes, choose_shape

MIXED = [1, 2, 10, MEAN_ROWS, 3, 10, 5, 40, MEAN_ROWS + 1, 1]


def shape_of(batch: Batch, negatives: int = 5) -> Sizes:
    return choose_shape(batch.input_VD.shape[1], negatives, architecture="cbow")


def assert_step(batch: Batch, negatives: int = 5, programs: int = 3) -> Result:
    """On a GPU, programs race; one program alone is the sequence that the oracle computes."""
    shape = shape_of(batch, negatives)
    found = train(batch, shape, programs if DEVICE.type == "cpu" else 1)
    expected = oracle.cbow_step(batch, shape)
    assert found[0] == pytest.approx(expected[0], rel=2e-6)
    assert error(found, expected, batch) < 1e-5
    return found


@pytest.mark.parametrize(("dim", "mean"), [(1, True), (3, False), (100, True), (128, False), (300, True)])
def test_a_step_is_the_computation_by_hand(dim: int, mean: bool) -> None:
    assert_step(make_batch(dim, MIXED, dim=dim, mean=mean))


@pytest.mark.parametrize("negatives", [1, 20])
def test_any_number_of_negatives(negatives: int) -> None:
    assert_step(make_batch(negatives, MIXED, dim=12), negatives)


@pytest.mark.parametrize("exclude", ["none", "output"])
def test_a_word_may_be_its_own_negative_unless_that_is_excluded(exclude: str) -> None:
    batch = make_batch(3, [2, 1, 4, 6], words=5, dim=4, exclude=exclude)
    drawn = oracle.negatives_of(batch, shape_of(batch), len(batch.center))
    assert any(batch.center[begin] in negatives for begin, _, negatives in drawn) == (exclude == "none")
    assert_step(batch)


def test_a_word_that_fills_its_window_gets_the_change_each_time() -> None:
    batch = make_batch(2, [9, 9], words=3, dim=6)
    batch.context[:] = 1
    assert_step(batch)


@pytest.mark.parametrize(
    ("runs", "programs"),
    [([1], 3), ([33], 5), ([MEAN_PAIRS, 5], 2), ([7, MEAN_PAIRS + 40, 3], 9)],
    ids=str,
)
def test_a_run_is_one_window_up_to_the_limit(runs: list[int], programs: int) -> None:
    """Wherever the programs' shares begin within it."""
    batch = replace(make_batch(11, runs, words=500, dim=2), rates=(2.0, 1.0))  # one of a thousand inputs moves little
    windows = [(begin, end) for begin, end, _ in oracle.negatives_of(batch, shape_of(batch), len(batch.center))]
    assert len(windows) == sum(-(-run // MEAN_PAIRS) for run in runs)
    assert_step(batch, 2, programs)


def test_no_window_is_lost_or_trained_twice() -> None:
    rng = np.random.default_rng(8)
    assert_step(make_batch(8, list(rng.integers(1, 11, 25)), words=30, dim=1), 2, programs=50)


@pytest.mark.parametrize("mean", [True, False])
def test_it_takes_the_cpu_kernels_steps(mean: bool) -> None:
    """Where one word has all the weight, both draw the same negatives."""
    batch = make_batch(5, [*MIXED, MEAN_PAIRS + 100], words=300, dim=20, mean=mean)
    batch.counts[:] = 1e-30
    batch.counts[7] = 1.0
    batch.center[:] += batch.center == 7
    batch = replace(batch, rates=(0.1, 0.05) if mean else (0.003, 0.001))  # the sum of a thousand rows is long
    shape = shape_of(batch)
    assert all(negatives == [7] * 5 for *_, negatives in oracle.negatives_of(batch, shape, len(batch.center)))
    tables = batch.input_VD.copy(), batch.output_VD.copy()
    loss = cpu.train_batch(
        batch.center, batch.context, *tables, batch.alias, negatives=5, architecture="cbow", mean=mean,
        learning_rate_start=batch.rates[0], learning_rate_end=batch.rates[1], key=1,
    )  # fmt: skip
    found = assert_step(batch)
    assert found[0] == pytest.approx(loss, rel=1e-5)
    assert error(found, (loss, *tables), batch) < 1e-4


def test_the_loss_does_not_depend_on_the_number_of_programs() -> None:
    batch = replace(make_batch(6, MIXED, words=200, dim=6), rates=(0.0, 0.0))
    losses = [train(batch, shape_of(batch), programs)[0] for programs in (1, 5)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-9)
    other = replace(batch, key=78)
    assert train(other, shape_of(other), 2)[0] != pytest.approx(losses[0], rel=1e-6)


@pytest.mark.parametrize("mistake", ["sign", "factor", "window"])
def test_the_mistakes_of_the_field_would_be_found(mistake: str) -> None:
    """Negatives' sign turned, the mean's factor left out, each pair a window: each is far outside the tolerance."""
    batch = make_batch(5, [6, 4], dim=8)
    expected, changes = oracle.cbow_step(batch, shape_of(batch)), dict[str, Any]()
    if mistake == "sign":
        changes["output_VD"] = -batch.output_VD
    if mistake == "factor":
        changes["settings"] = {"mean": False}
    if mistake == "window":
        changes["center"] = np.tile(batch.center[[0, -1]], 5)
    wrong = replace(batch, **changes)
    loss, input_VD, output_VD = train(wrong, shape_of(wrong))
    assert error((loss, input_VD, -output_VD if mistake == "sign" else output_VD), expected, batch) > 0.1


def test_nan_comes_out_as_nan() -> None:
    batch = make_batch(10, [4, 3], dim=4)
    batch.input_VD[batch.context[5]] = np.nan
    loss, input_VD, output_VD = train(batch, shape_of(batch))
    assert np.isnan(loss)
    assert np.isnan(input_VD).any()
    assert np.isnan(output_VD).any()


@pytest.mark.parametrize("score", [-100.0, 0.0, 100.0])
def test_scores_of_any_size(score: float) -> None:
    batch = make_batch(12, [2], dim=1)
    batch.input_VD[:], batch.output_VD[:] = score, 1.0
    assert_step(batch)


def test_tiles_hold_the_inputs_too() -> None:
    """With one negative there are fewer outputs than inputs on their way together."""
    few, usual = (choose_shape(2048, negatives, architecture="cbow") for negatives in (1, 5))
    assert few.warps == usual.warps > choose_shape(2048, 1).warps
    assert few.longest == cpu.MEAN_PAIRS == MEAN_PAIRS
