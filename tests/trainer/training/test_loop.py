"""The loop from dataset to published model: equal bytes, stops and restarts, refusals."""

from __future__ import annotations

import hashlib
import json
import math
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from pipeline.dataset.reader import open_dataset
from pipeline.dataset.schema import FormatError
from tests.support.datasets import group_of, make_dataset
from tests.support.steps import after_steps
from trainer.checkpoints.saving import Saver
from trainer.cli import main
from trainer.config import TrainConfig
from trainer.distributed.group import Processes
from trainer.engines.base import Engine
from trainer.errors import Stopped, UserError
from trainer.exporting.command import export_model
from trainer.models.store import finished_version, load_model
from trainer.progress.meter import Meter
from trainer.training import command
from trainer.training.hints import warn_of_settings
from trainer.training.loop import Loop
from trainer.training.setup import Session, begin

FILES = ("model.safetensors", "vocab.parquet", "model.json")
ENGINES: dict[str, dict[str, Any]] = {
    "fused": {"engine": "fused"},
    "sgd": {"engine": "reference", "batch_size": 1},
    "adam": {"engine": "reference", "optimizer": "adam", "batch_size": 2},
}


def group(seed: int, sentences: int = 6) -> Any:
    rng = np.random.default_rng(seed)
    return group_of([list(rng.integers(0, 6, 7) + 6 * (row % 2)) for row in range(sentences)])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    passes = [[[group(1), group(2)], [group(3, 3)]], [[group(4), group(5, 2), group(6)]]]
    return make_dataset(tmp_path_factory.mktemp("train") / "data", passes=passes)


def make_config(data: str, model: Path, **changes: Any) -> TrainConfig:
    plain = {"dim": 6, "negatives": 3, "epochs": 3, "threads": 1, "device": "cpu", "quiet": True}
    return TrainConfig(data=data, model=str(model), **{**plain, **changes})


def digests(model: Path) -> dict[str, str]:
    folder = next((model / "versions").iterdir())
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}


@pytest.fixture(autouse=True)
def _known_warning(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if not line.startswith(("warning: --epochs 3 over", "error: "))] == []


@pytest.mark.parametrize("engine", ENGINES)
def test_one_thread_gives_the_same_bytes(data: str, tmp_path: Path, engine: str) -> None:
    results = [command.train(make_config(data, tmp_path / name, **ENGINES[engine])) for name in ("one", "other")]
    assert digests(tmp_path / "one") == digests(tmp_path / "other")
    assert results[0]["version"] == results[1]["version"]


def test_the_result_says_what_was_done(data: str, tmp_path: Path) -> None:
    result = command.train(make_config(data, tmp_path / "m", learning_rate=0.05))
    pairs = [len(group(n, s)[0]) for n, s in ((1, 6), (2, 6), (3, 3), (4, 6), (5, 2), (6, 6))]
    assert result["pairs"] == 2 * sum(pairs[:3]) + sum(pairs[3:])
    assert result["status"] == "finished"
    assert result["first_loss"] == pytest.approx(4 * math.log(2), rel=1e-6)
    assert len(result["epoch_losses"]) == 3
    assert result["loss"] == result["epoch_losses"][-1] < result["epoch_losses"][0] < result["first_loss"]
    assert result["pairs_per_s"] > 0
    assert result["raw_words_per_s"] > 0
    assert result["resumed"] is False
    info = finished_version(str(tmp_path / "m"))
    assert info is not None
    assert info["lineage"] == {"dataset_id": result["dataset_id"], "passes": 2}
    assert info["config"]["learning_rate"] == 0.05
    assert not {"threads", "model", "data"} & info["config"].keys()
    assert sorted(path.name for path in (tmp_path / "m").iterdir() if not path.name.endswith(".lock")) == [
        "LATEST.json",
        "versions",
    ]


def test_the_loss_is_the_mean_over_all_pairs(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int, float]] = []
    monkeypatch.setattr(Meter, "add", lambda _, epoch, pairs, loss, rate: seen.append((epoch, pairs, loss)))
    result = command.train(make_config(data, tmp_path / "m"))
    for epoch in range(3):
        steps = [(pairs, loss) for one, pairs, loss in seen if one == epoch]
        mean = sum(loss for _, loss in steps) / sum(pairs for pairs, _ in steps)
        assert result["epoch_losses"][epoch] == pytest.approx(mean)


