"""The fused CPU kernel against a line by line computation in float64 and the field's three classic mistakes."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from trainer.config import EXCLUDE
from trainer.engines.kernels.numba import cpu, draws
from trainer.engines.kernels.numba.arguments import SHARING
from trainer.engines.kernels.numba.cpu import SEGMENT_PAIRS, TILE_PAIRS, train_batch
from trainer.engines.kernels.numba.shape import shape_for
from trainer.engines.negatives import build_alias, unigram_weights
from trainer.errors import UserError

WORD = 2**64
GOLDEN = 0x9E3779B97F4A7C15
MISTAKES = ("sign", "changed rows", "fresh negatives")
# Floats of a vector and vector registers: SSE, NEON, AVX, AVX-512. LLVM makes do with what this processor has.
PROCESSORS = [(4, 16), (4, 32), (8, 16), (16, 32)]


@dataclass(frozen=True)
class Batch:
    """Pairs, tables and settings of one call."""

    center: np.ndarray
    context: np.ndarray
    input_VD: np.ndarray
    output_VD: np.ndarray
    alias: np.ndarray
    settings: dict[str, Any]

    def train(self, **changes: Any) -> tuple[float, np.ndarray, np.ndarray]:
        """Run the kernel on copies of the tables."""
        tables = self.input_VD.copy(), self.output_VD.copy()
        return train_batch(self.center, self.context, *tables, self.alias, **{**self.settings, **changes}), *tables


def make_batch(
    seed: int, runs: list[int], *, words: int = 40, dim: int = 8, scale: float = 0.6, **changes: Any
) -> Batch:
    """A batch with runs of these lengths; few words, so that ids repeat within windows."""
    rng = np.random.default_rng(seed)
    center = np.repeat(rng.integers(0, words, len(runs)), runs).astype(np.int32)
    context = rng.integers(0, words, center.size).astype(np.int32)
    tables = (rng.normal(0, scale, (2, words, dim)) / math.sqrt(dim)).astype(np.float32)
    settings = {
        "negatives": 5,
        "predict": "center",
        "exclude": "output",
        "learning_rate_start": 0.1,
        "learning_rate_end": 0.02,
        "key": seed,
        "threads": 1,
        "sharing": "window",
    }
    alias = build_alias(unigram_weights(1000 / np.arange(1, words + 1), 0.75))
    return Batch(center, context, tables[0], tables[1], alias, {**settings, **changes})


def mix(word: int) -> int:
    """SplitMix64's finaliser."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % WORD
    return word ^ (word >> 31)


