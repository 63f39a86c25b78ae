"""Axes: from numbers to places on a drawing, and the numbers to write next to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.common.page import numbers


@dataclass(frozen=True)
class Axis:
    """One direction of a plot.

    Attributes:
        low: the value at its beginning.
        high: the value at its end, above `low`.
        title: what it measures.
        log: in powers of ten; both ends are above 0 then.
        form: how a tick is written.
    """

    low: float
    high: float
    title: str
    log: bool = False
    form: Callable[[float], str] = numbers.tick

    def place(self, value: float) -> float:
        """Where a value is: 0 at the beginning, 1 at the end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int) -> list[float]:
        """Round values between both ends, some ``most`` of them at the most."""
        return _log_ticks(self.low, self.high, most) if self.log else _linear_ticks(self.low, self.high, most)


def linear_axis(
    values: Sequence[float], title: str, *, zero: bool = False, room: bool = False,
    form: Callable[[float], str] = numbers.tick,
) -> Axis:  # fmt: skip
    """Span some values; from 0 if asked, and with ``room`` on to the next round numbers."""
    low, high = min(values), max(values)
    if zero:
        low, high = min(0.0, low), max(0.0, high)
    if high <= low:
        low, high = (low, low + 1) if zero or low == 0 else (low - abs(low) / 10, low + abs(low) / 10)
    if room:
        step = _step(low, high, 5)
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return Axis(low, high, title, form=form)


def log_axis(values: Sequence[float], title: str, form: Callable[[float], str] = numbers.tick) -> Axis:
    """Span some values above 0."""
    low, high = min(values), max(values)
    if high <= low:
        low, high = low / 2, high * 2
    return Axis(low, high, title, log=True, form=form)


def _step(low: float, high: float, most: int) -> float:
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= raw * (1 - 1e-9))


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
    step = _step(low, high, most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    stride = max(1, math.ceil((last - first + 1) / most))
    ticks = [10.0**power for power in range(first, last + 1, stride)]
    if len(ticks) >= 3:
        return ticks
    fine = [digit * 10.0**power for power in range(first - 1, last + 1) for digit in (1, 2, 5)]
    fine = [value for value in fine if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
    return fine if len(fine) <= most and len(fine) > len(ticks) else ticks
