"""The field's teaching examples through the two command lines, their first step checked against plain numpy."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

from pipeline.dataset.reader import Dataset, open_dataset
from tests.support.paths import ROOT
from trainer.data.order import epoch_order, negatives_key
from trainer.engines.init import initial_tables
from trainer.engines.negatives import NegativeSampler
from trainer.models.store import load_model

pytestmark = pytest.mark.e2e
Floats = npt.NDArray[np.float64]
SEED = 1


@dataclass(frozen=True)
class Example:
    """Text, and the settings that an example is known by."""

    sentences: tuple[str, ...]
    dim: int
    negatives: int
    power: float
    exclude: str
    init: str
    optimizer: str
    learning_rate: float
    epochs: int
    batch_size: int
    distinct: bool = False
    min_count: int = 1
    falls_to: float = 0.8  # of the loss before training
    flags: tuple[str, ...] = ()

    def train_flags(self, **changes: Any) -> list[str]:
        names = ("dim", "negatives", "power", "exclude", "init", "optimizer", "learning_rate", "epochs", "batch_size")
        values = {**{name: getattr(self, name) for name in names}, **changes}
        words = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]
        words += ["--predict=context", "--engine=reference", "--device=cpu", "--threads=1", f"--seed={SEED}"]
        return [*words, "--schedule=constant", f"--distinct-negatives={str(self.distinct).lower()}"]


PARAGRAPH = (
    "Words that stand in the same company tend to mean the same.",
    "A model that guesses the company of a word must learn what the word means.",
    "It keeps a row of numbers for each word, and moves the rows of words that meet toward each other.",
    "Words that never meet are moved apart, a few of them at a time.",
)
ANIMALS = (
    "the quick brown fox jumps over the lazy dog",
    "the quick dog chases the lazy cat",
    "a lazy cat sleeps beside the brown dog",
    "the brown bear eats honey in the forest",
    "a quick fox hunts in the dark forest",
    "the bear and the fox share the forest",
    "the dog and the cat share the house",
    "a lazy dog sleeps in the warm house",
)
EXAMPLES = {
    "one sentence": Example(
        ("The cat sat on the mat",), 3, 2, 0.0, "output", "normal", "sgd", 0.1, epochs=100, batch_size=1
    ),
    "four sentences": Example(
        ("the quick brown fox", "the lazy dog sleeps", "a fox meets a dog", "the dog barks at the fox"),
        5, 2, 1.0, "output", "uniform", "sgd", 0.1, epochs=100, batch_size=1,
    ),
    "a paragraph": Example(PARAGRAPH, 16, 5, 0.0, "input", "normal", "adam", 0.01, epochs=30, batch_size=32),
    "eight sentences": Example(
        ANIMALS * 20, 50, 5, 0.75, "output", "uniform", "adam", 0.01, epochs=10, batch_size=64,
        distinct=True, min_count=2,
    ),
}  # fmt: skip


def call(*words: str) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-m", *words, "--json"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@dataclass(frozen=True)
class Made:
    """An example's folder and open dataset."""

    name: str
    example: Example
    folder: Path
    dataset: Dataset

    def train(self, model: str, **changes: Any) -> dict[str, Any]:
        where = ["--data", f"{self.folder}/data", "--model", f"{self.folder}/{model}"]
        return call("trainer", "train", *where, *self.example.train_flags(**changes))


