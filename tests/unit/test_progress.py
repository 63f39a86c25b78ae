"""The pipeline's progress lines."""

from __future__ import annotations

import io

from pipeline import progress
from pipeline.progress import LOG_SECONDS, TERMINAL_SECONDS, Meter


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_now_and_then() -> None:
    out, clock = io.StringIO(), Clock()
    meter = Meter(8 << 20, out, clock)
    meter.begin("counting", 0, "")
    meter.advance(1 << 20)
    assert out.getvalue() == ""
    clock.now += LOG_SECONDS
    meter.advance(1 << 20)
    assert out.getvalue() == "counting  25%  2 MiB of 8 MiB  0:30 left\n"
    meter.begin("counting", 0, "")  # another bundle of the same stage
    clock.now += 90
    meter.begin("writing pairs", 4, "shards")
    clock.now += LOG_SECONDS
    meter.advance(1)
    assert out.getvalue().splitlines()[-1] == "writing pairs  25%  1 of 4 shards  0:30 left"
    meter.close()
    assert meter.seconds == {"counting": 100.0, "writing pairs": 10.0}


def test_a_terminal_has_one_line_that_is_cleared() -> None:
    out, clock = Terminal(), Clock()
    meter = Meter(10, out, clock)
    meter.begin("writing pairs", 2, "shards")
    clock.now += TERMINAL_SECONDS
    meter.advance(1)
    shown = out.getvalue()
    assert shown.startswith("\rwriting pairs  50%")
    assert "\n" not in shown
    meter.close()
    assert out.getvalue() == shown + "\r" + " " * (len(shown) - 1) + "\r"


def test_without_a_meter_nothing_happens() -> None:
    progress.show(None)
    progress.begin("counting")
    progress.advance(5)
    meter = Meter(1, io.StringIO())
    progress.show(meter)
    progress.begin("counting")
    progress.show(None)
    meter.close()
    assert list(meter.seconds) == ["counting"]
