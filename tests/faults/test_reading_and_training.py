"""Faults while reading and training that no other file has: real signals, real processes, resumed curves.

Where the others are: damaged and foreign files in contract/test_reader, ranks, workers and dying workers in
trainer/test_stream, several processes in trainer/test_processes, kill -9 in test_kill_training, torn and malicious
checkpoints in trainer/test_checkpoint, NaN in trainer/test_train, stores in test_store_faults, warm starts in
trainer/test_tables and trainer/test_follow, exports in trainer/test_export.
"""

from __future__ import annotations

import json
import math
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.dataset.reader import open_dataset
from tests.support.datasets import group_of, make_dataset
from tests.support.launch import TERM, launch
from trainer.checkpoints.saving import Saver
from trainer.config import TrainConfig
from trainer.errors import Stopped, UserError
from trainer.progress.meter import Meter
from trainer.training import command as train
from trainer.training.loop import Loop
from trainer.training.signals import REPEAT_S, noted_signals

EPOCHS = 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(3)
    groups = [group_of([list(rng.zipf(1.4, 30) % 60) for _ in range(20)]) for _ in range(8)]
    passes = [[groups[:3], groups[3:]]] * EPOCHS
    return make_dataset(tmp_path_factory.mktemp("faults") / "data", passes=passes)


def config_of(data: str, model: Path, **changes: Any) -> TrainConfig:
    plain = {"dim": 8, "epochs": EPOCHS, "threads": 1, "device": "cpu", "quiet": True}
    return TrainConfig(data=data, model=str(model), **{**plain, **changes})