def test_the_learning_rate_falls_by_pairs_to_its_floor(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    pairs: list[int] = []

    def note(_: Meter, epoch: int, count: int, loss: float, rate: float) -> None:
        rates.append(rate)
        pairs.append(count)

    monkeypatch.setattr(Meter, "add", note)
    command.train(make_config(data, tmp_path / "m", learning_rate=0.1))
    left = 1 - np.cumsum(pairs) / sum(pairs)
    assert rates == pytest.approx(list(0.1 * np.maximum(left, 1e-4)))


class Late:
    """An engine whose losses come one step late, as those of several threads and of a GPU do."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._owed = engine, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def step(self, *pairs: Any, **settings: Any) -> float:
        before, self._owed = self._owed, self._engine.step(*pairs, **settings)
        return before

    def drain(self) -> float:
        owed, self._owed = self._owed, 0.0
        return owed


def test_losses_that_come_late_are_no_rise(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.training.divergence.FEWEST_PAIRS", 1)
    monkeypatch.setattr("trainer.training.divergence.STRETCHES_AN_EPOCH", 2)
    monkeypatch.setattr("trainer.training.loop.is_due", lambda *_: False)
    config = make_config(data, tmp_path / "m").resolve(lambda: False, 1)
    session = begin(config, config, Processes())
    assert isinstance(session, Session)
    session.loop.engine = Late(session.loop.engine)
    session.loop.run()
    assert session.loop.progress.pairs == session.loop.total


class Killed(Exception):  # noqa: N818
    """Stands for a death without notice."""


def stop_after(patch: pytest.MonkeyPatch, steps: int, kill: bool) -> None:
    """Let the process get SIGTERM after some steps, or die right there."""

    def stop() -> None:
        if kill:
            raise Killed
        signal.raise_signal(signal.SIGTERM)

    after_steps(patch, steps, stop)


@pytest.mark.parametrize("kill", [False, True], ids=["SIGTERM", "killed"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_with_interruptions_is_the_undisturbed_run(
    data: str, tmp_path: Path, engine: str, kill: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.engines.reference.BATCHES_A_STEP", 32)  # so that it stops inside row groups
    command.train(make_config(data, tmp_path / "whole", **ENGINES[engine]))
    # So short that there is a checkpoint after each step.
    config = make_config(data, tmp_path / "torn", checkpoint_minutes=1e-12 if kill else 0, **ENGINES[engine])
    stops, expected = 0, Killed if kill else Stopped
    while True:
        with monkeypatch.context() as patch:
            stop_after(patch, 2 + stops % 3, kill)
            try:
                result = command.train(config)
                break
            except expected:
                stops += 1
                assert stops < 200
    assert stops >= 3
    assert result["resumed"] is True
    assert digests(tmp_path / "torn") == digests(tmp_path / "whole")
    assert not (tmp_path / "torn" / "checkpoints").exists()


@pytest.mark.parametrize("steps", [3, 6, 9], ids=["end of an epoch", "end of another", "end of all"])
def test_stopping_at_an_epochs_end(data: str, tmp_path: Path, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    command.train(make_config(data, tmp_path / "whole"))
    config = make_config(data, tmp_path / "torn")
    interrupt(config, monkeypatch, steps)
    assert command.train(config)["resumed"] is True
    assert digests(tmp_path / "torn") == digests(tmp_path / "whole")


def interrupt(config: TrainConfig, monkeypatch: pytest.MonkeyPatch, steps: int = 4) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, steps, kill=False)
        with pytest.raises(Stopped):
            command.train(config)


def test_a_torn_checkpoint_is_ignored_with_a_warning(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command.train(make_config(data, tmp_path / "whole"))
    config = make_config(data, tmp_path / "m", checkpoint_minutes=1e-12)
    interrupt(config, monkeypatch)
    newest = max((tmp_path / "m" / "checkpoints").glob("0*"))
    content = (newest / "state.safetensors").read_bytes()
    (newest / "state.safetensors").write_bytes(content[: len(content) // 2])
    capsys.readouterr()
    assert command.train(config)["resumed"] is True
    assert f"ignored a checkpoint: {newest}" in capsys.readouterr().err
    assert digests(tmp_path / "m") == digests(tmp_path / "whole")


def test_where_no_checkpoint_is_whole_it_begins_again(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command.train(make_config(data, tmp_path / "whole"))
    config = make_config(data, tmp_path / "m")
    interrupt(config, monkeypatch)
    for path in (tmp_path / "m" / "checkpoints").glob("0*/state.json"):
        path.write_bytes(b"{}")
    with pytest.raises(UserError, match="--resume must: no complete checkpoint"):
        command.train(make_config(data, tmp_path / "m", resume="must"))
    assert command.train(config)["resumed"] is False
    assert digests(tmp_path / "m") == digests(tmp_path / "whole")
    capsys.readouterr()


def test_threads_may_change_on_the_way(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(data, tmp_path / "m")
    interrupt(config, monkeypatch)
    assert command.train(make_config(data, tmp_path / "m", threads=2))["resumed"] is True


@pytest.mark.parametrize("state", ["finished", "unfinished"])
def test_another_config_or_dataset_is_refused_naming_it(
    data: str, tmp_path: Path, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(data, tmp_path / "m")
    command.train(config) if state == "finished" else interrupt(config, monkeypatch)
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "m").rglob("*"))
    what = "a model" if state == "finished" else "an unfinished training"
    with pytest.raises(UserError, match=rf"found {what} with --dim 6, expected --dim 7; --overwrite starts again"):
        command.train(make_config(data, tmp_path / "m", dim=7))
    other = make_dataset(tmp_path / "other", passes=[[[group(8)]]])
    with pytest.raises(UserError, match=r"dataset [0-9a-f]{16}…, expected dataset [0-9a-f]{16}…"):
        command.train(make_config(other, tmp_path / "m"))
    assert before == sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "m").rglob("*"))


def test_finished_says_so_and_touches_nothing(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--data", data, "--model", f"{tmp_path}/m", "--dim", "4", "--threads", "1", "--device", "cpu"]
    assert main([*words, "--json"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "m").rglob("*"))
    assert main([*words, "--json"]) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again["status"] == "finished before"
    assert {name: first[name] for name in again if name != "status"} == {
        name: value for name, value in again.items() if name != "status"
    }
    assert main([*words, "--resume", "must"]) == 0
    assert "trained already" in capsys.readouterr().out
    assert before == sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "m").rglob("*"))


def test_overwrite_keeps_the_old_model_until_the_new_one_is_there(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = command.train(make_config(data, tmp_path / "m"))
    new = make_config(data, tmp_path / "m", dim=7, overwrite=True)
    interrupt(new, monkeypatch)
    info = finished_version(str(tmp_path / "m"))
    assert info is not None
    assert info["version"] == old["version"]
    # The same command without --overwrite goes on with the new one.
    assert command.train(make_config(data, tmp_path / "m", dim=7))["resumed"] is True
    assert load_model(str(tmp_path / "m")).input_VD.shape[1] == 7


def test_resume_never_and_must(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="--resume must: no checkpoint"):
        command.train(make_config(data, tmp_path / "m", resume="must"))
    assert not (tmp_path / "m").exists()
    interrupt(make_config(data, tmp_path / "m"), monkeypatch)
    assert command.train(make_config(data, tmp_path / "m", resume="never"))["resumed"] is False


@pytest.mark.parametrize("where", ["loss", "table"])
def test_nan_stops_and_the_last_checkpoint_stays(
    data: str, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(data, tmp_path / "m", checkpoint_minutes=1e-12)
    step, steps = Loop._step, 0

    def poison(self: Loop, *args: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 5 and where == "loss":
            self.engine.tables()[0][:] = np.nan
        step(self, *args)
        if steps == 5:
            self.engine.tables()[1][3, 2] = np.inf

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", poison)
        patch.setattr(Saver, "is_due", lambda *_: True)
        what = "the loss" if where == "loss" else "the output table"
        with pytest.raises(UserError, match=f"training: found NaN or Inf in {what}.*lower --learning-rate"):
            command.train(config)
    assert finished_version(str(tmp_path / "m")) is None
    assert len(list((tmp_path / "m" / "checkpoints").glob("0*"))) == 2
    command.train(make_config(data, tmp_path / "whole"))
    assert command.train(config)["resumed"] is True
    assert digests(tmp_path / "m") == digests(tmp_path / "whole")


def test_a_warm_start_keeps_vectors_and_counts_by_content(data: str, tmp_path: Path) -> None:
    base = command.train(make_config(data, tmp_path / "base"))
    warm = make_config(data, tmp_path / "warm", init_from=str(tmp_path / "base"), learning_rate=1e-12)
    result = command.train(warm)
    assert result["version"] != base["version"]
    found, expected = load_model(str(tmp_path / "warm")), load_model(str(tmp_path / "base"))
    np.testing.assert_allclose(found.input_VD, expected.input_VD, atol=1e-6)
    np.testing.assert_allclose(found.output_VD, expected.output_VD, atol=1e-6)
    (tmp_path / "base").rename(tmp_path / "moved")
    moved = make_config(data, tmp_path / "warm", init_from=str(tmp_path / "moved"), learning_rate=1e-12)
    assert command.train(moved)["status"] == "finished before"
    with pytest.raises(UserError, match="--init-from: found vectors of 6 dimensions, expected 7"):
        command.train(make_config(data, tmp_path / "x", init_from=str(tmp_path / "moved"), dim=7))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("form", ["word2vec", "fasttext"])
def test_a_warm_start_from_a_file_keeps_vectors(form: str, data: str, tmp_path: Path) -> None:
    command.train(make_config(data, tmp_path / "base"))
    base, file = load_model(str(tmp_path / "base")), str(tmp_path / "vectors")
    export_model(base, form, file)
    command.train(make_config(data, tmp_path / "warm", init_from=file, learning_rate=1e-12))
    found = load_model(str(tmp_path / "warm"))
    np.testing.assert_allclose(found.input_VD, base.input_VD, atol=1e-6)
    if form == "fasttext":
        np.testing.assert_allclose(found.output_VD, base.output_VD, atol=1e-6)
    else:
        assert np.abs(found.output_VD).max() < 1e-6, "expected zeros, as --init word2vec has them"
    (tmp_path / "vectors").write_bytes(b"no vectors\n")
    with pytest.raises(FormatError, match="vectors: found no file of word2vec or fastText"):
        command.train(make_config(data, tmp_path / "x", init_from=file))
    assert not (tmp_path / "x").exists()


def test_a_damaged_shard_ends_the_run_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", passes=[[[group(n)] for n in range(4)]])
    path = max((tmp_path / "data" / "runs" / "run-1" / "pairs").rglob("*.parquet"))
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    config = make_config(data, tmp_path / "m", checkpoint_minutes=1e-12, shuffle=False, epochs=1)
    with pytest.raises(FormatError, match=path.name):
        command.train(config)
    assert finished_version(str(tmp_path / "m")) is None
    assert list((tmp_path / "m" / "checkpoints").glob("0*")) != []
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    assert command.train(config)["resumed"] is True


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--model", "{w}/file"], ["file"]),
        (["--model", "{w}/file/m"], ["file"]),
        (["--model", "{w}/file", "--overwrite"], ["file"]),
        (["--model", "{w}/m", "--device", "cuda"], ["--device cuda", "no usable CUDA device"]),
        (["--model", "{w}/m", "--init-from", "{w}/none"], ["none", "no such folder"]),
        (["--model", "{w}/m", "--config", "{w}/none.toml"], ["none.toml"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_goes_wrong_is_one_line(
    data: str, tmp_path: Path, words: list[str], parts: list[str], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(command, "has_cuda", lambda: False)
    (tmp_path / "file").write_text("no folder")
    assert main(["train", "--data", data, *(word.format(w=tmp_path) for word in words)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert all(part in error for part in parts), error
    assert not (tmp_path / "m").exists()


def test_more_epochs_than_passes_are_warned_of(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    command.train(make_config(data, tmp_path / "m", epochs=3))
    assert "warning: --epochs 3 over a dataset of 2 passes" in capsys.readouterr().err
    command.train(make_config(data, tmp_path / "other", epochs=2))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("options", "warned"), [({"window": 0, "sample": 0.0}, False), ({"window": 0}, True)])
def test_passes_without_draws_are_all_the_same(
    options: dict[str, Any], warned: bool, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = open_dataset(data)
    dataset = replace(dataset, manifest=msgspec.structs.replace(dataset.manifest, options=options))
    config = make_config(data, tmp_path / "m", epochs=3)
    warn_of_settings(config, config, dataset, Processes())
    assert ("--epochs 3 over a dataset of 2 passes" in capsys.readouterr().err) == warned


def test_a_signal_ends_the_command_with_its_status(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--data", data, "--model", f"{tmp_path}/m", "--epochs", "2", "--device", "cpu", "--quiet"]
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        before = signal.getsignal(number)
        with monkeypatch.context() as patch:
            add = Meter.add

            def stop(meter: Meter, *args: Any, number: int = number, add: Any = add) -> None:
                add(meter, *args)
                signal.raise_signal(number)

            patch.setattr(Meter, "add", stop)
            assert main(words) == status
        assert "the same command goes on" in capsys.readouterr().err
        assert signal.getsignal(number) is before
    assert main(words) == 0


@pytest.mark.parametrize(("flags", "said"), [([], False), (["--batch-size", "64"], True)])
def test_a_slower_engine_is_not_taken_silently(
    data: str, tmp_path: Path, flags: list[str], said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--data", data, "--model", f"{tmp_path}/m", "--dim", "4", "--device", "cpu", *flags]) == 0
    warning = "warning: --batch-size: only the reference engine has it"
    assert (warning in capsys.readouterr().err) is said
