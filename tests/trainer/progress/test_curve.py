"""The history of a training: bounded, whole after a stop, equal to what the losses add up to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.datasets import group_of, make_dataset
from trainer.config import TrainConfig
from trainer.errors import Stopped
from trainer.progress.curve import LIMIT, Point, columns, is_due, note
from trainer.training import command
from trainer.training.loop import Loop


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_points_are_few_in_order_and_end_at_the_end(step: int) -> None:
    points: list[Point] = []
    total = 10_000
    for pairs in range(step, total + step, step):
        if is_due(points, pairs, total) or pairs >= total:
            note(points, [pairs, pairs / 100, pairs * 2.5, 0.04])
    assert 0 < len(points) <= LIMIT
    assert [point[0] for point in points] == sorted({point[0] for point in points})
    assert points[-1][0] >= total
    assert len(points) >= min(total // step, 100)
    found = columns(points)
    assert found["loss"] == [2.5] * len(points)


def test_many_points_lose_every_second_one_never_the_newest() -> None:
    points: list[Point] = []
    for number in range(10 * LIMIT):
        note(points, [float(number), 0.0, 0.0, 0.0])
        assert len(points) <= LIMIT
        assert points[-1][0] == number
    assert np.diff([point[0] for point in points]).min() > 0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(2)
    groups = [group_of([list(rng.integers(0, 10, 6)) for _ in range(10)]) for _ in range(6)]
    return make_dataset(tmp_path_factory.mktemp("history") / "data", passes=[[groups]])


def config_of(data: str, model: Path) -> TrainConfig:
    return TrainConfig(data=data, model=str(model), dim=4, epochs=2, threads=1, device="cpu", quiet=True)


def history_of(model: Path) -> dict[str, Any]:
    [run] = model.glob("versions/*/run.json")
    found: dict[str, Any] = json.loads(run.read_text())["history"]
    return found


def test_the_history_adds_up_to_the_losses(data: str, tmp_path: Path) -> None:
    result = command.train(config_of(data, tmp_path / "m"))
    found = history_of(tmp_path / "m")
    assert len(found["pairs"]) == 12  # a point each row group of both epochs
    sizes = np.diff([0, *found["pairs"]])
    half = result["pairs"] // 2
    first = found["pairs"].index(half) + 1
    for epoch, part in enumerate((slice(0, first), slice(first, None))):
        mean = np.average(found["loss"][part], weights=sizes[part])
        assert mean == pytest.approx(result["epoch_losses"][epoch], abs=1e-5)
    assert found["learning_rate"] == sorted(found["learning_rate"], reverse=True)
    assert found["seconds"] == sorted(found["seconds"])


def test_a_resumed_training_has_one_history(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command.train(config_of(data, tmp_path / "whole"))
    plain, seen = Loop._note, []

    def stop_once(loop: Loop) -> None:
        plain(loop)
        seen.append(loop)
        if len(seen) == 5:
            loop._save()
            loop._saver.wait()
            raise Stopped(15)

    monkeypatch.setattr(Loop, "_note", stop_once)
    with pytest.raises(Stopped):
        command.train(config_of(data, tmp_path / "halves"))
    assert command.train(config_of(data, tmp_path / "halves"))["resumed"]
    whole, halves = history_of(tmp_path / "whole"), history_of(tmp_path / "halves")
    assert len(seen) == 12
    for name in ("pairs", "loss", "learning_rate"):
        assert whole[name] == halves[name]
    assert halves["seconds"] == sorted(halves["seconds"])
