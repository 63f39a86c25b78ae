"""Both engines: steps against plain numpy, state that comes back, and loss that falls."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pipeline.dataset.schema import FormatError
from tests.support.datasets import group_of
from trainer.config import TrainConfig
from trainer.engines import reference
from trainer.engines.base import Engine, pending_loss
from trainer.engines.choose import make_engine
from trainer.engines.cpu import FusedEngine, whole_vectors
from trainer.engines.init import initial_tables
from trainer.engines.negatives import EXCLUDE, NegativeSampler
from trainer.engines.reference import ReferenceEngine
from trainer.errors import UserError
from trainer.models.tensors import copy_arrays, fill_arrays

WORDS, DIM = 12, 5
COUNTS_V = np.arange(40, 40 - WORDS, -1, dtype=np.int64)
Floats = npt.NDArray[np.float64]


def make_config(engine: str, **changes: object) -> TrainConfig:
    plain = TrainConfig(
        data="d", model="m", engine=engine, dim=DIM, negatives=3, threads=1, init="normal", device="cpu"
    )
    return replace(plain, **changes).resolve(lambda: False, 1)  # type: ignore[arg-type]


def build(config: TrainConfig, words: int = WORDS) -> Engine:
    counts = np.resize(COUNTS_V, words)
    return make_engine(config, initial_tables(config.init, words, config.dim, config.seed), counts)


def some_pairs(pairs: int, seed: int = 1, words: int = WORDS) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    rng = np.random.default_rng(seed)
    center = np.repeat(rng.integers(0, words, pairs), 3)[:pairs]
    return center.astype(np.int32), rng.integers(0, words, pairs).astype(np.int32)


def sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))


@dataclass
class Descent:
    """The optimizers' rules, on whole tables in float64."""

    optimizer: str
    memory: list[list[Floats | float]] = field(default_factory=list)

    def update(self, tables: list[Floats], gradients: list[Floats], rate: float) -> None:
        self.memory = self.memory or [[np.zeros_like(t), np.zeros_like(t), 0.0] for t in tables]
        for table, g, memory in zip(tables, gradients, self.memory, strict=True):
            if self.optimizer == "sgd":
                table -= rate * g
            elif self.optimizer == "adagrad":
                memory[0] += g * g
                table -= rate * g / (np.sqrt(memory[0]) + 1e-10)
            else:
                memory[2] += 1
                memory[0] = 0.9 * memory[0] + 0.1 * g
                memory[1] = 0.999 * memory[1] + 0.001 * g * g
                first, second = memory[0] / (1 - 0.9 ** memory[2]), memory[1] / (1 - 0.999 ** memory[2])
                table -= rate * first / (np.sqrt(second) + 1e-8)


