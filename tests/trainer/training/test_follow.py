"""A run that is published while training reads another one: it disturbs nothing, unless it is to be followed."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.dataset.reader import open_dataset
from pipeline.dataset.vocabulary import Vocabulary, make_vocabulary
from tests.support.datasets import group_of, make_dataset
from tests.support.steps import after_steps
from trainer.config import TrainConfig
from trainer.errors import Stopped
from trainer.models.store import finished_version, load_model
from trainer.progress.meter import Meter
from trainer.training import command

OLD = make_vocabulary(["a", "b", "c", "d"], [9, 8, 7, 6])
GROWN = make_vocabulary(["c", "new", "a", "d", "b", "late"], [30, 20, 19, 18, 17, 2])
SHRUNK = make_vocabulary(["c", "a", "b"], [30, 20, 19])


def publish(root: Path, run: str, vocabulary: Vocabulary, seed: int, groups: int = 3) -> str:
    rng = np.random.default_rng(seed)
    rows = len(vocabulary)
    made = [group_of([list(rng.integers(0, rows, 9)) for _ in range(5)]) for _ in range(groups)]
    return make_dataset(root, vocabulary, [[made[:1], made[1:]], [made]], run_id=run)


def config_of(root: Path, name: str, **changes: Any) -> TrainConfig:
    plain = {"dim": 6, "epochs": 3, "threads": 1, "device": "cpu", "quiet": True}
    return TrainConfig(data=str(root / "data"), model=str(root / name), **{**plain, **changes})


def tables(root: Path, name: str) -> list[bytes]:
    model = load_model(str(root / name))
    return [model.input_VD.tobytes(), model.output_VD.tobytes()]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    publish(tmp_path / "data", "one", OLD, seed=1)
    return tmp_path


@pytest.mark.filterwarnings("ignore")
def test_what_is_published_meanwhile_disturbs_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command.train(config_of(root, "whole"))
    with monkeypatch.context() as patch:
        after_steps(patch, 2, lambda: publish(root / "data", "two", GROWN, seed=2))
        command.train(config_of(root, "during"))
    assert tables(root, "during") == tables(root, "whole")
    publish(root / "data", "one", OLD, seed=1)
    with monkeypatch.context() as patch:
        after_steps(patch, 2, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Stopped):
            command.train(config_of(root, "stopped"))
    publish(root / "data", "two", GROWN, seed=2)
    assert command.train(config_of(root, "stopped"))["resumed"] is True
    assert tables(root, "stopped") == tables(root, "whole")


@pytest.mark.parametrize("engine", [{"engine": "fused"}, {"engine": "reference", "optimizer": "adam"}])
def test_it_moves_to_the_newest_run_and_keeps_each_words_vector(
    root: Path, engine: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_dataset(str(root / "data"))
    flags = {**engine, "follow_latest": True, "learning_rate": 1e-12, "audit": True}
    with monkeypatch.context() as patch:
        after_steps(patch, 2, lambda: publish(root / "data", "two", GROWN, seed=2, groups=5))
        result = command.train(config_of(root, "followed", **flags))
    second = open_dataset(str(root / "data"))
    info = finished_version(str(root / "followed"))
    assert info is not None
    assert info["lineage"] == {"dataset_id": second.dataset_id, "passes": 2, "followed": [first.dataset_id]}
    assert result["pairs"] == first.pairs_in_pass(0) + second.pairs_in_pass(1) + second.pairs_in_pass(0)
    found = load_model(str(root / "followed"))
    assert found.vocabulary.tokens == GROWN.tokens
    command.train(config_of(root, "plain", **engine, run="one", learning_rate=1e-12, epochs=1))
    old = load_model(str(root / "plain"))
    rows = found.vocabulary.encode(OLD.tokens)
    np.testing.assert_allclose(found.input_VD[rows], old.input_VD, atol=1e-9)
    assert command.train(config_of(root, "followed", **flags))["status"] == "finished before"


def test_the_schedule_goes_on_without_a_jump(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    add = Meter.add

    def note(meter: Meter, epoch: int, pairs: int, loss: float, rate: float) -> None:
        rates.append(rate)
        if len(rates) == 2:
            publish(root / "data", "two", GROWN, seed=2, groups=9)

    monkeypatch.setattr(Meter, "add", note)
    command.train(config_of(root, "m", follow_latest=True, learning_rate=0.1))
    assert add is not note
    steps = -np.diff([0.1, *rates])
    assert (steps > 0).all()
    assert steps.max() < 0.03
    assert rates[-1] == pytest.approx(1e-5)


def test_a_followed_run_that_is_interrupted_comes_out_the_same(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = {"follow_latest": True, "checkpoint_minutes": 1e-12}
    shutil.copytree(root / "data", root / "fresh")
    with monkeypatch.context() as patch:
        after_steps(patch, 2, lambda: publish(root / "data", "two", GROWN, seed=2))
        command.train(config_of(root, "whole", **flags))
    shutil.rmtree(root / "data")
    shutil.move(root / "fresh", root / "data")
    for steps in (2, 3, 2):
        with monkeypatch.context() as patch:
            after_steps(patch, steps, lambda: signal.raise_signal(signal.SIGTERM))
            with pytest.raises(Stopped):
                command.train(config_of(root, "torn", **flags))
        publish(root / "data", "two", GROWN, seed=2)
    assert command.train(config_of(root, "torn", **flags))["resumed"] is True
    assert tables(root, "torn") == tables(root, "whole")


def test_a_vocabulary_that_lost_words_is_not_followed(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command.train(config_of(root, "whole", epochs=2))
    with monkeypatch.context() as patch:
        after_steps(patch, 2, lambda: publish(root / "data", "two", SHRUNK, seed=2))
        command.train(config_of(root, "m", epochs=2, follow_latest=True))
    assert capsys.readouterr().err == (
        "warning: --follow-latest: stays with run one: run two: found no row for 1 of 4 words (the first is 'd'), "
        "expected all of them\n"
    )
    assert tables(root, "m") == tables(root, "whole")