def words(data: str, model: Path) -> list[str]:
    return ["train", "--data", data, "--model", str(model), "--dim", "8", "--epochs", str(EPOCHS), "--device", "cpu"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_writes_a_checkpoint_then_ends_with_its_status(
    data: str, tmp_path: Path, number: int, status: int
) -> None:
    command = [*words(data, tmp_path / "m"), "--threads", "1", "--json"]
    [ended] = launch(1, command, stop=f"0:{int(number)}:trainer.training.loop.Loop._step:5")
    assert ended.status == status
    assert len(list((tmp_path / "m" / "checkpoints").glob("0*"))) == 1
    assert not (tmp_path / "m" / "train.lock").exists()
    [again] = launch(1, [*command, "--resume", "must"])
    assert again.status == 0
    assert json.loads(again.out)["resumed"] is True


def test_a_second_signal_ends_it_at_once_but_not_an_echo_of_the_first() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    now = [10.0]
    with pytest.raises(KeyboardInterrupt), noted_signals(lambda: now[0]) as noted:  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        now[0] += REPEAT_S - 0.1
        signal.raise_signal(signal.SIGTERM)
        assert noted.number == signal.SIGINT
        now[0] += 0.2
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("nothing happened")
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("threads", [1, 2])
def test_every_pair_once_per_epoch_over_many_stops(
    data: str, tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(data, tmp_path / "m", threads=threads, audit=True)
    step, steps = Loop._step, 0

    def stopping(loop: Loop, *args: Any) -> None:
        nonlocal steps
        step(loop, *args)
        steps += 1
        if steps % 3 == 0:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Loop, "_step", stopping)
    stops = 0
    while True:
        try:
            result = train.train(config)
            break
        except Stopped:
            stops += 1
    assert stops == 8 * EPOCHS // 3
    pairs = open_dataset(data).pairs_in_pass(0)
    assert result["audit"] == [{"pairs": pairs, "missing": 0, "repeated": 0, "altered_row_groups": 0}] * EPOCHS


def test_two_trainings_do_not_write_one_folder(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Loop._step
    refused: list[str] = []

    def other(loop: Loop, *args: Any) -> None:
        if not refused:
            monkeypatch.setattr(Loop, "_step", step)
            # Two descriptors of one process exclude each other as those of two processes do.
            thread = threading.Thread(target=second)
            thread.start()
            thread.join()
        step(loop, *args)

    def second() -> None:
        with pytest.raises(UserError, match="another training is running in it") as caught:
            train.train(config_of(data, tmp_path / "m"))
        refused.append(str(caught.value))

    monkeypatch.setattr(Loop, "_step", other)
    assert train.train(config_of(data, tmp_path / "m"))["status"] == "finished"
    assert len(refused) == 1


def test_a_resumed_curve_joins_the_old_one(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses, rates and what the display says are those of the undisturbed run, step by step."""
    seen: list[tuple[Any, ...]] = []
    add = Meter.add

    def note(meter: Meter, epoch: int, pairs: int, loss: float, rate: float) -> None:
        add(meter, epoch, pairs, loss, rate)
        assert meter._bar is not None
        seen.append((epoch, pairs, loss, rate, meter._bar.n, meter._loss, meter._bar.total))

    monkeypatch.setattr(Meter, "add", note)
    train.train(config_of(data, tmp_path / "whole", quiet=False))
    whole, seen[:] = list(seen), []
    for stop in (3, 8, 8):  # inside an epoch, at its end, at the end of the next one
        with monkeypatch.context() as patch:
            begun = len(seen)
            step = Loop._step

            def stopping(loop: Loop, *args: Any, begun: int = begun, stop: int = stop, step: Any = step) -> None:
                step(loop, *args)
                if len(seen) - begun == stop - 1:
                    signal.raise_signal(signal.SIGTERM)

            patch.setattr(Loop, "_step", stopping)
            with pytest.raises(Stopped):
                train.train(config_of(data, tmp_path / "torn", quiet=False))
    assert train.train(config_of(data, tmp_path / "torn", quiet=False))["resumed"] is True
    assert [one[:5] for one in seen] == [one[:5] for one in whole]
    assert [one[6] for one in seen] == [one[6] for one in whole]
    assert all(math.isclose(one[5], other[5]) for one, other in zip(seen, whole, strict=True))
    assert train.train(config_of(data, tmp_path / "torn", quiet=False))["status"] == "finished before"


def test_a_checkpoint_every_so_many_pairs(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    save = Loop._save

    def note(loop: Loop, *args: Any) -> None:
        saved.append(loop.progress.pairs)
        save(loop, *args)

    write = Saver.write

    def write_at_once(saver: Saver, *args: Any) -> None:
        write(saver, *args)
        saver.wait()

    monkeypatch.setattr(Loop, "_save", note)
    monkeypatch.setattr(Saver, "write", write_at_once)
    result = train.train(config_of(data, tmp_path / "m", checkpoint_pairs=4000))
    gaps = np.diff([0, *saved])
    group = result["pairs"] / (8 * EPOCHS)
    assert (gaps >= 4000).all()
    assert (gaps < 4000 + 2 * group).all()
    assert len(saved) == pytest.approx(result["pairs"] / (4000 + group / 2), rel=0.3)


def test_out_of_gpu_memory_says_what_to_change(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    from trainer.cli import main
    from trainer.engines.reference import ReferenceEngine

    def full(*_: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 has …")

    monkeypatch.setattr(ReferenceEngine, "_to_device", full)
    assert main([*words(data, tmp_path / "m"), "--engine", "reference"]) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("error: --device cpu: found too little memory on it for --dim 8")


def test_other_processes_than_before_go_on_from_any_checkpoint(data: str, tmp_path: Path) -> None:
    command = [*words(data, tmp_path / "m"), "--threads", "1", "--audit", "--json", "--checkpoint-pairs", "1"]
    command += ["--merge-pairs", "500"]
    for size, steps in ((1, 5), (2, 4)):
        ended = launch(size, command, stop=f"0:{TERM}:trainer.training.loop.Loop._step:{steps}")
        assert [process.status for process in ended] == [143] * size
    [last] = launch(1, command)
    result = json.loads(last.out)
    assert sum(epoch["pairs"] for epoch in result["audit"]) == result["pairs"]
    assert result["resumed"] is True
