"""The pipeline's progress lines."""

from __future__ import annotations

import io

import pytest

from pipeline import progress
from pipeline.common.progress_bar import LOG_SECONDS, TERMINAL_SECONDS
from pipeline.progress import Meter
from tests.support.clock import Clock

pytestmark = pytest.mark.unit


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_now_and_then(clock: Clock) -> None:
    out = io.StringIO()
    meter = Meter(8 << 20, out)
    meter.begin("counting", 0, "")
    meter.advance(1 << 20)
    assert out.getvalue() == ""
    clock.now += LOG_SECONDS
    meter.advance(1 << 20)
    assert out.getvalue() == "counting  25%  00:30 left  2.00M of 8.00MB\n"
    meter.begin("counting", 0, "")  # another bundle of the same stage
    clock.now += 90
    meter.advance(100 << 20)
    assert out.getvalue().splitlines()[-1] == "counting  100%  00:00 left  8.00M of 8.00MB"
    meter.begin("writing pairs", 4, "shards")
    clock.now += LOG_SECONDS
    meter.advance(1)
    assert out.getvalue().splitlines()[-1] == "writing pairs  25%  00:30 left  1 of 4 shards"
    meter.close()
    assert "\r" not in out.getvalue()
    assert meter.seconds == {"counting": 100.0, "writing pairs": 10.0}


def test_a_terminal_has_one_line_that_is_cleared(clock: Clock) -> None:
    out = Terminal()
    meter = Meter(10, out)
    meter.begin("writing pairs", 2, "shards")
    clock.now += TERMINAL_SECONDS
    meter.advance(1)
    shown = out.getvalue()
    assert shown.startswith("\rwriting pairs  50%")
    assert "\n" not in shown
    meter.close()
    assert out.getvalue() == shown + "\r\x1b[K\r"


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