class Draws:
    """One segment's negatives, in Python's integers."""

    def __init__(self, alias: np.ndarray, key: int, segment: int, pool_rows: int = 0) -> None:
        self.alias = alias.tolist()
        self.state = mix((mix(key) + segment) % WORD)
        self.pool_state = mix(self.state ^ int.from_bytes(b"pool", "big"))
        self.pool = [self.choose(mix((self.pool_state + turn * GOLDEN) % WORD)) for turn in range(pool_rows)]
        self.turn = pool_rows

    def choose(self, word: int) -> int:
        """The id that 64 random bits stand for."""
        column = (word >> 32) * (len(self.alias) // 2) >> 32
        return column if word % 2**32 < self.alias[2 * column] else self.alias[2 * column + 1]

    def window(self, excluded: set[int], negatives: int) -> list[int | None]:
        """All negatives of a window."""
        if not self.pool:
            return [self.draw(excluded) for _ in range(negatives)]
        self.pool[self.turn % len(self.pool)] = self.choose(mix((self.pool_state + self.turn * GOLDEN) % WORD))
        self.turn += 1
        self.state = (self.state + GOLDEN) % WORD
        slot, step = mix(self.state) >> 32, mix(self.state) % 2**31 | 1
        taken = [self.pool[(slot + k * step) % len(self.pool)] for k in range(1, negatives + 1)]
        return [self.draw(excluded) if word in excluded else word for word in taken]

    def draw(self, excluded: set[int]) -> int | None:
        """A word that is not excluded; None after too many attempts."""
        for _ in range(draws.MAX_REDRAWS):
            self.state = (self.state + GOLDEN) % WORD
            chosen = self.choose(mix(self.state))
            if chosen not in excluded:
                return chosen
        return None


def tiles(batch: Batch, exclude: str) -> Iterator[tuple[int, int, list[int | None], list[int | None]]]:
    """Begin, end, negatives of each tile, and other negatives (for the mistake of drawing twice)."""
    window_mode, sharing = batch.settings["predict"] == "center", batch.settings["sharing"]
    longest = TILE_PAIRS if window_mode and sharing != "pair" else 1
    negatives = batch.settings["negatives"]
    pool_rows = next(2**n for n in range(6, 14) if 2**n >= 2 * negatives) if sharing == "pool" else 0
    ids, others = (batch.center, batch.context) if window_mode else (batch.context, batch.center)
    size = len(ids)
    cuts = [0]
    for nominal in range(SEGMENT_PAIRS, size, SEGMENT_PAIRS):
        near = range(nominal, min(nominal + longest, size))
        cuts.append(next((pair for pair in near if ids[pair] != ids[pair - 1]), nominal))
    for segment, (begin, stop) in enumerate(zip(cuts, [*cuts[1:], size], strict=True)):
        drawn = Draws(batch.alias, batch.settings["key"], segment, pool_rows)
        fresh = Draws(batch.alias, batch.settings["key"] + 1, segment)
        while begin < stop:
            end = begin + 1
            while end < min(stop, begin + longest) and ids[end] == ids[begin]:
                end += 1
            excluded = {int(ids[begin])} if exclude in ("output", "pair") else set()
            if exclude in ("input", "pair") and longest == 1:
                excluded.add(int(others[begin]))
            yield begin, end, drawn.window(excluded, negatives), fresh.window(excluded, negatives)
            begin = end


def oracle(batch: Batch, mistake: str = "") -> tuple[float, np.ndarray, np.ndarray]:
    """The step as the textbooks write it, in float64; or with one of the classic mistakes."""
    settings, size = batch.settings, len(batch.center)
    inputs, outputs = batch.input_VD.astype(np.float64), batch.output_VD.astype(np.float64)
    loss = 0.0
    for begin, end, negatives, fresh in tiles(batch, settings["exclude"]):
        rate = settings["learning_rate_start"]
        rate += (settings["learning_rate_end"] - rate) * begin / size
        old_inputs, old_outputs = inputs.copy(), outputs.copy()
        pairs = list(zip(batch.center[begin:end], batch.context[begin:end], strict=True))
        if settings["predict"] == "center":
            pairs = [(context, center) for center, context in pairs]
        for input_id, output_id in pairs:
            masked = input_id if settings["exclude"] in ("input", "pair") else None
            terms = [(1, output_id, output_id)]
            terms += [(0, n, m) for n, m in zip(negatives, fresh, strict=True) if n is not None and n != masked]
            for label, word, other in terms:
                score = old_inputs[input_id] @ old_outputs[word]
                loss += np.logaddexp(0, -score if label else score)  # −log σ(±score)
                gradient = special.expit(score) - label
                if mistake == "sign" and not label:
                    gradient = -gradient
                if mistake == "fresh negatives":
                    word = other
                outputs[word] -= rate * gradient * old_inputs[input_id]
                source = outputs if mistake == "changed rows" else old_outputs
                inputs[input_id] -= rate * gradient * source[word]
    return loss, inputs, outputs


def distance(found: tuple[float, np.ndarray, np.ndarray], expected: Any, batch: Batch) -> float:
    """The largest error of a table's entry, relative to the largest change of the step."""
    errors = [np.abs(found[i] - expected[i]).max() for i in (1, 2)]
    changes = [np.abs(expected[i] - old).max() for i, old in ((1, batch.input_VD), (2, batch.output_VD))]
    return float(max(errors) / max(changes))


def assert_equal(batch: Batch, found: tuple[float, np.ndarray, np.ndarray]) -> None:
    expected = oracle(batch)
    assert found[0] == pytest.approx(expected[0], rel=2e-6)
    largest_change = max(np.abs(expected[1] - batch.input_VD).max(), np.abs(expected[2] - batch.output_VD).max())
    for i in (1, 2):
        rounding = 2**-21 * np.abs(expected[i]).max()  # of the rows themselves, in float32
        np.testing.assert_allclose(found[i], expected[i], rtol=0, atol=1e-5 * largest_change + rounding)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(st.sampled_from([1, 1, 2, 3, 10, 200]), min_size=1, max_size=6),
    st.sampled_from([1, 3, 8, 16, 17, 100, 128]),
    st.sampled_from([1, 2, 5, 12]),
    st.sampled_from(["center", "context"]),
    st.sampled_from(EXCLUDE),
    st.sampled_from([3, 7, 40]),
    st.sampled_from(SHARING),
    st.booleans(),
)
def test_step_equals_the_brute_force(
    seed: int, runs: list[int], dim: int, negatives: int, predict: str, exclude: str, words: int, sharing: str,
    plain: bool,
) -> None:  # fmt: skip
    options = {"negatives": negatives, "predict": predict, "exclude": exclude, "sharing": sharing, "plain": plain}
    # A gentle rate: on three words a run of 200 at a steep one swings, and rounding grows with it.
    batch = make_batch(seed, runs, dim=dim, words=words, learning_rate_start=0.03, learning_rate_end=0.01, **options)
    assert_equal(batch, batch.train())


