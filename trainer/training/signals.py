"""SIGTERM and Ctrl-C, noted so that a run can stop in order."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NUMBERS = (signal.SIGINT, signal.SIGTERM)
REPEAT_S = 2.0  # wrappers pass on a Ctrl-C that the terminal has sent to all: it comes twice


class Noted:
    """The signal that came, 0 for none."""

    number: int = 0


@contextmanager
def noted_signals(clock: Callable[[], float] = time.monotonic) -> Iterator[Noted]:
    """Note SIGTERM and Ctrl-C instead of dying; one that comes REPEAT_S after the first has its usual effect."""
    noted, first_s = Noted(), 0.0

    def note(number: int, _frame: object) -> None:
        nonlocal first_s
        if not noted.number:
            noted.number, first_s = number, clock()
        elif clock() >= first_s + REPEAT_S:
            for one in NUMBERS:
                signal.signal(one, before[one])
            signal.raise_signal(number)

    before = {number: signal.getsignal(number) for number in NUMBERS}
    try:
        for number in NUMBERS:
            signal.signal(number, note)
    except ValueError:  # not the main thread: its owner decides
        yield noted
        return
    try:
        yield noted
    finally:
        for number in NUMBERS:
            signal.signal(number, before[number])
