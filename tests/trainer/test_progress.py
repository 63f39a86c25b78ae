"""The line that is shown while it trains."""

from __future__ import annotations

import io

import pytest

from trainer.progress.meter import Meter, format_seconds


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_has_speed_loss_rate_and_time_left() -> None:
    out, clock = io.StringIO(), Clock()
    meter = Meter(60_000_000, 3, 0.25, out=out, clock=clock)
    clock.now += 10
    meter.add(0, 20_000_000, 80_000_000.0, 0.02)
    clock.now += 10
    meter.add(1, 10_000_000, 30_000_000.0, 0.01)
    assert out.getvalue().splitlines() == [
        "epoch 1/3  33.3%  loss 4.0000 (mean 4.0000)  rate 0.02  2 M pairs/s  0.5 M words/s  0:20 left",
        "epoch 2/3  50.0%  loss 3.0000 (mean 3.6667)  rate 0.01  1 M pairs/s  0.25 M words/s  0:20 left",
    ]


def test_it_goes_on_where_an_earlier_process_stopped() -> None:
    out, clock = io.StringIO(), Clock()
    meter = Meter(40_000_000, 1, 0.25, seen_pairs=20_000_000, seen_loss=80_000_000.0, out=out, clock=clock)
    clock.now += 10
    meter.add(0, 10_000_000, 20_000_000.0, 0.01)
    assert out.getvalue() == (
        "epoch 1/1  75.0%  loss 2.0000 (mean 3.3333)  rate 0.01  1 M pairs/s  0.25 M words/s  0:10 left\n"
    )


def test_a_log_gets_a_line_now_and_then() -> None:
    out, clock = io.StringIO(), Clock()
    meter = Meter(1000, 1, 1.0, out=out, clock=clock)
    for _ in range(25):
        clock.now += 1
        meter.add(0, 1, 1.0, 0.1)
    meter.close()
    assert out.getvalue().count("\n") == 2
    assert "\r" not in out.getvalue()


def test_a_terminals_line_is_renewed_and_cleared() -> None:
    out, clock = Terminal(), Clock()
    meter = Meter(1000, 1, 1.0, out=out, clock=clock)
    for _ in range(3):
        clock.now += 1
        meter.add(0, 1, 1.0, 0.1)
    assert out.getvalue().count("\r") == 3
    meter.close()
    assert out.getvalue().endswith(" \r")
    assert "\n" not in out.getvalue()


def test_quiet_is_quiet() -> None:
    out, clock = io.StringIO(), Clock()
    meter = Meter(1000, 1, 1.0, out=out, clock=clock, quiet=True)
    clock.now += 100
    meter.add(0, 1, 1.0, 0.1)
    meter.close()
    assert out.getvalue() == ""


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (61, "1:01"), (3600, "1:00:00"), (3599.6, "1:00:00")])
def test_times_read_well(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
