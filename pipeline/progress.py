"""What a run in this process shows of its progress, and whether it is to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TextIO

from pipeline.common.terminal import StatusLine, compiling
from pipeline.errors import PipelineError

TERMINAL_SECONDS, LOG_SECONDS = 0.5, 10.0

_stop = threading.Event()


class StoppedError(PipelineError):
    """The run was asked to stop."""


def stop() -> None:
    """Make work of this process that has not started yet fail."""
    _stop.set()


def allow_work() -> None:
    """Take back an earlier stop."""
    _stop.clear()


def is_stopped() -> bool:
    """Tell whether work is to stop."""
    return _stop.is_set()


def require_running() -> None:
    """Fail if the run is to stop: called before each piece of work.

    Raises:
        StoppedError: it is.
    """
    if _stop.is_set():
        raise StoppedError("interrupted")


class Meter:
    """Progress of one stage after the other; safe to call from several threads."""

    def __init__(
        self, input_bytes: int, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin without a stage.

        Args:
            input_bytes: stored size of all input files.
            out: stderr by default.
            clock: seconds.
        """
        self._input_bytes = input_bytes
        self._line, self._clock, self._lock = StatusLine(out), clock, threading.Lock()
        self._stage, self._unit, self._total, self._done = "", "", 0, 0
        self._started = self._shown = clock()
        self._compiled = 0.0
        self.seconds: dict[str, float] = {}

    def begin(self, stage: str, total: int, unit: str) -> None:
        """Enter a stage of ``total`` units, or of all input's bytes without a unit; one that is under way goes on."""
        with self._lock:
            if stage != self._stage:
                self._finish()
                self._stage, self._unit, self._total, self._done = stage, unit, total or self._input_bytes, 0
                self._started = self._shown = self._clock()
                self._compiled = compiling.seconds

    def advance(self, amount: int) -> None:
        """Count units that are done, and show how far it is if it is time to."""
        with self._lock:
            self._done += amount
            now = self._clock()
            if now - self._shown >= (TERMINAL_SECONDS if self._line.terminal else LOG_SECONDS):
                self._shown = now
                self._line.show(self._parts(now - self._started))

    def close(self) -> None:
        """Leave the last stage and clear the line on a terminal."""
        with self._lock:
            self._finish()
            self._stage = ""
            self._line.clear()

    def _finish(self) -> None:
        if self._stage:
            before = self.seconds.get(self._stage, 0.0) + self._compiled - compiling.seconds  # a line of its own
            spent = max(0.0, before + self._clock() - self._started)
            self.seconds[self._stage] = round(spent, 3)

    def _parts(self, seconds: float) -> list[tuple[int, str]]:
        done, total = (f"{n / 2**20:,.0f} MiB" if not self._unit else f"{n:,}" for n in (self._done, self._total))
        left = max(0.0, seconds * (self._total / max(1, self._done) - 1))
        share = min(1.0, self._done / max(1, self._total))
        clock = f"{round(left) // 60}:{round(left) % 60:02}"
        amount = f"{done} of {total} {self._unit}".rstrip()
        return [(0, self._stage), (1, f"{share:.0%}"), (3, amount), (2, f"{clock} left")]


_current: Meter | None = None


def show(meter: Meter | None) -> None:
    """Make ``meter`` the one that this process reports to."""
    global _current
    _current = meter


def begin(stage: str, total: int = 0, unit: str = "") -> None:
    """See Meter.begin."""
    if _current is not None:
        _current.begin(stage, total, unit)


def advance(amount: int) -> None:
    """See Meter.advance."""
    if _current is not None:
        _current.advance(amount)