@pytest.mark.parametrize(("lanes", "registers"), PROCESSORS)
@pytest.mark.parametrize("negatives", [1, 5, 6])
def test_step_is_the_same_on_any_processor(lanes: int, registers: int, negatives: int) -> None:
    """Vectors of every length, rows that fill them and rows that do not, windows of every height, repeats in them."""
    shape = shape_for(negatives + 1, lanes, registers)
    for dim in (1, 3, 4, 7, 8, 15, 16, 17, 24, 31, 32, 33, 48, 50, 100):
        runs = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 16, 17, 31, 33, 1]
        batch = make_batch(
            dim, runs, dim=dim, negatives=negatives, exclude="none", learning_rate_start=0.03, shape=shape
        )
        assert_equal(batch, batch.train())


@pytest.mark.parametrize(("lanes", "registers"), PROCESSORS)
def test_repeated_words_of_a_window_take_the_gradients_of_the_rows_before(lanes: int, registers: int) -> None:
    """Three words only: contexts, negatives and the window's word are equal to each other again and again."""
    for seed, exclude in enumerate(EXCLUDE):
        shape = shape_for(10, lanes, registers)
        batch = make_batch(seed, [10, 10, 2, 20], words=3, dim=20, negatives=9, exclude=exclude, shape=shape)
        assert_equal(batch, batch.train())


@pytest.mark.parametrize("sharing", SHARING)
@pytest.mark.parametrize("predict", ["center", "context"])
def test_fast_and_plain_loops_take_the_same_steps(sharing: str, predict: str) -> None:
    runs = np.random.default_rng(3).integers(1, 11, 9000).tolist()
    batch = make_batch(6, runs, words=300, dim=20, predict=predict, sharing=sharing, learning_rate_end=0.1)
    fast, plain = batch.train(), batch.train(plain=True)
    assert fast[0] == pytest.approx(plain[0], rel=1e-6)
    assert distance(fast, (plain[0], *(table.astype(np.float64) for table in plain[1:])), batch) < 1e-4


@pytest.mark.parametrize("predict", ["center", "context"])
@pytest.mark.parametrize("dim", [300, 1024])
def test_large_rows_and_many_negatives(predict: str, dim: int) -> None:
    batch = make_batch(1, [7, 70, 1], dim=dim, negatives=40, predict=predict, exclude="pair")
    assert_equal(batch, batch.train())


def test_long_run_of_small_rows_does_not_overflow_the_loss() -> None:
    batch = make_batch(1, [TILE_PAIRS], negatives=100, scale=0, learning_rate_start=0.0, learning_rate_end=0.0)
    assert batch.train()[0] == pytest.approx(TILE_PAIRS * 101 * math.log(2), rel=1e-6)


@pytest.mark.parametrize("predict", ["center", "context"])
def test_segments_have_streams_of_their_own(predict: str) -> None:
    runs = np.random.default_rng(2).integers(1, 11, 7000).tolist()
    batch = make_batch(5, [*runs, 900, 3], words=300, dim=2, negatives=2, predict=predict, learning_rate_end=0.1)
    assert len(batch.center) > 2 * SEGMENT_PAIRS
    assert batch.train()[0] == pytest.approx(oracle(batch)[0], rel=1e-6)


