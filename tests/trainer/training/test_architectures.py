"""CBOW and words made of n-grams through the train command: resumed, by several processes, published, started from."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.datasets import group_of, make_dataset
from tests.support.paths import ROOT
from tests.support.steps import after_steps
from trainer.config import TrainConfig
from trainer.errors import Stopped, UserError
from trainer.keyed_vectors.vectors import load
from trainer.models.store import load_model
from trainer.training import command

GROUPS = [group_of([[(row + step) % 9 for step in range(7)] for row in range(5 + n)]) for n in range(4)]
KINDS: list[dict[str, Any]] = [
    {"architecture": "cbow"},
    {"architecture": "cbow", "cbow_mean": False, "negative_sharing": "window"},
    {"subwords": "1-3", "buckets": 50},
    {"subwords": "1-3", "buckets": 50, "architecture": "cbow"},
]
REFERENCE = [{**kind, "engine": "reference", "negative_sharing": "auto"} for kind in KINDS]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_dataset(tmp_path_factory.mktemp("architectures") / "data", passes=[[GROUPS]])


def config_of(data: str, model: Path, **changes: Any) -> TrainConfig:
    plain = {"dim": 20, "negatives": 3, "threads": 1, "device": "cpu", "quiet": True, "epochs": 2}
    return TrainConfig(data=data, model=str(model), **{**plain, **changes})


@pytest.mark.parametrize("kind", [*KINDS, *REFERENCE], ids=lambda kind: " ".join(map(str, kind.values())))
def test_a_stopped_training_goes_on_to_the_same_version(data: str, tmp_path: Path, kind: dict[str, Any]) -> None:
    whole = command.train(config_of(data, tmp_path / "whole", **kind))
    config = config_of(data, tmp_path / "stopped", **kind)
    with pytest.MonkeyPatch.context() as patch:
        after_steps(patch, 3, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Stopped):
            command.train(config)
    stopped = command.train(config)
    assert (stopped["resumed"], stopped["version"]) == (True, whole["version"])
    assert np.isfinite(stopped["epoch_losses"]).all()


def test_words_are_the_means_of_their_parts_and_unseen_ones_of_their_n_grams(data: str, tmp_path: Path) -> None:
    kind = KINDS[2]
    command.train(config_of(data, tmp_path / "m", **kind))
    model, vectors = load_model(str(tmp_path / "m")), load(str(tmp_path / "m"))
    assert model.subwords is not None
    rows_RD, rule = model.subwords.rows_RD, model.subwords.rule
    assert (rule.lengths, rule.buckets) == ("1-3", 50)
    parts = rule.parts(model.vocabulary.tokens)
    for word in range(len(model.vocabulary)):
        own = parts.rows[parts.offsets[word] : parts.offsets[word + 1]]
        np.testing.assert_allclose(model.input_VD[word], rows_RD[own].mean(axis=0), atol=1e-6)
    unseen = rule.unseen("neverseen", len(model.vocabulary))
    np.testing.assert_allclose(vectors["neverseen"], rows_RD[unseen].mean(axis=0), atol=1e-6)


def test_a_model_of_n_grams_can_be_started_from(data: str, tmp_path: Path) -> None:
    """At a rate of next to nothing the vectors are those that it started from."""
    kind = KINDS[2]
    command.train(config_of(data, tmp_path / "first", **kind))
    options = {"learning_rate": 1e-12, "init_from": str(tmp_path / "first"), "epochs": 1}
    command.train(config_of(data, tmp_path / "second", **kind, **options))
    first, second = (load_model(str(tmp_path / name)) for name in ("first", "second"))
    assert first.subwords is not None
    assert second.subwords is not None
    np.testing.assert_allclose(second.subwords.rows_RD, first.subwords.rows_RD, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: " ".join(map(str, kind.values())))
def test_several_processes_train_and_agree(data: str, tmp_path: Path, kind: dict[str, Any]) -> None:
    flags = [word for name, value in kind.items() for word in _flag(name, value)]
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "trainer", "train"]
    settings = ["--data", data, "--model", str(tmp_path / "m"), "--dim", "20", "--threads", "1", "--json", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *words, *settings, "--audit", *flags], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["processes"] == 2
    assert result["audit"][0]["missing"] == result["audit"][0]["repeated"] == 0
    model = load_model(str(tmp_path / "m"))
    assert np.isfinite(model.input_VD).all()
    assert (model.subwords is not None) == ("subwords" in kind)


def _flag(name: str, value: object) -> list[str]:
    flag = name.replace("_", "-")
    return [f"--no-{flag}"] if value is False else [f"--{flag}", str(value)]


def test_another_architecture_is_another_training(data: str, tmp_path: Path) -> None:
    command.train(config_of(data, tmp_path / "m"))
    with pytest.raises(UserError, match=r"found a model with --architecture skipgram.*expected --architecture cbow"):
        command.train(config_of(data, tmp_path / "m", architecture="cbow"))