@pytest.fixture(scope="module", params=EXAMPLES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    example: Example = EXAMPLES[request.param]
    folder = tmp_path_factory.mktemp("example")
    (folder / "text.txt").write_text("\n".join(example.sentences) + "\n")
    call("pipeline", "--input", f"{folder}/text.txt", "--output", f"{folder}/data", "--min-count",
         str(example.min_count), "--sample", "0", "--fixed-window", "--window", "2")  # fmt: skip
    return Made(request.param, example, folder, open_dataset(f"{folder}/data"))


def test_the_pairs_are_those_of_the_text(made: Made) -> None:
    sentences = [line.lower().replace(".", "").replace(",", "").split() for line in made.example.sentences]
    counts = Counter(word for words in sentences for word in words)
    kept = [[word for word in words if counts[word] >= made.example.min_count] for words in sentences]
    expected = Counter(
        (words[i], words[j])
        for words in kept
        for i in range(len(words))
        for j in range(len(words))
        if 0 < abs(i - j) <= 2
    )
    vocabulary = made.dataset.vocabulary()
    found = Counter[tuple[str, str]]()
    for ref in made.dataset.row_groups(0):
        center, context = made.dataset.read_row_group(ref)
        found.update((vocabulary.token(c), vocabulary.token(o)) for c, o in zip(center, context, strict=True))
    assert found == expected


def first_step(made: Made) -> tuple[float, list[Floats]]:
    """Loss and tables after one step on the first row group, line by line."""
    example, vocabulary = made.example, made.dataset.vocabulary()
    place = epoch_order(made.dataset, SEED, 0)[0]
    center, context = made.dataset.read_row_group(place.group)
    tables = [t.astype(np.float64) for t in initial_tables(example.init, len(vocabulary), example.dim, SEED)]
    sampler = NegativeSampler(
        vocabulary.counts, power=example.power, exclude=example.exclude, distinct=example.distinct, seed=SEED
    )
    negatives = sampler.draw(center, context, example.negatives, key=(negatives_key(SEED, place), 0))
    loss, gradients = 0.0, [np.zeros_like(table) for table in tables]
    for c, o, row in zip(center, context, negatives, strict=True):
        assert (c if example.exclude == "input" else o) not in row
        assert not example.distinct or len(set(row.tolist())) == example.negatives
        v = tables[0][c]
        loss += -math.log(1 / (1 + math.exp(-v @ tables[1][o])))
        gradients[0][c] += (1 / (1 + math.exp(-v @ tables[1][o])) - 1) * tables[1][o]
        gradients[1][o] += (1 / (1 + math.exp(-v @ tables[1][o])) - 1) * v
        for n in row:
            loss += -math.log(1 / (1 + math.exp(v @ tables[1][n])))
            gradients[0][c] += 1 / (1 + math.exp(-v @ tables[1][n])) * tables[1][n]
            gradients[1][n] += 1 / (1 + math.exp(-v @ tables[1][n])) * v
    for table, gradient in zip(tables, gradients, strict=True):
        if example.optimizer == "sgd":
            table -= example.learning_rate * gradient
        else:  # Adam's first step: both averages, corrected for their start, are the gradient and its square
            table -= example.learning_rate * gradient / (np.abs(gradient) + 1e-8)
    return loss / len(center), tables


def test_the_first_step_is_the_one_done_by_hand(made: Made) -> None:
    assert len(made.dataset.row_groups(0)) == 1
    pairs = made.dataset.pairs_in_pass(0)
    result = made.train("one-step", epochs=1, batch_size=pairs)
    loss, tables = first_step(made)
    assert result["loss"] == pytest.approx(loss, rel=1e-5)
    model = load_model(f"{made.folder}/one-step")
    for found, expected in zip((model.input_VD, model.output_VD), tables, strict=True):
        # Adam divides by the gradient's size: where that is next to nothing, rounding shows.
        close = np.isclose(found, expected, rtol=1e-4, atol=1e-5)
        assert close.mean() > (0.999 if made.example.optimizer == "adam" else 0.9999)


def test_the_loss_falls_well_below_its_start(made: Made) -> None:
    result = made.train("model")
    example = made.example
    if example.init == "uniform":
        assert result["first_loss"] == pytest.approx((example.negatives + 1) * math.log(2), rel=0.02)
    assert result["loss"] < example.falls_to * result["first_loss"]
    assert result["loss"] < (example.negatives + 1) * math.log(2)
    word = {"one sentence": "cat", "four sentences": "fox", "a paragraph": "word", "eight sentences": "dog"}[made.name]
    [answer] = call("trainer", "neighbors", "--model", f"{made.folder}/model", "--top", "3", word)["words"]
    near = answer["neighbors"]
    assert len(near) == 3
    assert word not in [one["token"] for one in near]
    cosines = [one["cosine"] for one in near]
    assert cosines == sorted(cosines, reverse=True)
    assert all(-1.0001 <= cosine <= 1.0001 for cosine in cosines)


@pytest.mark.parametrize("vectors", ["input", "output", "average"])
def test_both_tables_and_their_average_leave(made: Made, vectors: str) -> None:
    if not (made.folder / "model").exists():
        made.train("model")
    path = f"{made.folder}/{vectors}.parquet"
    call(
        "trainer",
        "export",
        "--model",
        f"{made.folder}/model",
        "--format",
        "parquet",
        "--vectors",
        vectors,
        "--to",
        path,
    )
    model = load_model(f"{made.folder}/model")
    wanted = {"input": model.input_VD, "output": model.output_VD, "average": (model.input_VD + model.output_VD) / 2}
    table = pq.read_table(path)
    rows = model.vocabulary.encode(table["token"].to_pylist())
    assert sorted(rows.tolist()) == list(range(len(model.vocabulary)))
    np.testing.assert_allclose(np.array(table["vector"].to_pylist(), np.float32), wanted[vectors][rows], rtol=1e-6)


@pytest.mark.parametrize("made", ["eight sentences"], indirect=True)
def test_what_keeps_company_is_near(made: Made) -> None:
    if not (made.folder / "model").exists():
        made.train("model")
    words = ["dog", "quick", "--top", "6", "--vectors", "average"]
    answers = call("trainer", "neighbors", "--model", f"{made.folder}/model", *words)["words"]
    near = {answer["word"]: [one["token"] for one in answer["neighbors"]] for answer in answers}
    assert {"lazy", "cat", "brown"} & set(near["dog"])
    assert {"fox", "dog", "brown"} & set(near["quick"])
    assert "honey" not in near["dog"]
