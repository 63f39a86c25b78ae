"""What "fails" means: exit status 1, one line that names the thing, and a folder that is what it was before."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.cli import main
from tests.support.paths import ROOT

TEXT = "\n".join(f"the fox {i % 7} saw the dog {i % 5} near house {i % 3}, naïve" for i in range(600)) + "\n"
FLAGS = ["--min-count", "1", "--sample", "0", "--shard-pairs", "3000"]


def snapshot(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder; folders too, as such."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def make_old(folder: Path) -> None:
    """Publish a small dataset of other text to ``folder / "out"``, and make ``folder / "in"``."""
    (folder / "old").mkdir()
    (folder / "old" / "old.txt").write_text("an older text of an older day\n" * 9)
    assert main(["--input", f"{folder}/old/*", "--output", f"{folder}/out", *FLAGS]) == 0
    (folder / "in").mkdir()


def words_of(folder: Path, *flags: str) -> list[str]:
    """The command line of a run over ``folder / "in"``."""
    return ["--input", f"{folder}/in/*", "--output", f"{folder}/out", *FLAGS, *flags]


def expect_line(status: int, error: str, *parts: str) -> str:
    """Hold what a command ended with against the promise of one line; return it without "error: "."""
    lines = [line for line in error.splitlines() if not re.search(r"\d left  ", line)]  # but lines of progress
    assert status == 1, error
    assert len(lines) == 1, error
    assert lines[0].startswith("error: ")
    assert all(part in lines[0] for part in parts), lines[0]
    return lines[0].removeprefix("error: ")


def expect_failure(folder: Path, run: Callable[[], tuple[int, str]], *parts: str) -> str:
    """Hold a failing command against its promise; return its line of error without "error: ".

    Args:
        folder: as make_old made it.
        run: runs the command, returns its status and what it wrote to standard error.
        parts: what the line must hold.
    """
    before = snapshot(folder / "out")
    line = expect_line(*run(), *parts)
    assert snapshot(folder / "out") == before
    return line


def in_process(words: list[str], capsys: pytest.CaptureFixture[str]) -> Callable[[], tuple[int, str]]:
    """Run the command in this process."""

    def run() -> tuple[int, str]:
        capsys.readouterr()
        return main(words), capsys.readouterr().err

    return run


def in_child(words: list[str], prefix: list[str] | None = None, before: str = "") -> Callable[[], tuple[int, str]]:
    """Run the command in a process of its own, after some code of the test's."""
    code = f"import sys\n{before}\nfrom pipeline.cli import main\nsys.exit(main(sys.argv[1:]))"
    command = [*(prefix or []), sys.executable, "-W", "ignore", "-c", code, *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run() -> tuple[int, str]:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    return run
