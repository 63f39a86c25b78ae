"""The line that is shown while it trains."""

from __future__ import annotations

import io

import pytest

from tests.support.clock import Clock
from trainer.progress.meter import Meter, format_seconds


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_line_has_speed_loss_rate_and_time_left(clock: Clock) -> None:
    out = io.StringIO()
    meter = Meter(60_000_000, 3, 0.25, out=out)
    clock.now += 10
    meter.add(0, 20_000_000, 80_000_000.0, 0.02)
    clock.now += 10
    meter.add(1, 10_000_000, 30_000_000.0, 0.01)
    assert out.getvalue().splitlines() == [
        "epoch 1/3  33.3%  00:20 left, loss 4.0000 (mean 4.0000), 2 M pairs/s, 0.5 M words/s, rate 0.02",
        "epoch 2/3  50.0%  00:20 left, loss 3.0000 (mean 3.6667), 1 M pairs/s, 0.25 M words/s, rate 0.01",
    ]


def test_it_goes_on_where_an_earlier_process_stopped(clock: Clock) -> None:
    out = io.StringIO()
    meter = Meter(40_000_000, 1, 0.25, seen_pairs=20_000_000, seen_loss=80_000_000.0, out=out)
    clock.now += 10
    meter.add(0, 10_000_000, 20_000_000.0, 0.01)
    assert out.getvalue() == (
        "epoch 1/1  75.0%  00:10 left, loss 2.0000 (mean 3.3333), 1 M pairs/s, 0.25 M words/s, rate 0.01\n"
    )


def test_a_log_gets_a_line_now_and_then(clock: Clock) -> None:
    out = io.StringIO()
    meter = Meter(1000, 1, 1.0, out=out)
    for _ in range(25):
        clock.now += 1
        meter.add(0, 1, 1.0, 0.1)
    meter.close()
    assert out.getvalue().count("\n") == 2
    assert "\r" not in out.getvalue()


def test_a_terminals_line_is_renewed_and_cleared(clock: Clock) -> None:
    out = Terminal()
    meter = Meter(1000, 1, 1.0, out=out)
    for _ in range(3):
        clock.now += 1
        meter.add(0, 1, 1.0, 0.1)
    assert out.getvalue().count("\r") == 3
    meter.close()
    assert out.getvalue().endswith("\r\x1b[K\r")
    assert "\n" not in out.getvalue()


def test_quiet_is_quiet(clock: Clock) -> None:
    out = io.StringIO()
    meter = Meter(1000, 1, 1.0, out=out, quiet=True)
    clock.now += 100
    meter.add(0, 1, 1.0, 0.1)
    meter.close()
    assert out.getvalue() == ""


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (61, "1:01"), (3600, "1:00:00"), (3599.6, "1:00:00")])
def test_times_read_well(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
