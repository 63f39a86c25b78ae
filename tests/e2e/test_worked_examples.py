"""Worked examples of the field, through the command lines, and their first step by hand.

Each is a small text on which skip-gram with negative sampling is often explained: pairs of a fixed window of two, the
middle word predicts the words around it, plain mini-batches in autograd.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from pipeline.cli import main as pipeline
from pipeline.dataset.reader import open_dataset
from trainer.cli import main as trainer
from trainer.config import TrainConfig
from trainer.engines import make_engine
from trainer.negatives import NegativeSampler
from trainer.reading import epoch_order, negatives_key
from trainer.tables import initial_tables

pytestmark = pytest.mark.e2e

ONE_SENTENCE = "The cat sat on the mat\n"
FOUR_SENTENCES = """the quick fox runs past the dog
the lazy dog sleeps in the sun
a fox and a dog play in the field
the fox sees the dog and runs
"""
PARAGRAPH = """Bakers rise before the sun and light the oven first. Flour, water, salt and time make bread; the baker
only helps. When the oven is hot the loaves go in, and when the crust is brown the loaves come out. People wait at the
door for warm bread, and the baker sells bread until no bread is left.
"""
EIGHT_SENTENCES = """the quick brown fox jumps over the lazy dog
the quick red fox runs after the small dog
a lazy dog sleeps near the warm fire
a small cat sleeps near the warm fire
the brown bear walks through the dark forest
the quick fox hunts in the dark forest
the old bear eats honey in the forest
a playful cat chases the lazy dog
"""


@dataclass(frozen=True)
class Example:
    """A text and the settings that it is trained with."""

    text: str
    settings: dict[str, Any]
    min_count: int = 1
    words: tuple[str, ...] = field(default=("dog",))


EXAMPLES = {
    "one sentence": Example(
        ONE_SENTENCE,
        {"dim": 3, "negatives": 2, "init": "normal", "power": 0.0, "exclude": "output", "optimizer": "sgd",
         "learning_rate": 0.1, "epochs": 100},
        words=("cat",),
    ),
    "plain frequency": Example(
        FOUR_SENTENCES,
        {"dim": 5, "negatives": 2, "power": 1.0, "optimizer": "sgd", "learning_rate": 0.1, "epochs": 100},
        words=("fox", "dog"),
    ),
    "a paragraph": Example(
        PARAGRAPH,
        {"dim": 16, "negatives": 4, "init": "normal", "power": 0.0, "exclude": "input", "optimizer": "adam",
         "learning_rate": 0.01, "batch_size": 32, "epochs": 60},
        words=("bread",),
    ),
    "eight sentences": Example(
        EIGHT_SENTENCES * 20,
        {"dim": 50, "negatives": 5, "distinct_negatives": True, "init": "uniform", "optimizer": "adam",
         "learning_rate": 0.01, "epochs": 10},
        min_count=2,
        words=("dog", "quick"),
    ),
}  # fmt: skip
COMMON = {"predict": "context", "engine": "reference"}


def flags(settings: dict[str, Any]) -> list[str]:
    return [f"--{name.replace('_', '-')}={str(value).lower()}" for name, value in settings.items()]


def result(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


@pytest.fixture(params=EXAMPLES)
def example(request: pytest.FixtureRequest) -> Example:
    return EXAMPLES[request.param]


@pytest.fixture
def data(example: Example, tmp_path: Path) -> str:
    (tmp_path / "text.txt").write_text(example.text)
    words = ["--input", f"{tmp_path}/text.txt", "--output", f"{tmp_path}/data", "--sample", "0", "--fixed-window"]
    assert pipeline([*words, "--window", "2", "--min-count", str(example.min_count)]) == 0
    return f"{tmp_path}/data"


def test_it_learns(example: Example, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = f"{tmp_path}/model"
    assert trainer(["train", "--data", data, "--model", model, "--json", *flags(example.settings | COMMON)]) == 0
    trained = result(capsys)
    pairs = open_dataset(data).pairs_in_pass(0)
    assert trained["pairs"] == pairs * example.settings["epochs"]
    if example.settings.get("init") != "normal":  # small rows: every term starts at ln 2
        assert trained["first_loss"] == pytest.approx((example.settings["negatives"] + 1) * np.log(2), rel=0.01)
    assert trained["loss"] < 0.85 * trained["first_loss"]

    assert trainer(["neighbors", "--model", model, "--top", "3", "--json", *example.words]) == 0
    for answer in result(capsys)["words"]:
        near = [entry["token"] for entry in answer["neighbors"]]
        assert len(near) == 3
        assert answer["word"] not in near

    tables = {}
    for table in ("input", "output", "average"):
        path = f"{tmp_path}/{table}.parquet"
        assert trainer(["export", "--model", model, "--format", "parquet", "--to", path, "--vectors", table]) == 0
        tables[table] = np.array(pq.read_table(path)["vector"].to_pylist())
    assert not np.allclose(tables["input"], tables["output"])
    assert tables["average"] == pytest.approx((tables["input"] + tables["output"]) / 2, abs=1e-6)


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def first_step_by_hand(
    tables: tuple[NDArray[Any], NDArray[Any]],
    pairs: list[tuple[int, int]],
    negatives: list[list[int]],
    config: TrainConfig,
) -> tuple[NDArray[Any], NDArray[Any], float]:
    """Loss and tables after one step, pair by pair and word by word; all gradients from the old tables."""
    old_in, old_out = (table.astype(np.float64) for table in tables)
    slope_in, slope_out, loss = np.zeros_like(old_in), np.zeros_like(old_out), 0.0
    for (center, context), noise in zip(pairs, negatives, strict=True):
        for word, label in [(context, 1.0), *((negative, 0.0) for negative in noise)]:
            score = sigmoid(float(old_in[center] @ old_out[word]))
            loss -= np.log(score if label else 1 - score)
            slope_in[center] += (score - label) * old_out[word]
            slope_out[word] += (score - label) * old_in[center]
    rate = config.learning_rate
    if config.optimizer == "sgd":
        return old_in - rate * slope_in, old_out - rate * slope_out, loss
    # Adam's first step (Kingma and Ba 2015, algorithm 1): with both moments corrected it is g / (|g| + ε).
    return (
        old_in - rate * slope_in / (np.abs(slope_in) + 1e-8),
        old_out - rate * slope_out / (np.abs(slope_out) + 1e-8),
        loss,
    )


def test_its_first_step_is_the_one_computed_by_hand(example: Example, data: str) -> None:
    dataset = open_dataset(data)
    config = TrainConfig(data=data, model="unused", **(example.settings | COMMON)).resolve(lambda: False, 1)
    counts = dataset.vocabulary().counts
    tables = initial_tables(config.init, len(counts), config.dim, config.seed)
    place = epoch_order(dataset, config.seed, 0)[0]
    key = negatives_key(config.seed, place)
    center, context = (ids[: config.batch_size] for ids in dataset.read_row_group(place.group))
    sampler = NegativeSampler(
        counts, power=config.power, exclude=config.exclude, distinct=config.distinct_negatives, seed=config.seed
    )
    negatives = sampler.draw(center, context, config.negatives, key=(key, 0)).tolist()
    pairs = list(zip(center.tolist(), context.tolist(), strict=True))
    for (middle, around), noise in zip(pairs, negatives, strict=True):
        assert {"output": around, "input": middle}.get(config.exclude) not in noise
        assert len(set(noise)) == len(noise) or not config.distinct_negatives
    expected_in, expected_out, expected_loss = first_step_by_hand(tables, pairs, negatives, config)

    engine = make_engine(config, (tables[0].copy(), tables[1].copy()), counts)
    loss = engine.step(center, context, lr_start=config.learning_rate, lr_end=config.learning_rate, key=key)
    trained_in, trained_out = engine.tables()
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    # Where a gradient is rounding noise about zero, Adam's step has its sign: such entries may move either way.
    for trained, expected in ((trained_in, expected_in), (trained_out, expected_out)):
        close = np.isclose(trained, expected, rtol=1e-4, atol=1e-5)
        assert close.mean() > 0.999
        assert np.abs(trained - expected).max() <= 2.1 * config.learning_rate * (config.optimizer == "adam") + 1e-5
