"""The command line around the subcommands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.dataset.schema import FormatError
from tests.support.paths import ROOT
from trainer import cli
from trainer.cli import COMMANDS, main


def modules_after(*words: str) -> set[str]:
    """Heavy packages that are loaded once a command has run."""
    code = (
        f"import sys; from trainer.cli import main\ntry: main({list(words)!r})\nexcept SystemExit: pass\n"
        "print(*{'torch', 'numba', 'apache_beam'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_loads_what_it_does_not_need(command: str) -> None:
    assert modules_after(command, "--help") == set()


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


@pytest.mark.parametrize("words", [[], ["fly"], ["--fast"], ["--", "train"], ["train", "--fly"], ["neighbors", "--x"]])
def test_wrong_usage_is_one_line_and_status_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FormatError("x: found a\nb"), "x: found a b"),
        (FileNotFoundError(2, "No such file or directory", "a/b"), "a/b: No such file or directory"),
        (PermissionError(13, "Permission denied", "s3://me:secret@b/c"), "s3://***@b/c: Permission denied"),
        (OSError("disk on fire"), "disk on fire"),
        (ModuleNotFoundError("No module named 'numba'", name="numba"), "no module 'numba'"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_user_can_mend_is_one_line(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> int:
        raise error

    module = SimpleNamespace(__doc__="x", add_arguments=lambda parser: None, run=fail)
    monkeypatch.setattr(cli.importlib, "import_module", lambda name: module)
    assert main(["train"]) == 1
    found = capsys.readouterr().err
    assert found.startswith(f"error: {line}")
    assert found.count("\n") == 1


def test_a_mistake_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> int:
        raise ModuleNotFoundError("No module named 'trainer.nothing'", name="trainer.nothing")

    module = SimpleNamespace(__doc__="x", add_arguments=lambda parser: None, run=fail)
    monkeypatch.setattr(cli.importlib, "import_module", lambda name: module)
    with pytest.raises(ModuleNotFoundError):
        main(["train"])


def test_ctrl_c_is_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> int:
        raise KeyboardInterrupt

    module = SimpleNamespace(__doc__="x", add_arguments=lambda parser: None, run=interrupt)
    monkeypatch.setattr(cli.importlib, "import_module", lambda name: module)
    assert main(["train"]) == 130


def test_a_reader_that_has_seen_enough_ends_it_quietly() -> None:
    code = (
        "import sys; from types import SimpleNamespace; from trainer import cli\n"
        "show = lambda args: [print('x' * 99) for _ in range(9999)] and 0\n"
        "module = SimpleNamespace(__doc__='', add_arguments=lambda parser: None, run=show)\n"
        "cli.importlib.import_module = lambda name: module\n"
        "from pipeline.common.exit import run_command; sys.exit(run_command(lambda: cli.main(['neighbors'])))"
    )
    shell = f'{sys.executable} -c "$CODE" | head -1'
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell], cwd=ROOT, env={**os.environ, "CODE": code, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (141, "", 1)


def test_a_stray_file_is_no_reason_to_speak_of_another_commands_flags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["neighbors", "--model", "m", "--modle", "n", "--", "a", str(tmp_path)])
    assert "did you mean --model?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["train", str(tmp_path)])
    assert capsys.readouterr().err == f"error: unrecognized arguments: {tmp_path} (--help lists the flags)\n"