@pytest.mark.parametrize("predict", ["center", "context"])
def test_update_is_the_finite_difference_of_the_loss(predict: str) -> None:
    batch = make_batch(
        11, [1 if predict == "context" else 6], words=9, dim=5, predict=predict,
        learning_rate_start=1.0, learning_rate_end=1.0,
    )  # fmt: skip
    _, inputs, outputs = batch.train()
    step = 1e-5
    for table, found in (("input_VD", inputs), ("output_VD", outputs)):
        gradient = np.zeros(found.shape)
        for index in np.ndindex(*found.shape):
            losses = []
            for sign in (1, -1):
                moved = {name: getattr(batch, name).astype(np.float64) for name in ("input_VD", "output_VD")}
                moved[table][index] += sign * step
                losses.append(
                    oracle(Batch(batch.center, batch.context, **moved, alias=batch.alias, settings=batch.settings))[0]
                )
            gradient[index] = (losses[0] - losses[1]) / (2 * step)
        assert np.abs(gradient).max() > 0.1
        np.testing.assert_allclose(getattr(batch, table) - found, gradient, rtol=0, atol=1e-5)


@pytest.mark.parametrize("predict", ["center", "context"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_classic_mistake_would_be_seen(mistake: str, predict: str) -> None:
    batch = make_batch(3, [6, 6, 1, 6], predict=predict)
    found = batch.train()
    assert distance(found, oracle(batch), batch) < 1e-5
    assert distance(found, oracle(batch, mistake), batch) > 1e-2


def test_wide_scores_have_an_exact_loss() -> None:
    """Scores of ±300: the loss is that large, not cut where σ rounds to 0 or 1."""
    for sign in (1, -1):
        batch = make_batch(1, [2], words=3, dim=1, learning_rate_start=0.0, learning_rate_end=0.0, exclude="none")
        batch.input_VD[:] = 30
        batch.output_VD[:] = 10 * sign
        per_pair = 5 * 300 if sign > 0 else 300
        assert batch.train()[0] == pytest.approx(2 * per_pair, rel=1e-6)


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_many_wide_scores_do_not_overflow_the_loss(lanes: int) -> None:
    shape = shape_for(101, lanes)
    batch = make_batch(1, [TILE_PAIRS, 9], negatives=100, dim=1, exclude="none", shape=shape, learning_rate_start=0.0)
    batch.input_VD[:], batch.output_VD[:] = 5, 4
    assert batch.train(learning_rate_end=0.0)[0] == pytest.approx((TILE_PAIRS + 9) * 100 * 20, rel=1e-6)


def test_a_negative_that_is_left_out_touches_nothing() -> None:
    """All the weight is on word 0: where it is the window's word there is no negative, elsewhere there is."""
    batch = make_batch(1, [3, 1, 4], words=3, dim=4, negatives=1)
    batch.center[:] = [0, 0, 0, 1, 0, 0, 0, 0]
    batch.alias[:] = [2**32 - 1, 0, 0, 0, 0, 0]
    assert_equal(batch, batch.train())


@given(st.floats(-40, 40, width=32))
def test_sigmoid_is_exact_to_float32(score: float) -> None:
    """One pair of rows of one number, a negative that is left out: the step is σ."""
    batch = make_batch(1, [1], words=2, dim=1, negatives=1, learning_rate_start=1.0, learning_rate_end=1.0)
    batch.center[:], batch.context[:] = 0, 1
    batch.alias[:] = [2**32 - 1, 0, 0, 0]
    batch.input_VD[1], batch.output_VD[0] = 1, score
    assert float(batch.train()[1][1, 0]) == pytest.approx(1 + score * special.expit(-score), rel=0, abs=2e-5)
    assert float(batch.train()[2][0, 0] - score) == pytest.approx(special.expit(-score), rel=0, abs=3e-6)


def test_nan_comes_out_in_the_loss() -> None:
    batch = make_batch(1, [4, 4])
    batch.output_VD[batch.center[0]] = np.nan
    assert math.isnan(batch.train()[0])


def test_nan_leaves_nothing_behind() -> None:
    batch = make_batch(8, [5] * 200, words=200, dim=20, negatives=8)
    expected = batch.train()
    spoilt = replace(
        batch, input_VD=np.full_like(batch.input_VD, np.nan), output_VD=np.full_like(batch.input_VD, np.inf)
    )
    assert math.isnan(spoilt.train()[0])
    found = batch.train()
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("sharing", SHARING)
@pytest.mark.parametrize("predict", ["center", "context"])
def test_one_thread_gives_the_same_bits(predict: str, sharing: str) -> None:
    batch = make_batch(8, [5] * 8000, words=200, dim=20, predict=predict, sharing=sharing)
    first, second = batch.train(), batch.train()
    assert first[0] == second[0]
    assert first[1].tobytes() == second[1].tobytes()
    assert first[2].tobytes() == second[2].tobytes()


@pytest.mark.parametrize(("plain", "rounding"), [(False, 0), (True, 1e-5)])
def test_rows_may_lie_apart(plain: bool, rounding: float) -> None:
    batch = make_batch(8, [5] * 200, words=200, dim=20, plain=plain)
    loss, *tables = batch.train()
    rooms = [np.full((200, 32), 7, np.float32) for _ in tables]
    spread = [room[:, :20] for room in rooms]
    spread[0][:], spread[1][:] = batch.input_VD, batch.output_VD
    found = train_batch(batch.center, batch.context, *spread, batch.alias, **batch.settings)
    assert found == pytest.approx(loss, rel=rounding)
    for room, expected in zip(rooms, tables, strict=True):
        np.testing.assert_allclose(room[:, :20], expected, rtol=rounding, atol=rounding)
        assert (room[:, 20:] == 7).all()


@pytest.mark.parametrize("sharing", SHARING)
@pytest.mark.parametrize("predict", ["center", "context"])
def test_draws_do_not_depend_on_the_number_of_threads(predict: str, sharing: str) -> None:
    """At learning rate 0 threads cannot touch one another's rows, so the loss shows the draws alone."""
    still = {"learning_rate_start": 0.0, "learning_rate_end": 0.0}
    batch = make_batch(9, [6] * 14000, words=500, predict=predict, sharing=sharing, **still)
    losses = [batch.train(threads=threads)[0] for threads in (1, 2, 3, 64)]
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-12)
    assert batch.train(key=10)[0] != pytest.approx(losses[0], rel=1e-6)


def test_two_threads_learn() -> None:
    batch = make_batch(4, [6] * 14000, words=2000, scale=0.0)
    rng = np.random.default_rng(1)
    batch.input_VD[:] = rng.uniform(-0.5 / 8, 0.5 / 8, batch.input_VD.shape)
    batch.context[:] = batch.center // 10 * 10 + rng.integers(0, 10, batch.center.size)
    tables = batch.input_VD, batch.output_VD
    pair_losses = [
        train_batch(batch.center, batch.context, *tables, batch.alias, **{**batch.settings, "key": k, "threads": 2})
        / batch.center.size
        for k in range(4)
    ]
    assert pair_losses[-1] < pair_losses[0] - 0.5 < 6 * math.log(2)


@pytest.mark.parametrize("sharing", SHARING)
@pytest.mark.parametrize("power", [0.0, 0.75, 1.0])
def test_draws_follow_the_counts_power(power: float, sharing: str) -> None:
    """Rows of one number and a learning rate near 0: a word's output falls by half a rate for each time it is drawn."""
    counts = np.array([0, 900, 400, 250, 100, 60, 30, 10, 3])
    weights = np.where(counts > 0, np.maximum(counts, 1) ** power, 0.0)
    pairs, rate = 40_000, 1e-7
    inputs, outputs = np.ones((9, 1), np.float32), np.zeros((9, 1), np.float32)
    pairs_of_zero = np.zeros(pairs, np.int32)
    train_batch(
        pairs_of_zero, pairs_of_zero, inputs, outputs, build_alias(weights / weights.sum()), negatives=3, key=17,
        predict="context", exclude="none", learning_rate_start=rate, learning_rate_end=rate, sharing=sharing,
    )  # fmt: skip
    drawn = np.rint(outputs[1:, 0] / (-rate / 2))
    assert drawn.sum() == pytest.approx(3 * pairs, rel=5e-3)
    found = stats.chisquare(drawn, weights[1:] / weights.sum() * drawn.sum()).statistic
    clumps = 1 + 3 if sharing == "pool" else 1  # a drawn id is used by several windows, three in the mean
    assert stats.chi2.sf(found / clumps, df=len(drawn) - 1) > 0.001


def test_word_with_nearly_all_the_weight_is_left_out_in_the_end() -> None:
    batch = make_batch(1, [3], words=2, negatives=4, learning_rate_start=0.0, learning_rate_end=0.0, scale=0)
    batch.center[:] = 0
    batch.alias[:] = [2**32 - 1, 0, 0, 0]
    assert batch.train()[0] == pytest.approx(3 * math.log(2), rel=1e-6)


def test_empty_batch_changes_nothing() -> None:
    batch = make_batch(1, [])
    assert batch.train()[0] == 0


def test_read_only_pairs_are_welcome() -> None:
    batch = make_batch(1, [3, 3])
    expected = batch.train()
    for array in (batch.center, batch.context, batch.alias):
        array.flags.writeable = False
    assert batch.train()[0] == expected[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"negatives": 0}, "--negatives: found 0"),
        ({"threads": 0}, "--threads: found 0"),
        ({"predict": "word"}, "--predict: found 'word', expected one of center, context"),
        ({"sharing": "all"}, "--negative-sharing: found 'all', expected one of pair, window, pool"),
        ({"exclude": "word"}, "--exclude: found 'word', expected one of none, output, input, pair"),
    ],
)
def test_wrong_setting_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_batch(1, [3]).train(**change)


