"""The GPU kernel against a line by line computation: on a GPU where there is one, otherwise in Triton's interpreter."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.support.triton_mode import DEVICE
from tests.trainer.engines import sgns_oracle as oracle
from tests.trainer.engines.sgns_oracle import Batch, make_batch

# isort: split
import torch

from trainer.config import EXCLUDE
from trainer.engines.kernels.triton.launch import ARITHMETIC, Launcher, Sizes, alias_tensor, choose_shape
from trainer.engines.kernels.triton.skipgram import SEGMENT_PAIRS
from trainer.engines.kernels.triton.step import MAX_REDRAWS
from trainer.errors import UserError

Result = tuple[float, np.ndarray, np.ndarray]
MIXED = [1, 2, 10, 6, 3, 10, 5, 40, 6, 7, 1]  # windows of up to 10 pairs, and a run longer than the tile


def shape_of(batch: Batch, negatives: int = 5, arithmetic: str = "fp32") -> Sizes:
    per_pair = batch.settings.get("predict") == "context"
    return choose_shape(batch.input_VD.shape[1], negatives, per_pair=per_pair, arithmetic=arithmetic)


def train(batch: Batch, shape: Sizes, programs: int = 3, **changes: Any) -> Result:
    """The kernel on copies of a batch's tables."""
    input_VD, output_VD = (torch.from_numpy(t.copy()).to(DEVICE) for t in (batch.input_VD, batch.output_VD))
    alias = alias_tensor(batch.alias, DEVICE)
    launcher = Launcher((input_VD, output_VD), alias, shape, programs=programs, **batch.settings)
    loss_P = torch.full((programs,), torch.nan, dtype=torch.float64, device=DEVICE)
    ids = (torch.from_numpy(ids).to(DEVICE) for ids in (batch.center, batch.context))
    launcher.launch(*ids, loss_P, key=batch.key, rate_start=batch.rates[0], rate_end=batch.rates[1], **changes)
    return float(loss_P.sum()), input_VD.cpu().numpy(), output_VD.cpu().numpy()


def error(found: Result, expected: Result, batch: Batch) -> float:
    """The largest error of an entry, relative to the largest change of the step; less the rounding of the rows."""
    tables = (batch.input_VD, batch.output_VD)
    change = max(np.abs(new - old).max() for new, old in zip(expected[1:], tables, strict=True))
    wrong = max(
        (np.abs(one - other) - 2**-22 * np.abs(other)).max() for one, other in zip(found[1:], expected[1:], strict=True)
    )
    return float(wrong / change)


def assert_step(batch: Batch, negatives: int = 5, arithmetic: str = "fp32", programs: int = 3) -> None:
    """On a GPU, programs race; one program alone is the sequence that the oracle computes."""
    shape = shape_of(batch, negatives, arithmetic)
    found = train(batch, shape, programs if DEVICE.type == "cpu" else 1)
    expected = oracle.step(batch, shape, SEGMENT_PAIRS)
    tight = arithmetic == "fp32"
    assert found[0] == pytest.approx(expected[0], rel=2e-6 if tight else 5e-3)
    assert error(found, expected, batch) < (1e-5 if tight else 3e-2)


@pytest.mark.parametrize("dim", [1, 3, 100, 128, 300])
def test_a_step_is_the_computation_by_hand(dim: int) -> None:
    assert_step(make_batch(dim, MIXED, dim=dim))


@pytest.mark.parametrize("negatives", [1, 20])
def test_any_number_of_negatives(negatives: int) -> None:
    assert_step(make_batch(negatives, MIXED, dim=12), negatives)


@pytest.mark.parametrize("predict", ["center", "context"])
@pytest.mark.parametrize("exclude", EXCLUDE)
def test_every_choice_of_excluded_words(predict: str, exclude: str) -> None:
    batch = make_batch(3, [2, 1, 4, 6], words=5, dim=4, predict=predict, exclude=exclude)
    for arithmetic in ARITHMETIC:
        assert_step(batch, arithmetic=arithmetic)


def test_negatives_of_each_pair_alone() -> None:
    batch = make_batch(13, [3, 1, 5], words=6, dim=4, exclude="pair")
    shape = choose_shape(4, 5, per_pair=True)
    assert shape.longest == 1
    expected = oracle.step(batch, shape, SEGMENT_PAIRS)
    assert error(train(batch, shape, 1), expected, batch) < 1e-5


@pytest.mark.parametrize("dim", [3, 100, 300])
def test_bfloat16_is_near(dim: int) -> None:
    assert_step(make_batch(dim, MIXED, dim=dim), arithmetic="bf16")


@pytest.mark.parametrize("runs", [[1], [1] * 40, [10], [32], [33], [150]], ids=str)
def test_windows_of_every_length(runs: list[int]) -> None:
    assert_step(make_batch(11, runs, dim=5))


def test_a_word_that_fills_its_window() -> None:
    """All gradients are taken from the rows as they were, and each repetition is added."""
    batch = make_batch(2, [9, 9], words=3, dim=6)
    batch.context[:] = 1
    assert_step(batch)
    assert_step(batch, arithmetic="bf16")


def test_a_word_that_holds_nearly_all_the_weight_is_left_out() -> None:
    batch = make_batch(4, [3, 3], words=2, dim=4)
    batch.center[:] = 0
    batch.counts[:] = 1e12, 1
    shape = shape_of(batch)
    draws = [negatives for *_, negatives in oracle.negatives_of(batch, shape, SEGMENT_PAIRS)]
    assert None in draws[0]
    assert oracle.MAX_REDRAWS == MAX_REDRAWS
    assert_step(batch)