def train_by_hand(config: TrainConfig, center: npt.NDArray[np.int32], context: npt.NDArray[np.int32], key: int,
                  rates: tuple[float, float]) -> tuple[float, list[Floats]]:  # fmt: skip
    """What a step of the reference engine should do, pair by pair."""
    tables = [table.astype(np.float64) for table in initial_tables(config.init, WORDS, config.dim, config.seed)]
    sampler = NegativeSampler(
        COUNTS_V, power=config.power, exclude=config.exclude, distinct=config.distinct_negatives, seed=config.seed
    )
    outputs, inputs = (center, context) if config.predict == "center" else (context, center)
    size, total, descent = config.batch_size, 0.0, Descent(config.optimizer)
    for number, start in enumerate(range(0, len(center), size)):
        i_B, o_B = inputs[start : start + size], outputs[start : start + size]
        negatives = sampler.draw(i_B, o_B, config.negatives, key=(key, number))
        gradients = [np.zeros_like(table) for table in tables]
        for i, o, row in zip(i_B, o_B, negatives, strict=True):
            for word, label in [(o, 1.0), *((n, 0.0) for n in row)]:
                score = tables[0][i] @ tables[1][word]
                total += math.log1p(math.exp(-score if label else score))
                g = float(sigmoid(score)) - label
                gradients[0][i] += g * tables[1][word]
                gradients[1][word] += g * tables[0][i]
        descent.update(tables, gradients, rates[0] + (rates[1] - rates[0]) * start / len(center))
    return total, tables


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"predict": "context", "exclude": "pair"},
        {"power": 0.0, "exclude": "input"},
        {"power": 1.0, "exclude": "none"},
        {"distinct_negatives": True},
        {"optimizer": "adagrad"},
        {"optimizer": "adam"},
    ],
    ids=str,
)
def test_the_reference_is_the_computation_by_hand(changes: dict[str, object], batch_size: int) -> None:
    config = make_config("reference", batch_size=batch_size, **changes)
    center, context = some_pairs(22)
    engine = build(config)
    loss = engine.step(center, context, lr_start=0.2, lr_end=0.05, key=77)
    expected_loss, expected = train_by_hand(config, center, context, 77, (0.2, 0.05))
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    for found, wanted in zip(engine.tables(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad"])
def test_sparse_gradients_change_nothing_but_speed(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config("reference", batch_size=4, optimizer=optimizer)
    found = []
    for ratio in (0, 1000):
        monkeypatch.setattr(reference, "SPARSE_ROWS_RATIO", ratio)
        engine = build(config)
        assert isinstance(engine, ReferenceEngine)
        assert engine._model.input.sparse is (ratio == 0)
        engine.step(*some_pairs(30), lr_start=0.2, lr_end=0.1, key=5)
        found.append(engine.tables())
    for sparse, dense in zip(*found, strict=True):
        np.testing.assert_allclose(sparse, dense, rtol=1e-5, atol=1e-6)


def test_both_engines_start_from_the_same_tables() -> None:
    for one, other in zip(build(make_config("fused")).tables(), build(make_config("reference")).tables(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("engine", ["fused", "reference"])
def test_measuring_trains_nothing(engine: str) -> None:
    tested = build(make_config(engine, init="word2vec"))
    before = [table.copy() for table in tested.tables()]
    center, context = some_pairs(30)
    assert tested.measure(center, context, key=3) == pytest.approx(30 * 4 * math.log(2), rel=1e-6)
    for found, expected in zip(tested.tables(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_threads_that_run_ahead_are_waited_for() -> None:
    pairs = some_pairs(300_000)
    engine, alone = build(make_config("fused", threads=2)), build(make_config("fused"))
    still = {"lr_start": 0.0, "lr_end": 0.0}
    losses = [
        sum(one.step(*pairs, key=key, **still) for key in range(5)) + pending_loss(one) for one in (engine, alone)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    before = copy_arrays(engine.live())
    for ask in (engine.live, lambda: dict(zip(("input", "output"), engine.tables(), strict=True))):
        engine.step(*pairs, lr_start=0.1, lr_end=0.1, key=1)
        engine.step(*pairs, lr_start=0.1, lr_end=0.1, key=2)
        fill_arrays(engine.live(), before)
        np.testing.assert_array_equal(engine.tables()[0], before["input"])
        engine.step(*pairs, lr_start=0.1, lr_end=0.1, key=1)
        seen = np.array(ask()["input"])
        pending_loss(engine)
        np.testing.assert_array_equal(seen, engine.tables()[0])


def test_a_measured_loss_is_that_of_the_step() -> None:
    center, context = some_pairs(30)
    for config in (make_config("reference", batch_size=30), make_config("reference", batch_size=64)):
        tested = build(config)
        measured = tested.measure(center, context, key=3)
        assert tested.step(center, context, lr_start=0.1, lr_end=0.1, key=3) == pytest.approx(measured, rel=1e-6)


@pytest.mark.parametrize(
    "make", [lambda: make_config("fused"), *[
        lambda optimizer=optimizer: make_config("reference", optimizer=optimizer, batch_size=8)
        for optimizer in ("sgd", "adagrad", "adam")
    ]], ids=["fused", "sgd", "adagrad", "adam"],
)  # fmt: skip
def test_state_comes_back(make: Callable[[], TrainConfig]) -> None:
    center, context = some_pairs(60)

    def step(engine: Engine, key: int) -> None:
        engine.step(center, context, lr_start=0.1, lr_end=0.05, key=key)

    whole = build(make())
    step(whole, 1)
    state = copy_arrays(whole.live())
    step(whole, 2)
    other = build(make())
    fill_arrays(other.live(), {name: array.copy() for name, array in state.items()})
    step(other, 2)
    for found, expected in zip(other.tables(), whole.tables(), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert {name: array.tobytes() for name, array in copy_arrays(other.live()).items()} == {
        name: array.tobytes() for name, array in copy_arrays(whole.live()).items()
    }


@pytest.mark.parametrize("engine", ["fused", "reference"])
def test_a_state_that_does_not_fit_is_refused(engine: str) -> None:
    tested = build(make_config(engine))
    state = copy_arrays(tested.live())
    with pytest.raises(FormatError, match=r"found the arrays \['input'\]"):
        fill_arrays(tested.live(), {"input": state["input"]})
    with pytest.raises(FormatError, match="found output float64"):
        fill_arrays(tested.live(), {**state, "output": state["output"].astype(np.float64)})
    with pytest.raises(FormatError, match="found input float32"):
        fill_arrays(tested.live(), {**state, "input": state["input"][:-1]})


@pytest.mark.parametrize(
    "config",
    [
        make_config("fused", init="word2vec"),
        make_config("fused", init="word2vec", predict="context"),
        make_config("reference", init="word2vec", batch_size=16),
        make_config("reference", init="word2vec", batch_size=16, clip_norm=1.0),
    ],
    ids=["fused", "fused, predict context", "reference", "clipped"],
)
def test_words_that_share_contexts_come_together(config: TrainConfig) -> None:
    """Two halves of the vocabulary that never meet: after training, a word is nearest to its own half."""
    rng = np.random.default_rng(5)
    sentences = [list(rng.integers(0, 6, 8) + 6 * (row % 2)) for row in range(200)]
    center, context = group_of(sentences)
    engine = build(config)
    losses = [engine.step(center, context, lr_start=0.05, lr_end=0.05, key=epoch) / center.size for epoch in range(8)]
    assert losses[0] < 4 * math.log(2)
    assert losses[-1] < 0.95 * losses[0]
    assert losses[-1] < 0.65 * 4 * math.log(2)
    input_VD = engine.tables()[0]
    unit_VD = input_VD / np.linalg.norm(input_VD, axis=1, keepdims=True)
    cosines_VV = unit_VD @ unit_VD.T
    same = np.equal.outer(np.arange(12) // 6, np.arange(12) // 6)
    assert cosines_VV[same].min() > cosines_VV[~same].max()


def test_fused_and_reference_learn_alike() -> None:
    rng = np.random.default_rng(5)
    center, context = group_of([list(rng.integers(0, 6, 8) + 6 * (row % 2)) for row in range(300)])
    ends = []
    for config in (make_config("fused", init="word2vec"), make_config("reference", init="word2vec", batch_size=1)):
        engine = build(config)
        for epoch in range(3):
            engine.step(center, context, lr_start=0.05, lr_end=0.05, key=epoch)
        ends.append(engine.measure(center, context, key=99) / center.size)
    assert ends[0] == pytest.approx(ends[1], rel=0.03)


def test_the_kernel_gets_all_threads() -> None:
    engine = build(make_config("fused", threads=2))
    assert isinstance(engine, FusedEngine)
    assert engine._start_batch.keywords["threads"] == 2


@pytest.mark.parametrize("architecture", ["skipgram", "cbow"])
def test_zeros_that_fill_a_rows_last_vector_change_no_bit(architecture: str) -> None:
    config = make_config("fused", architecture=architecture, dim=37)
    apart = initial_tables("normal", WORDS, 37, seed=1)
    tight = apart[0].copy(), apart[1].copy()
    assert whole_vectors(apart[0]).shape[1] > 37 == whole_vectors(tight[0]).shape[1]
    losses = [
        FusedEngine(config, tables, COUNTS_V).step(*some_pairs(999), lr_start=0.1, lr_end=0.1, key=3)
        for tables in (apart, tight)
    ]
    assert losses[0] == losses[1]
    for with_zeros, without in zip(apart, tight, strict=True):
        assert np.array_equal(with_zeros, without)
        assert not whole_vectors(with_zeros)[:, 37:].any()


def test_what_follows_a_row_and_is_not_zero_is_left_alone() -> None:
    wide = np.ones((WORDS, 48), np.float32)
    assert whole_vectors(wide[:, :37]).shape[1] == 37


def test_too_few_words_for_the_negatives_is_one_line() -> None:
    for name in ("fused", "reference"):
        with pytest.raises(UserError, match="--exclude pair: found a vocabulary of 2 words"):
            build(make_config(name, exclude="pair"), words=2)


@pytest.mark.parametrize("exclude", EXCLUDE)
@pytest.mark.parametrize("sharing", ["pair", "window", "pool"])
def test_the_fused_engine_takes_each_exclude_with_few_words(exclude: str, sharing: str) -> None:
    words = 3
    engine = build(make_config("fused", exclude=exclude, negative_sharing=sharing), words=words)
    assert math.isfinite(engine.step(*some_pairs(50, words=words), lr_start=0.05, lr_end=0.05, key=1))


def test_a_device_without_enough_memory_says_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = build(make_config("reference"))
    assert isinstance(engine, ReferenceEngine)

    def fail(*_: object, **__: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine._model, "forward", fail)
    with pytest.raises(UserError, match=r"found too little memory .* --dim 5 and --batch-size 256"):
        engine.step(*some_pairs(4), lr_start=0.1, lr_end=0.1, key=1)
