"""CBOW: the CPU kernel and the reference against a line by line computation in float64, and the three mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from tests.trainer.engines.test_cpu_kernel import MISTAKES, PROCESSORS, Batch, Draws, distance, make_batch
from tests.trainer.engines.test_engines import COUNTS_V, make_config, some_pairs
from trainer.engines.base import pending_loss
from trainer.engines.choose import make_engine
from trainer.engines.init import initial_tables
from trainer.engines.kernels import MEAN_PAIRS
from trainer.engines.kernels.numba.cpu import SEGMENT_PAIRS
from trainer.engines.kernels.numba.shape import shape_for
from trainer.engines.model import CBOW
from trainer.engines.negatives import NegativeSampler
from trainer.errors import UserError

Tables = tuple[float, np.ndarray, np.ndarray]


def make_cbow(seed: int, runs: list[int], **changes: Any) -> Batch:
    return make_batch(seed, runs, architecture="cbow", **changes)


def oracle(batch: Batch, mistake: str = "") -> Tables:
    """Window after window as the formula has it, in float64; or with one of the classic mistakes. One segment."""
    settings, ids = batch.settings, batch.center
    inputs, outputs = batch.input_VD.astype(np.float64), batch.output_VD.astype(np.float64)
    pool_rows = next(2**n for n in range(6, 14) if 2**n >= 2 * settings["negatives"])
    drawn = Draws(batch.alias, settings["key"], 0, pool_rows if settings["sharing"] == "pool" else 0)
    fresh = Draws(batch.alias, settings["key"] + 1, 0)
    begin, losses = 0, []
    while begin < len(ids):
        end = begin + 1
        while end < len(ids) and ids[end] == ids[begin]:
            end += 1
        excluded = {int(ids[begin])} if settings["exclude"] == "output" else set()
        negatives, others = drawn.window(excluded, settings["negatives"]), fresh.window(excluded, settings["negatives"])
        rate = settings["learning_rate_start"]
        rate += (settings["learning_rate_end"] - rate) * begin / len(ids)
        words, before = batch.context[begin:end], outputs.copy()
        factor = 1 / len(words) if settings.get("mean", True) else 1.0
        row = factor * inputs[words].sum(axis=0)
        loss, change = 0.0, np.zeros_like(row)
        terms = [(1, int(ids[begin]), int(ids[begin]))]
        terms += [(0, n, m) for n, m in zip(negatives, others, strict=True) if n is not None]
        for label, word, other in terms:
            score = row @ before[word]
            loss += np.logaddexp(0, -score if label else score)
            gradient = special.expit(score) - label
            if mistake == "sign" and not label:
                gradient = -gradient
            outputs[word] -= rate * gradient * row
            source = outputs if mistake == "changed rows" else before
            change -= rate * gradient * source[other if mistake == "fresh negatives" and other is not None else word]
        np.add.at(inputs, words, factor * change)
        losses.append(loss)
        begin = end
    return float(np.mean(losses)) * len(ids), inputs, outputs


def assert_equal(batch: Batch, found: Tables) -> None:
    expected = oracle(batch)
    assert found[0] == pytest.approx(expected[0], rel=2e-6)
    largest = max(np.abs(expected[1] - batch.input_VD).max(), np.abs(expected[2] - batch.output_VD).max())
    for i in (1, 2):
        rounding = 2**-18 * np.abs(expected[i]).max()  # of rows that are added to many times
        np.testing.assert_allclose(found[i], expected[i], rtol=0, atol=1e-5 * largest + rounding)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(st.sampled_from([1, 1, 2, 3, 10, 40, 200]), min_size=1, max_size=6),
    st.sampled_from([1, 3, 8, 16, 17, 32, 100, 128]),
    st.sampled_from([1, 2, 5, 12]),
    st.sampled_from(["none", "output"]),
    st.sampled_from([3, 7, 40]),
    st.sampled_from(["window", "pool"]),
    st.booleans(),
    st.booleans(),
)
def test_step_equals_the_brute_force(
    seed: int, runs: list[int], dim: int, negatives: int, exclude: str, words: int, sharing: str, mean: bool,
    plain: bool,
) -> None:  # fmt: skip
    options = {"negatives": negatives, "exclude": exclude, "sharing": sharing, "mean": mean, "plain": plain}
    batch = make_cbow(
        seed, runs, dim=dim, words=words, learning_rate_start=0.003, learning_rate_end=0.001, **options
    )  # gentle, since sums of 200 rows are long
    assert_equal(batch, batch.train())


@pytest.mark.parametrize(("lanes", "registers"), PROCESSORS)
@pytest.mark.parametrize("negatives", [5, 13])
def test_step_is_the_same_on_any_processor(lanes: int, registers: int, negatives: int) -> None:
    for dim in (1, 4, 7, 8, 15, 16, 17, 31, 33, 64, 65, 100, 300):
        shape = shape_for(negatives + 1, lanes, registers)
        batch = make_cbow(dim, [1, 2, 3, 5, 10, 17, 33, 1], dim=dim, negatives=negatives, shape=shape)
        assert_equal(batch, batch.train())


def test_update_is_the_finite_difference_of_the_loss() -> None:
    batch = make_cbow(11, [6], words=9, dim=5, learning_rate_start=1.0, learning_rate_end=1.0)
    found = batch.train()
    for number, table in enumerate(("input_VD", "output_VD"), 1):
        gradient = np.zeros(found[number].shape)
        for index in np.ndindex(*gradient.shape):
            losses = []
            for sign in (1, -1):
                moved = {name: getattr(batch, name).astype(np.float64) for name in ("input_VD", "output_VD")}
                moved[table][index] += sign * 1e-5
                case = Batch(batch.center, batch.context, **moved, alias=batch.alias, settings=batch.settings)
                losses.append(oracle(case)[0] / 6)  # what is returned counts a window's loss for each pair
            gradient[index] = (losses[0] - losses[1]) / 2e-5
        assert np.abs(gradient).max() > 0.05
        np.testing.assert_allclose(getattr(batch, table) - found[number], gradient, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_classic_mistake_would_be_seen(mistake: str) -> None:
    batch = make_cbow(3, [6, 6, 1, 6])
    found = batch.train()
    assert distance(found, oracle(batch), batch) < 1e-5
    assert distance(found, oracle(batch, mistake), batch) > 1e-2


def test_fast_and_plain_loops_take_the_same_steps_over_many_segments() -> None:
    runs = [*np.random.default_rng(3).integers(1, 11, 9000).tolist(), 3 * MEAN_PAIRS]
    batch = make_cbow(6, runs, words=300, dim=20, sharing="pool", learning_rate_end=0.1)
    assert len(batch.center) > 2 * SEGMENT_PAIRS
    fast, plain = batch.train(), batch.train(plain=True)
    assert fast[0] == pytest.approx(plain[0], rel=1e-6)
    assert distance(fast, (plain[0], *(table.astype(np.float64) for table in plain[1:])), batch) < 1e-4


def test_a_pairs_own_input_cannot_be_excluded() -> None:
    with pytest.raises(ValueError, match="expected none or output"):
        make_cbow(1, [2]).train(exclude="pair")


@pytest.mark.parametrize("mean", [True, False])
def test_reference_loss_and_gradients_are_the_formulas(mean: bool) -> None:
    """Two windows, of three inputs and of one; a word twice in the first."""
    rng = np.random.default_rng(1)
    tables = [rng.normal(0, 0.7, (6, 4)) for _ in range(2)]
    input_B, window_B, output_W, negatives_WK = [1, 2, 1, 4], [0, 0, 0, 1], [0, 5], [[3, 2], [1, 0]]

    def loss(input_VD: np.ndarray, output_VD: np.ndarray) -> float:
        rows = [input_VD[[1, 2, 1]].sum(axis=0) / (3 if mean else 1), input_VD[4]]
        total = 0.0
        for row, word, negatives in zip(rows, output_W, negatives_WK, strict=True):
            total += np.logaddexp(0, -row @ output_VD[word]) + np.logaddexp(0, output_VD[negatives] @ row).sum()
        return float(total)

    model = CBOW((tables[0], tables[1]), mean=mean)
    found = model(*map(torch.tensor, (input_B, output_W, negatives_WK, window_B))).sum()
    assert found.item() == pytest.approx(loss(*tables), rel=1e-12)
    found.backward()
    for number, table in enumerate((model.input, model.output)):
        expected = np.zeros((6, 4))
        for place in np.ndindex(6, 4):
            moved = [[one.copy() for one in tables] for _ in range(2)]
            moved[0][number][place] += 1e-5
            moved[1][number][place] -= 1e-5
            expected[place] = (loss(*moved[0]) - loss(*moved[1])) / 2e-5
        assert table.weight.grad is not None
        np.testing.assert_allclose(table.weight.grad, expected, atol=1e-7)


def test_reference_engine_takes_a_window_as_one_step() -> None:
    """Batches are cut where windows end; the same windows with the same draws by hand."""
    config = make_config("reference", architecture="cbow", batch_size=4)
    center_B, context_B = some_pairs(10)
    tables = initial_tables("normal", len(COUNTS_V), config.dim, config.seed)
    inputs, outputs = (table.astype(np.float64) for table in tables)
    engine = make_engine(config, tables, COUNTS_V)
    loss = engine.step(center_B, context_B, lr_start=0.1, lr_end=0.1, key=7)
    sampler, total = NegativeSampler(COUNTS_V, seed=config.seed), 0.0
    for number, (start, end) in enumerate(((0, 6), (6, 10))):  # windows of three pairs
        words_W = center_B[start:end:3]
        negatives_WK = sampler.draw(words_W, words_W, config.negatives, key=(7, number))
        losses, old_in, old_out = [], inputs.copy(), outputs.copy()
        for w, word in enumerate(words_W):
            members = context_B[start + 3 * w : min(start + 3 * w + 3, end)]
            row = old_in[members].mean(axis=0)
            words = [word, *negatives_WK[w]]
            scores = old_out[words] @ row
            signs = np.where(np.arange(len(words)) == 0, -1, 1)
            losses.append(np.logaddexp(0, signs * scores).sum())
            gradients = special.expit(scores) - (signs < 0)
            np.subtract.at(outputs, words, 0.1 * gradients[:, None] * row)
            np.subtract.at(inputs, members, 0.1 * gradients @ old_out[words] / len(members))
        total += float(np.mean(losses)) * (end - start)
    assert loss == pytest.approx(total, rel=1e-5)
    for found, expected in zip(engine.tables(), (inputs, outputs), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_loss_falls(threads: int) -> None:
    config = make_config("fused", architecture="cbow", threads=threads)
    assert config.negative_sharing == "pool"
    engine = make_engine(config, initial_tables("word2vec", len(COUNTS_V), config.dim, 1), COUNTS_V)
    pairs = some_pairs(3000)
    first = engine.measure(*pairs, key=1)
    assert first == pytest.approx(4 * np.log(2) * 3000, rel=1e-3)  # as for each pair of skip-gram
    for key in range(20):
        engine.step(*pairs, lr_start=0.3, lr_end=0.3, key=key)
    pending_loss(engine)
    assert engine.measure(*pairs, key=1) < 0.95 * first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predict": "context"}, "--predict: found context with --architecture cbow, expected center"),
        ({"exclude": "pair"}, "--exclude: found pair with --architecture cbow, expected none or output"),
        ({"negative_sharing": "pair"}, "--negative-sharing: found pair with --architecture cbow"),
    ],
)
def test_what_has_no_meaning_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_config("fused", architecture="cbow", **changes)
