"""One line on a terminal, whatever its width."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import termios
from collections.abc import Callable, Iterator
from typing import TextIO

import pytest
from wcwidth import wcswidth

from pipeline.progress import Meter as PipelineMeter
from tests.support.clock import Clock
from trainer.progress.meter import Meter as TrainerMeter

pytestmark = pytest.mark.unit


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
        return data.decode("utf-8").replace("\x1b[K", "").split("\r")

    def close(self) -> None:
        self.out.close()
        os.close(self._master)


@pytest.fixture
def terminal() -> Iterator[Pty]:
    opened = Pty()
    yield opened
    opened.close()


def draw_training(out: TextIO, clock: Clock) -> Callable[[], None]:
    meter = TrainerMeter(60_000_000_000, 300, 0.25, out=out)

    def draw() -> None:
        clock.now += 100
        meter.add(211, 20_000_000, 80_000_000.0, 0.0234567)

    return draw


def draw_pipeline(out: TextIO, clock: Clock) -> Callable[[], None]:
    meter = PipelineMeter(123_456_789_012, out)
    meter.begin("counting phrases", 0, "")

    def draw() -> None:
        clock.now += 100
        meter.advance(7_654_321_098)

    return draw


@pytest.mark.parametrize("make", [draw_training, draw_pipeline])
def test_no_line_is_wider_than_the_terminal(
    make: Callable[[TextIO, Clock], Callable[[], None]], terminal: Pty, clock: Clock
) -> None:
    terminal.resize(200)
    draw, seen = make(terminal.out, clock), []
    for columns in (200, 80, 40, 20, 10, 80):
        terminal.resize(columns)
        draw()
        shown = terminal.lines()
        assert all(wcswidth(line) <= columns for line in shown)
        assert not any("\n" in line for line in shown)
        seen.append(shown[-1])
    assert " left" in seen[2]  # at 40 columns the time left stays
    assert len(seen[0]) > len(seen[2]) > len(seen[3]) > 8