def test_vocabulary_of_one_word_is_refused() -> None:
    with pytest.raises(UserError, match="--exclude output: found a vocabulary of 1 words"):
        make_batch(1, [3], words=1).train()


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("center", np.zeros(3, np.int64), "center_B: found 1 dimensions of int64, expected 1 of int32"),
        ("context", np.zeros(2, np.int32), "context_B: found 2 ids, expected 3"),
        ("input_VD", np.zeros((40, 8)), "input_VD: found 2 dimensions of float64"),
        ("output_VD", np.zeros((40, 16), np.float32)[:, ::2], "output_VD: found a strided"),
        ("output_VD", np.zeros((40, 16), np.float32)[:, :8], r"output_VD: found strides of \(64, 4\) bytes"),
        ("output_VD", np.zeros((40, 9), np.float32), r"output_VD: found shape \(40, 9\)"),
        ("alias", np.zeros(7, np.uint32), "alias: found 7 numbers, expected 2 for each of 40 words"),
    ],
)
def test_wrong_array_is_refused(name: str, array: np.ndarray, message: str) -> None:
    batch = make_batch(1, [3])
    arrays = {key: getattr(batch, key) for key in ("center", "context", "input_VD", "output_VD", "alias")}
    with pytest.raises(ValueError, match=message):
        train_batch(*{**arrays, name: array}.values(), **batch.settings)


