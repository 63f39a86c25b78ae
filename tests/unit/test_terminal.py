"""One line on a terminal, whatever its width; a word about compiling."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest

from pipeline.cli import account
from pipeline.common.terminal import Compiling, StatusLine, cut, display_width, fit, is_cached
from pipeline.progress import Meter as PipelineMeter
from tests.support import group_of, make_dataset
from trainer.progress.meter import Meter as TrainerMeter

ROOT = Path(__file__).resolve().parents[2]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Pty:
    """A terminal of a chosen width, and what was written to it."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        self.out: TextIO = os.fdopen(slave, "w", encoding="utf-8")

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.out.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def lines(self) -> list[str]:
        """What was drawn since the last call, each time from the margin."""
        data = os.read(self._master, 1 << 16)
        while select.select([self._master], [], [], 0.05)[0]:  # what the kernel passes on in pieces
            data += os.read(self._master, 1 << 16)
        return data.decode("utf-8").split("\r")

    def close(self) -> None:
        self.out.close()
        os.close(self._master)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pty]:
    monkeypatch.delenv("COLUMNS", raising=False)
    opened = Pty()
    yield opened
    opened.close()


def draw_training(out: TextIO) -> Callable[[], None]:
    clock = Clock()
    meter = TrainerMeter(60_000_000_000, 300, 0.25, out=out, clock=clock)

    def draw() -> None:
        clock.now += 100
        meter.add(211, 20_000_000, 80_000_000.0, 0.0234567)

    return draw


def draw_pipeline(out: TextIO) -> Callable[[], None]:
    clock = Clock()
    meter = PipelineMeter(123_456_789_012, out, clock)
    meter.begin("counting phrases", 0, "")

    def draw() -> None:
        clock.now += 100
        meter.advance(7_654_321_098)

    return draw


@pytest.mark.parametrize("make", [draw_training, draw_pipeline])
def test_no_line_is_wider_than_the_terminal(make: Callable[[TextIO], Callable[[], None]], terminal: Pty) -> None:
    draw, seen = make(terminal.out), []
    for columns in (200, 80, 40, 20, 10, 80):
        terminal.resize(columns)
        draw()
        shown = terminal.lines()
        assert all(display_width(line) < columns for line in shown)
        assert not any("\n" in line for line in shown)
        seen.append(shown[-1].rstrip())
    assert seen[0].endswith(" left")
    assert seen[2].endswith(" left")  # at 40 columns the time left stays
    assert len(seen[3]) > 8


def test_columns_that_the_user_names_count(terminal: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal.resize(80)
    draw = draw_training(terminal.out)
    for columns in ("30", "300", "none"):
        monkeypatch.setenv("COLUMNS", columns)
        draw()
        assert all(display_width(line) < (30 if columns == "30" else 80) for line in terminal.lines())


def test_wide_characters_are_whole(terminal: Pty) -> None:
    terminal.resize(8)
    line = StatusLine(terminal.out)
    line.show([(0, "日本語日本語")])
    assert terminal.lines()[-1] == "日本語"
    line.show([(0, "x")])
    line.clear()
    assert terminal.lines() == ["", "x     ", " ", ""]
    assert (cut("日本", 3), cut("e\u0301x", 1), cut("ab", 0)) == ("日", "e\u0301", "")
    assert fit([(0, "a"), (2, "long"), (1, "b")], 5) == "a  b"


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


def test_a_first_training_says_that_it_compiles_and_the_next_says_nothing(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", passes=[[[group_of([[0, 1, 2, 3], [2, 1, 0, 3]])]]])
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    for model, said in (("one", ["compiling kernels, once"]), ("two", [])):
        words = ["train", "--data", "data", "--model", model, "--threads", "1", "--dim", "4", "--device", "cpu"]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "trainer", *words], cwd=tmp_path, env=environment, text=True,
            capture_output=True, check=True,
        )  # fmt: skip
        assert [line.partition(":")[0] for line in done.stderr.splitlines() if "compiling" in line] == said


def test_what_a_run_spent_adds_up() -> None:
    parts = account({"counting": 2.0, "encoding": 1.5}, 30.0, 20.0)
    assert parts == {"start-up and publishing": 6.5, "compiling": 20.0, "counting": 2.0, "encoding": 1.5}
    assert account({"counting": 2.0}, 3.0, 0.0) == {"start-up and publishing": 1.0, "counting": 2.0}
    assert account({}, 3.0, 0.0) == {}
