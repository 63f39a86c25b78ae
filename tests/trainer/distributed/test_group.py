"""Several processes train one model: they agree, none is waited for in vain, and any number can go on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from pipeline.dataset.reader import open_dataset
from pipeline.dataset.vocabulary import make_vocabulary
from tests.support.datasets import group_of, make_dataset
from tests.support.launch import KILL, TERM, WAIT, Ended, finish, launch, start
from tests.support.paths import ROOT
from trainer.config import TrainConfig
from trainer.distributed.group import Processes, _take_gpu
from trainer.distributed.merge import Merger
from trainer.distributed.merge_plan import rate_factor
from trainer.errors import UserError
from trainer.models.store import load_model
from trainer.training.setup import Session, begin

GROUPS = (9, 4, 7, 2, 8, 3, 6, 5, 1, 9, 4)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two passes over uneven shards: eleven row groups, then four."""
    rng = np.random.default_rng(1)
    groups = [group_of([list(rng.integers(0, 30, 12)) for _ in range(sentences)]) for sentences in GROUPS]
    passes = [[groups[:1], groups[1:6], groups[6:]], [groups[:3], groups[3:4]]]
    return make_dataset(tmp_path_factory.mktemp("processes") / "data", passes=passes)


def words(data: str, model: Path, *more: str) -> list[str]:
    flags = ["--dim", "20", "--epochs", "2", "--threads", "1", "--device", "cpu", "--merge-pairs", "60", "--audit"]
    return ["train", "--data", data, "--model", str(model), *flags, "--json", *more]


def result_of(ended: list[Ended]) -> dict[str, object]:
    assert [process.status for process in ended] == [0] * len(ended), ended
    assert [process.out for process in ended[1:]] == [""] * (len(ended) - 1)
    result: dict[str, object] = json.loads(ended[0].out)
    return result


def digest(model: Path) -> str:
    found = load_model(str(model))
    return hashlib.sha256(found.input_VD.tobytes() + found.output_VD.tobytes()).hexdigest()


def test_they_train_every_pair_once_and_to_the_same_bytes_each_time(data: str, tmp_path: Path) -> None:
    results = [result_of(launch(3, words(data, tmp_path / name))) for name in ("one", "other")]
    dataset = open_dataset(data)
    clean = {"missing": 0, "repeated": 0, "altered_row_groups": 0}
    assert results[0]["audit"] == [{"pairs": dataset.pairs_in_pass(epoch), **clean} for epoch in range(2)]
    assert results[0]["processes"] == 3
    assert digest(tmp_path / "one") == digest(tmp_path / "other")
    shaped = load_model(str(tmp_path / "one")).info["training"]
    assert shaped["learning_rate"] == pytest.approx(0.04 * rate_factor(3))
    assert (shaped["processes"], shaped["merge"], shaped["merge_pairs"]) == (3, "adasum", 60)


def test_one_that_is_killed_ends_all_with_one_line_and_any_number_goes_on(data: str, tmp_path: Path) -> None:
    model = tmp_path / "m"
    flags = ("--checkpoint-pairs", "1")
    ended = launch(2, words(data, model, *flags), stop=f"1:{KILL}:trainer.training.loop.Loop._step:6")
    assert [process.status for process in ended] == [1, -KILL]
    assert ended[0].errors == ["error: process 1 of 2 is gone; the same command goes on from the last checkpoint"]
    again = launch(3, words(data, model, *flags), stop=f"0:{TERM}:trainer.training.loop.Loop._step:1")
    assert [process.status for process in again] == [128 + TERM] * 3
    result = result_of(launch(1, words(data, model, "--resume", "must")))
    assert result["resumed"] is True
    assert [epoch["missing"] + epoch["repeated"] for epoch in result["audit"]] == [0, 0]  # type: ignore[attr-defined]
    dataset = open_dataset(data)
    assert result["pairs"] == dataset.pairs_in_pass(0) + dataset.pairs_in_pass(1)


def reach(process: subprocess.Popen[str]) -> None:
    """Wait until a process waits where it was to."""
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"


def test_others_leave_while_process_0_publishes(data: str, tmp_path: Path) -> None:
    running = start(3, words(data, tmp_path / "m"), stop=f"0:{WAIT}:trainer.training.command._finish:1")
    reach(running[0])
    assert [process.wait(timeout=60) for process in running[1:]] == [0, 0]
    assert running[0].poll() is None
    assert result_of(finish(running))["processes"] == 3


