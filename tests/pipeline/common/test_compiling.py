"""A word about compiling."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import account
from pipeline.common.compiling import Compiling, is_cached
from tests.support.datasets import group_of, make_dataset
from tests.support.paths import ROOT


def new_compiling() -> Compiling:
    made = Compiling()
    made.speaks = True
    return made


def test_a_cold_cache_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = tmp_path / "kernels"
    (kernels / "__pycache__").mkdir(parents=True)
    (kernels / "loops.py").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    told = new_compiling()
    told.expect(kernels)
    told.begin()
    told.end()
    assert capsys.readouterr().err.count("compiling kernels, once: ") == 1
    assert told.seconds > 0
    version = f"py{sys.version_info[0]}{sys.version_info[1]}"
    (kernels / "__pycache__" / f"loops.other-1.{version}0.nbc").touch()
    (kernels / "__pycache__" / f"other.loop-1.{version}.nbi").touch()
    assert not is_cached(kernels)
    (tmp_path / "cache" / "kernels_0123").mkdir(parents=True)
    (tmp_path / "cache" / "kernels_0123" / f"loops.loop-1.{version}.nbi").touch()
    assert is_cached(kernels)
    new_compiling().expect(kernels)
    assert capsys.readouterr().err == ""
    new_compiling().begin()  # what is cached is of older code
    assert "compiling kernels" in capsys.readouterr().err


@pytest.mark.parametrize(("cores", "speaks", "helped"), [(2, True, True), (1, True, False), (2, False, False)])
def test_a_second_process_helps_a_command_that_has_a_core_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int, speaks: bool, helped: bool
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("pipeline.common.compiling.usable_cores", lambda: cores)
    told = Compiling()
    told.speaks = speaks
    told.expect(tmp_path, f"import pipeline, time; open({str(tmp_path / 'mark')!r}, 'w').close(); time.sleep(600)")
    while helped and not (tmp_path / "mark").exists():
        assert told._helper is not None
        assert told._helper.poll() is None
    told.close()
    assert (tmp_path / "mark").exists() == helped


NOTHING_NEW = """
import sys
from pipeline.cli import main
from pipeline.config import Config
from pipeline.stages.chunks import load_kernels, load_later_kernels
load_kernels(Config(("x",), "y"))
load_later_kernels()
def compiled():
    modules = [module for name, module in sys.modules.items() if name.startswith("pipeline.")]
    values = [value for module in modules for value in vars(module).values() if hasattr(value, "signatures")]
    return {(value.__name__, signature) for value in values for signature in value.signatures}
before = compiled()
assert main(["--input", "a.txt", "--output", "data", "--min-count", "1", "--sample", "0"]) == 0
assert len(before) > 5
print("new:", sorted(name for name, _ in compiled() - before))
"""


def test_what_is_compiled_ahead_is_all_that_a_run_needs(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a word or two\nand two more\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-c", NOTHING_NEW]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["new: []"]), done.stderr


def test_a_first_training_says_that_it_compiles_and_the_next_says_nothing(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", passes=[[[group_of([[0, 1, 2, 3], [2, 1, 0, 3]])]]])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for model, cache, quiet, said in (
        ("one", "cache", "false", ["compiling kernels, once"]),
        ("two", "cache", "false", []),
        ("three", "new", "true", []),
    ):
        words = ["train", "--data", "data", "--model", model, "--threads", "1", "--dim", "4", "--device", "cpu"]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "trainer", *words, "--quiet", quiet], cwd=tmp_path, text=True,
            env={**environment, "NUMBA_CACHE_DIR": str(tmp_path / cache)}, capture_output=True, check=True,
        )  # fmt: skip
        assert [line.partition(":")[0] for line in done.stderr.splitlines() if "compiling" in line] == said


def test_what_a_run_spent_adds_up() -> None:
    parts = account({"counting": 2.0, "encoding": 1.5}, 30.0, 20.0)
    assert parts == {"start-up and publishing": 6.5, "compiling": 20.0, "counting": 2.0, "encoding": 1.5}
    assert account({"counting": 2.0}, 3.0, 0.0) == {"start-up and publishing": 1.0, "counting": 2.0}
    assert account({}, 3.0, 0.0) == {}
