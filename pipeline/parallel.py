"""A DoFn whose work runs on threads of its own, in any runner.

The compiled loops, decompression and Parquet's writer all release the interpreter lock, so that threads use every
core without copies between processes. A few pieces of work are in flight at once: memory stays bounded.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from pipeline.errors import PipelineError

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


class Tagged:
    """A value for one of a DoFn's outputs."""

    def __init__(self, tag: str, value: Any) -> None:
        self.tag = tag
        self.value = value


class ThreadedDoFn(beam.DoFn):  # type: ignore[misc]
    """Base of the DoFns whose ``process`` hands out work and emits what is done so far.

    Subclasses call ``submit`` with functions that return lists of Tagged values.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def setup(self) -> None:
        """Start the threads, which live as long as the worker keeps this DoFn."""
        self._pool = ThreadPoolExecutor(self._threads)
        self._pending: deque[Future[list[Tagged]]] = deque()

    def teardown(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def start_bundle(self) -> None:
        """Forget what a failed bundle left, and wait for what of it still runs: it would add to this one's results."""
        for future in self._pending:
            future.cancel()
        wait(self._pending)
        self._pending.clear()

    def submit(self, work: Callable[..., list[Tagged]], *arguments: Any) -> Iterator[beam.pvalue.TaggedOutput]:
        """Start one piece of work; wait only while too many are in flight; yield what is done.

        Raises whatever a piece of work raised.
        """
        require_running()
        self._pending.append(self._pool.submit(_run, work, *arguments))
        while self._pending and (len(self._pending) > 2 * self._threads or self._pending[0].done()):
            for item in self._finish_oldest():
                yield beam.pvalue.TaggedOutput(item.tag, item.value)

    def finish_bundle(self) -> Iterator[beam.pvalue.TaggedOutput]:
        """Wait for all work in flight and emit its values."""
        while self._pending:
            yield from in_global_window(self._finish_oldest())

    def count(self, item: Tagged) -> None:
        """Add a value to Beam's counters: called on the bundle's own thread, the only one that they know."""

    def _finish_oldest(self) -> list[Tagged]:
        items = self._pending.popleft().result()
        for item in items:
            self.count(item)
        return items


def _run(work: Callable[..., list[Tagged]], *arguments: Any) -> list[Tagged]:
    require_running()
    return work(*arguments)


def in_global_window(values: Iterable[Tagged]) -> Iterator[beam.pvalue.TaggedOutput]:
    """Wrap values as finish_bundle must, where no element lends them its window."""
    for item in values:
        yield beam.pvalue.TaggedOutput(item.tag, GlobalWindows.windowed_value(item.value))