@pytest.mark.parametrize("merge_pairs", [50, 150, 10_000])
def test_joins_come_as_often_as_was_asked(
    data: str, tmp_path: Path, merge_pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one process as seen from inside: at most so many pairs between two joins, also inside a row group."""
    dataset, joins = open_dataset(data), [0]

    class Pair(Processes):
        rank, size = 0, 2

        def all_reduce(self, array: Any) -> None:
            if isinstance(array, np.ndarray) and array.dtype == np.float64:
                between.append(int(array[1]))

        def exchange(self, blocks: Any) -> list[Any]:
            return [blocks[0], blocks[0][:0]]

    between: list[int] = []
    config = TrainConfig(
        data, str(tmp_path / "m"), dim=4, threads=1, device="cpu", merge_pairs=merge_pairs, quiet=True
    ).resolve(lambda: False, 1)
    session = begin(config, config, Pair())
    assert isinstance(session, Session)
    merge = Merger.merge

    def counted(merger: Merger, full: bool) -> None:
        joins[0] += 1
        merge(merger, full)

    monkeypatch.setattr(Merger, "merge", counted)
    session.loop.run()
    largest = max(ref.rows for ref in dataset.row_groups(0))
    assert max(between) <= max(merge_pairs, min(merge_pairs, largest)) + 11  # a window is not cut
    assert len(between) == joins[0]
    if merge_pairs < largest:
        assert max(between) > merge_pairs / 2


def test_more_processes_than_row_groups(data: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    small = make_dataset(tmp_path / "data", passes=[[[group_of([list(rng.integers(0, 9, 9))])]]])
    result_of(launch(3, words(small, tmp_path / "m", "--epochs", "1")))


def test_what_one_finds_wrong_is_said_once(data: str, tmp_path: Path) -> None:
    broken = Path(make_dataset(tmp_path / "data", passes=[[[group_of([[1, 2, 3]])] for _ in range(4)]]))
    path = max(broken.rglob("part-*.parquet"))
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    ended = launch(2, words(str(broken), tmp_path / "m"))
    assert [process.status for process in ended] == [1, 1]
    errors = [line for process in ended for line in process.errors]
    assert len(errors) == 1
    assert path.name in errors[0]


def test_other_settings_or_nothing_to_do(data: str, tmp_path: Path) -> None:
    model = tmp_path / "m"
    result_of(launch(1, words(data, model)))
    ended = launch(2, words(data, model))
    assert [process.status for process in ended] == [0, 0]
    assert json.loads(ended[0].out)["status"] == "finished before"
    refused = launch(2, words(data, model, "--seed", "2"))
    assert [process.status for process in refused] == [1, 1]
    errors = [line for process in refused for line in process.errors]
    assert len(errors) == 1
    assert "--seed 1, expected --seed 2" in errors[0]


def test_the_reference_engine_merges_its_optimizers_state(data: str, tmp_path: Path) -> None:
    flags = ("--engine", "reference", "--optimizer", "adam", "--batch-size", "64", "--checkpoint-pairs", "1")
    whole = launch(2, words(data, tmp_path / "whole", *flags))
    result_of(whole)
    stopped = launch(2, words(data, tmp_path / "m", *flags), stop=f"1:{TERM}:trainer.training.loop.Loop._step:4")
    assert [process.status for process in stopped] == [128 + TERM] * 2
    assert result_of(launch(2, words(data, tmp_path / "m", *flags)))["resumed"] is True
    assert digest(tmp_path / "m") == digest(tmp_path / "whole")


def test_all_move_to_a_newer_run_together(data: str, tmp_path: Path) -> None:
    copied = shutil.copytree(data, tmp_path / "data")
    flags = ("--follow-latest", "--engine", "reference", "--batch-size", "64")
    command = words(str(copied), tmp_path / "m", *flags)
    stopped = launch(2, command, stop=f"0:{TERM}:trainer.training.loop.Loop._step:1")
    assert [process.status for process in stopped] == [128 + TERM] * 2, stopped
    old = open_dataset(str(copied))
    grown = make_vocabulary(["new", *old.vocabulary().tokens[::-1]], range(90, 90 - 1 - len(old.vocabulary()), -1))
    group = group_of([[1, 2, 30, 4, 0, 5]] * 9)
    make_dataset(copied, grown, [[[group]], [[group], [group]]], run_id="newer")
    result = result_of(launch(2, command))
    assert result["run_id"] == "newer"
    assert result["pairs"] == old.pairs_in_pass(0) + 2 * len(group[0])
    assert load_model(str(tmp_path / "m")).vocabulary.tokens == grown.tokens


def test_as_torchrun_starts_them(data: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "-m", "trainer", *words(data, tmp_path / "m")],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout.splitlines()[-1])["processes"] == 2


def test_ctrl_c_under_torchrun_leaves_a_checkpoint(data: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    flags = ("--epochs", "20000", "--dim", "64")
    process = subprocess.Popen(
        [*command, "-m", "trainer", *words(data, tmp_path / "m", *flags)],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 100
    while not (tmp_path / "m" / "checkpoints" / "LATEST.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1.0)  # so that both are in their loops
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) != 0
    assert len(list((tmp_path / "m" / "checkpoints").glob("0*/state.json"))) == 1


def test_more_processes_than_gpus() -> None:
    class Cuda:
        class cuda:  # noqa: N801
            taken: ClassVar[list[int]] = []
            device_count = staticmethod(lambda: 2)
            set_device = staticmethod(taken.append)

    _take_gpu(Cuda, 1)
    assert Cuda.cuda.taken == [1]
    with pytest.raises(UserError, match="--device cuda: found 2 CUDA devices, expected one for each process"):
        _take_gpu(Cuda, 2)