def test_the_mistakes_of_the_field_would_be_found() -> None:
    """A step with the negatives' sign turned is far outside the tolerance."""
    batch = make_batch(5, [6, 4], dim=8)
    shape = shape_of(batch)
    expected = oracle.step(batch, shape, SEGMENT_PAIRS)
    turned = Batch(batch.center, batch.context, batch.input_VD, -batch.output_VD, batch.counts, batch.key)
    loss, input_VD, output_VD = train(turned, shape)
    assert error((loss, input_VD, -output_VD), expected, batch) > 0.1


def test_draws_do_not_depend_on_the_number_of_programs() -> None:
    """At rate 0 the loss is that of the draws alone; with uncommon rows any other draw would show."""
    batch = make_batch(6, MIXED, words=200, dim=6)
    still = Batch(batch.center, batch.context, batch.input_VD, batch.output_VD, batch.counts, 77, (0.0, 0.0))
    losses = [train(still, shape_of(still), programs)[0] for programs in (1, 5)]
    assert losses[1:] == pytest.approx(losses[:1], rel=1e-9)
    other = Batch(batch.center, batch.context, batch.input_VD, batch.output_VD, batch.counts, 78, (0.0, 0.0))
    assert train(other, shape_of(other), 2)[0] != pytest.approx(losses[0], rel=1e-6)


def counted(batch: Batch, side: str, negatives: int, programs: int) -> tuple[np.ndarray, float]:
    """What a batch touches: how often each row of a table stands in a term as input or negative, and the pairs.

    With D = 1, a table of zeros on the counted side, one of ones on the other, and a rate so small that the scores
    stay near 0, each term changes the row that it meets in the table of zeros by rate/2.
    """
    words, half = len(batch.counts), 1e-8
    ones, zeros = np.ones((words, 1), np.float32), np.zeros((words, 1), np.float32)
    tables = (zeros, ones) if side == "input" else (ones, zeros)
    still = Batch(batch.center, batch.context, *tables, batch.counts, batch.key, (2 * half, 2 * half))
    loss, input_VD, output_VD = train(still, choose_shape(1, negatives), programs)
    pairs = loss / ((1 + negatives) * np.log(2))
    if side == "input":  # each pair adds 1 − K to its row
        return np.rint(-input_VD[:, 0] / (half * (negatives - 1))), pairs
    # Each pair adds 1 to its word's row and takes 1 from each negative's.
    return np.rint(np.bincount(batch.center, minlength=words) - output_VD[:, 0] / half), pairs


def test_no_pair_is_lost_or_trained_twice() -> None:
    """Windows cross the borders of segments and of programs; rows and losses count each pair once."""
    rng = np.random.default_rng(8)
    batch = make_batch(8, list(rng.integers(1, 11, 60)), words=30)
    for programs in (1, 64):
        seen, pairs = counted(batch, "input", 2, programs)
        np.testing.assert_array_equal(seen, np.bincount(batch.context, minlength=30))
        assert pairs == pytest.approx(batch.center.size, rel=1e-6)


def test_negatives_come_by_count_to_the_power() -> None:
    """Chi-square over one-pair windows of two words that are rare; every window draws K of the other words."""
    words, negatives, windows = 20, 30, 200
    batch = make_batch(9, [1] * windows, words=words)
    batch.center[:] = np.tile([words - 1, words - 2], windows // 2)
    drawn, _ = counted(batch, "output", negatives, 4)
    weights, expected = batch.counts**0.75, np.zeros(words)
    for word in (words - 1, words - 2):
        allowed = np.where(np.arange(words) == word, 0, weights)
        expected += windows / 2 * negatives * allowed / allowed.sum()
    assert drawn.sum() == windows * negatives
    assert stats.chisquare(drawn, expected).pvalue > 1e-3


def test_nan_comes_out_as_nan() -> None:
    batch = make_batch(10, [4, 3], dim=4)
    batch.input_VD[batch.context[5]] = np.nan
    for arithmetic in ARITHMETIC:
        loss, input_VD, output_VD = train(batch, shape_of(batch, arithmetic=arithmetic))
        assert np.isnan(loss)
        assert np.isnan(input_VD).any()
        assert np.isnan(output_VD).any()


@pytest.mark.parametrize("score", [-100.0, -5.0, 0.0, 5.0, 100.0])
def test_scores_of_any_size(score: float) -> None:
    batch = make_batch(12, [2], dim=1)
    batch.input_VD[:], batch.output_VD[:] = score, 1.0
    assert_step(batch)


@pytest.mark.parametrize(
    ("dim", "negatives", "arithmetic"), [*itertools.product([1, 64, 300, 2048], [1, 5, 20], ARITHMETIC)]
)
def test_tiles_hold_the_model(dim: int, negatives: int, arithmetic: str) -> None:
    if dim == 2048 and (negatives == 20 or arithmetic == "bf16"):
        with pytest.raises(UserError, match=f"--device cuda: found --dim {dim} with --negatives {negatives}, "):
            choose_shape(dim, negatives, arithmetic=arithmetic)
        return
    shape = choose_shape(dim, negatives, arithmetic=arithmetic)
    assert shape.columns * shape.slices >= dim
    assert shape.outputs > negatives
    assert shape.tile >= shape.longest
    assert all(number & (number - 1) == 0 for number in (shape.tile, shape.outputs, shape.columns, shape.warps))
    assert shape.slices <= 5
