"""What a run in this process shows of its progress, and whether it is to stop."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TextIO

from pipeline.common.compiling import compiling
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.common.progress_bar import ProgressBar

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

    def __init__(self, input_bytes: int, out: TextIO | None = None) -> None:
        """Begin without a stage.

        Args:
            input_bytes: stored size of all input files.
            out: stderr by default.
        """
        self._input_bytes, self._out, self._lock = input_bytes, out, threading.Lock()
        self._bar: ProgressBar | None = None
        self._started = self._compiled = 0.0
        self.seconds: dict[str, float] = {}

    def begin(self, stage: str, total: int, unit: str) -> None:
        """Enter a stage of ``total`` units, or of all input's bytes without a unit; one that is under way goes on."""
        from pipeline.common.progress_bar import ProgressBar

        with self._lock:
            if self._bar is None or stage != self._bar.desc:
                self._finish()
                self._bar = ProgressBar(
                    "{desc}  {percentage:.0f}%  {remaining} left  {n_fmt} of {total_fmt}{unit}", self._out, desc=stage,
                    total=total or self._input_bytes, unit=f" {unit}" if unit else "B", unit_scale=not unit,
                    unit_divisor=1024,
                )  # fmt: skip
                self._started, self._compiled = time.monotonic(), compiling.seconds

    def advance(self, amount: int) -> None:
        """Count units that are done, and show how far it is if it is time to."""
        with self._lock:
            if self._bar is not None:
                self._bar.update(min(amount, self._bar.total - self._bar.n))

    def close(self) -> None:
        """Leave the last stage and clear the line on a terminal."""
        with self._lock:
            self._finish()

    def _finish(self) -> None:
        if self._bar is not None:
            self._bar.close()
            stage, compiled = self._bar.desc, compiling.seconds - self._compiled  # which has a line of its own
            spent = self.seconds.get(stage, 0.0) + time.monotonic() - self._started - compiled
            self.seconds[stage] = round(max(0.0, spent), 3)
            self._bar = None


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
