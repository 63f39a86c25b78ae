"""The same train command again: done, to go on, or refused; whatever the device, and whatever was published since."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from pipeline.dataset.schema import canonical_json
from tests.support.datasets import group_of, make_dataset
from tests.support.steps import after_steps
from trainer.checkpoints.resume import Identity
from trainer.checkpoints.write import Checkpoints, find_unfinished
from trainer.config import TrainConfig
from trainer.errors import Stopped, UserError
from trainer.models.pointer import read_pointer
from trainer.models.store import finished_version, load_model
from trainer.training import command

GROUPS = [group_of([[(row + step) % 9 for step in range(7)] for row in range(5 + n)]) for n in range(4)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_dataset(tmp_path_factory.mktemp("resume") / "data", passes=[[GROUPS]])


def config_of(data: str, model: Path, **changes: Any) -> TrainConfig:
    plain = {"dim": 5, "negatives": 3, "threads": 1, "device": "cpu", "quiet": True}
    return TrainConfig(data=data, model=str(model), **{**plain, **changes})


def interrupt(config: TrainConfig, steps: int = 2) -> None:
    with pytest.MonkeyPatch.context() as patch:
        after_steps(patch, steps, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Stopped):
            command.train(config)


def test_a_version_that_is_to_be_replaced_does_not_end_the_training_that_replaces_it(data: str, tmp_path: Path) -> None:
    config = config_of(data, tmp_path / "m", threads=2)
    first = command.train(config)["version"]
    interrupt(dataclasses.replace(config, overwrite=True))
    assert command.train(dataclasses.replace(config, resume="never"))["status"] == "finished before"
    interrupt(dataclasses.replace(config, overwrite=True))
    second = command.train(config)
    assert (second["status"], second["resumed"]) == ("finished", True)
    assert command.train(config)["status"] == "finished before"
    pointer = read_pointer(config.model)
    assert pointer is not None
    assert set(pointer.kept) == {first, second["version"]}


def test_checkpoints_that_outlive_the_publication_are_removed(data: str, tmp_path: Path) -> None:
    config = config_of(data, tmp_path / "m")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "remove_checkpoints", lambda _: 1 / 0)  # the process dies here
        with pytest.raises(ZeroDivisionError):
            command.train(dataclasses.replace(config, checkpoint_minutes=1e-12))
    assert find_unfinished(config.model) is not None
    assert command.train(config)["status"] == "finished before"
    assert find_unfinished(config.model) is None


@pytest.mark.parametrize("state", ["finished", "unfinished"])
def test_a_training_that_followed_its_dataset_is_the_same_by_any_run_it_read(tmp_path: Path, state: str) -> None:
    data = make_dataset(tmp_path / "data", passes=[[GROUPS[:2]]], run_id="one")
    config = config_of(data, tmp_path / "m", epochs=6, follow_latest=True)

    def move() -> None:
        make_dataset(tmp_path / "data", passes=[[GROUPS[2:]]], run_id="two")

    with pytest.MonkeyPatch.context() as patch:
        after_steps(patch, 1, move)
        if state == "unfinished":
            after_steps(patch, 5, lambda: signal.raise_signal(signal.SIGTERM))
            with pytest.raises(Stopped):
                command.train(config)
        else:
            command.train(config)
    for run in ("", "one", "two"):
        again = dataclasses.replace(config, run=run, resume="must")
        if state == "finished":
            assert command.train(again)["status"] == "finished before"
        else:
            interrupt(again, 1)
    make_dataset(tmp_path / "data", passes=[[GROUPS[1:3]]], run_id="three")
    with pytest.raises(UserError, match=r"dataset [0-9a-f]{16}…, expected dataset [0-9a-f]{16}…"):
        command.train(dataclasses.replace(config, run="three"))
    if state == "unfinished":
        command.train(config)
        info = finished_version(config.model)
        assert info is not None
        assert len(info["lineage"]["followed"]) == 2


def test_what_was_trained_otherwise_before_a_restart_is_written_down(data: str, tmp_path: Path) -> None:
    config = config_of(data, tmp_path / "m")
    interrupt(config, 1)
    interrupt(dataclasses.replace(config, threads=2), 1)
    command.train(dataclasses.replace(config, threads=2))
    info = finished_version(config.model)
    assert info is not None
    one, two = ({"device": "cpu", "threads": threads, "processes": 1} for threads in (1, 2))
    assert info["training"] == {**two, "before": [one]}


def resolved(asked: TrainConfig) -> dict[str, Any]:
    return {**asked.resolve(lambda: True, 4).shaping(), "init_from": ""}


ENGINES: dict[str, dict[str, Any]] = {
    "fused": {},
    "per pair": {"predict": "context"},
    "reference": {"optimizer": "adagrad"},
    "chosen": {"negative_sharing": "window", "engine": "fused"},
    "adam": {"optimizer": "adam", "batch_size": 64},
}


@pytest.mark.parametrize("flags", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize(("first", "second"), [("cpu", "cuda"), ("cuda", "cpu"), ("cpu", "auto"), ("cuda", "auto")])
def test_the_device_and_what_follows_from_it_do_not_count(flags: dict[str, Any], first: str, second: str) -> None:
    asked = TrainConfig("d", "m", device=second, **flags)
    found = resolved(TrainConfig("d", "m", device=first, **flags))
    assert Identity(asked, resolved(asked), "d").is_of(found, "c", "d")
    assert not Identity(asked, resolved(asked), "d").is_of(found, "c")
    assert not Identity(asked, resolved(asked), "d").is_of({**found, "seed": 2}, "d")


ADAM = {"optimizer": "adam"}


@pytest.mark.parametrize(
    ("before", "now", "differ"),
    [
        ({"device": "cuda"}, {"device": "cpu", "negative_sharing": "pool"}, ["negative_sharing"]),
        ({"device": "cpu"}, {"device": "cuda", "negative_sharing": "pair"}, ["negative_sharing"]),
        ({"device": "cuda", "negative_sharing": "pair"}, {"device": "cpu"}, ["negative_sharing"]),
        ({"device": "cuda", **ADAM}, {"device": "cpu", **ADAM, "batch_size": 9}, ["batch_size"]),
        ({"device": "cpu"}, {"device": "cuda", "arithmetic": "bf16"}, ["arithmetic"]),
        ({"device": "cuda", "arithmetic": "bf16"}, {"device": "cuda"}, ["arithmetic"]),
        ({"device": "cuda", "arithmetic": "bf16"}, {"device": "cpu"}, []),
        ({"device": "cpu"}, {"device": "cpu", "dim": 7}, ["dim"]),
        ({"device": "cuda"}, {"device": "cpu", "dim": 7}, ["dim"]),
    ],
)  # fmt: skip
def test_what_was_chosen_counts(before: dict[str, Any], now: dict[str, Any], differ: list[str]) -> None:
    asked = TrainConfig("d", "m", **now)
    found = resolved(TrainConfig("d", "m", **before))
    assert [*Identity(asked, resolved(asked), "d").differences(found)] == differ


def test_a_setting_that_did_not_exist_then_has_its_default() -> None:
    asked = TrainConfig("d", "m", device="cpu")
    found = resolved(asked)
    del found["clip_norm"]
    assert Identity(asked, resolved(asked), "d").is_of(found, "d")


def as_of_a_gpu(model: Path) -> None:
    """Let a folder's checkpoints be those of a GPU, as the first release wrote them."""
    path = model / "checkpoints/LATEST.json"
    pointer = json.loads(path.read_bytes())
    pointer["config"] |= {"device": "cuda", "negative_sharing": "window"}
    for name in ("followed", "training", "replaces"):
        del pointer[name]
    path.write_bytes(canonical_json({**pointer, "version": "0123456789abcdef"}))


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_a_checkpoint_of_a_gpu_goes_on_on_a_cpu_and_that_is_said(
    data: str, tmp_path: Path, device: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "has_cuda", lambda: False)
    config = config_of(data, tmp_path / "m")
    interrupt(config)
    as_of_a_gpu(tmp_path / "m")
    again = dataclasses.replace(config, device=device, resume="must")
    with pytest.raises(UserError, match=r"found an unfinished training with --dim 5, expected --dim 6; "):
        command.train(dataclasses.replace(again, dim=6))
    with pytest.raises(UserError, match=r"with --negative-sharing window, expected --negative-sharing pair; "):
        command.train(dataclasses.replace(again, negative_sharing="pair"))
    capsys.readouterr()
    interrupt(again, 1)
    assert capsys.readouterr().err == (
        f"warning: {tmp_path}/m: this training began on cuda and goes on on cpu: the vectors will not be exactly those "
        "of one device\n"
    )
    assert command.train(again)["resumed"] is True
    assert capsys.readouterr().err == ""
    info = load_model(config.model).info
    assert (info["config"]["device"], info["metrics"]["pairs"]) == ("cpu", sum(len(group[0]) for group in GROUPS))


def test_what_a_killed_process_left_half_written_goes_when_the_next_one_goes_on(data: str, tmp_path: Path) -> None:
    config = config_of(data, tmp_path / "m")
    interrupt(config)
    folder = tmp_path / "m/checkpoints"
    before = {path.name for path in folder.iterdir()}
    (folder / "000000000000999").mkdir()
    (folder / "000000000000999/.state.safetensors.x.tmp").write_bytes(b"half")
    (folder / ".LATEST.json.x.tmp").write_bytes(b"half")
    unfinished = find_unfinished(config.model)
    assert unfinished is not None
    Checkpoints(config.model, {}, "d", keep=2).adopt(unfinished)
    assert {path.name for path in folder.iterdir()} == before
