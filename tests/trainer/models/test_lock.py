"""Two trainings never write one model's folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from trainer.errors import UserError
from trainer.models.lock import lock_folder

HOLDER = """
import sys, time
from trainer.models.lock import lock_folder
with lock_folder(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


@pytest.mark.parametrize("killed", [True, False])
def test_one_at_a_time_and_a_dead_one_does_not_count(tmp_path: Path, killed: bool) -> None:
    with hold(tmp_path / "m") as holder:
        refused = pytest.raises(UserError, match=r"another training is running in it \(")
        with refused, lock_folder(str(tmp_path / "m")):
            raise AssertionError("two hold it")
        if killed:
            holder.send_signal(signal.SIGKILL)
        holder.communicate(timeout=20)
    with lock_folder(str(tmp_path / "m")):
        assert os.listdir(tmp_path / "m") == ["train.lock"]
    assert not (tmp_path / "m").exists()


def test_an_empty_folder_that_was_there_stays(tmp_path: Path) -> None:
    with lock_folder(str(tmp_path)):
        assert os.listdir(tmp_path) == ["train.lock"]
    assert os.listdir(tmp_path) == []


def test_what_is_in_the_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("x")
    with lock_folder(str(tmp_path)):
        pass
    assert os.listdir(tmp_path) == ["kept"]


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in ("file", "file/m"):
        with (
            pytest.raises(UserError, match="found a file, expected a model's folder"),
            lock_folder(f"{tmp_path}/{path}"),
        ):
            pass


def test_object_stores_have_none() -> None:
    with lock_folder("s3://bucket/model"), lock_folder("s3://bucket/model"):
        pass