def test_read_only_table_is_refused() -> None:
    batch = make_batch(1, [3])
    batch.output_VD.flags.writeable = False
    with pytest.raises(ValueError, match="found a read-only table"):
        train_batch(batch.center, batch.context, batch.input_VD, batch.output_VD, batch.alias, **batch.settings)


def test_segments_are_the_unit_of_work() -> None:
    assert cpu.SEGMENT_PAIRS == 16384  # part of what decides the draws
    assert cpu.TILE_PAIRS == 32


@pytest.mark.parametrize("plain", [False, True])
def test_the_cache_sees_changes_of_other_files(tmp_path: Path, plain: bool) -> None:
    """Numba's cache looks at a function's own file; ours must notice a change in a file of what it calls."""
    package = Path(cpu.__file__).parents[3]
    shutil.copytree(package, tmp_path / "trainer", ignore=shutil.ignore_patterns("__pycache__"))
    code = f"""
import numpy as np
from trainer.engines.kernels.numba import cpu, plain, skipgram
tables, ids = np.ones((2, 9, 4), np.float32), np.arange(9, dtype=np.int32)
alias = np.array([[2**31, 8 - i] for i in range(9)], np.uint32).ravel()
cpu.train_batch(ids, ids, *tables, alias, negatives=5, learning_rate_start=1, learning_rate_end=1, key=1, plain={plain})
compiled = {"plain" if plain else "skipgram"}.train_segments.stats
print(tables.sum(dtype=np.float64), sum(compiled.cache_hits.values()))
"""

    def run() -> tuple[str, int]:
        path = os.pathsep.join([str(tmp_path), str(package.parent)])
        environment = {**os.environ, "PYTHONPATH": path, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        )
        total, hits = done.stdout.split()
        return total, int(hits)

    first, hits = run()
    assert (run(), hits) == ((first, 1), 0)
    callee = tmp_path / "trainer" / "engines" / "kernels" / "numba" / "draws.py"
    callee.write_text(callee.read_text().replace("GOLDEN = np.uint64(0x9E37", "GOLDEN = np.uint64(0x8E37"))
    changed, hits = run()
    assert hits == 0
    assert changed != first
