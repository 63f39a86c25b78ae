"""SIGTERM and Ctrl-C, noted so that a run can stop in order."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Noted:
    """The signal that came, 0 for none."""

    number: int = 0


@contextmanager
def noted_signals() -> Iterator[Noted]:
    """Note SIGTERM and Ctrl-C instead of dying; a second one has its usual effect."""
    noted = Noted()

    def note(number: int, _frame: Any) -> None:
        noted.number = number
        for one in NUMBERS:
            signal.signal(one, before[one])

    before = {number: signal.getsignal(number) for number in NUMBERS}
    try:
        for number in NUMBERS:
            signal.signal(number, note)
    except ValueError:  # not the main thread: whoever owns that one decides
        yield noted
        return
    try:
        yield noted
    finally:
        for number in NUMBERS:
            signal.signal(number, before[number])
