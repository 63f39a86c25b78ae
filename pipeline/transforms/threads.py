"""A DoFn whose work runs on threads of its own, in any runner.

The compiled loops, decompression and Parquet's writer all release the interpreter lock, so that threads use every
core without copies between processes. A few pieces of work are in flight at once: memory stays bounded.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Generic, TypeVar

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from pipeline.native.process import usable_cores
from pipeline.progress import require_running
from pipeline.stages.spill import InlineSpill, Spill

T = TypeVar("T")


class Tagged:
    """A value for one of a DoFn's outputs."""

    def __init__(self, tag: str, value: Any) -> None:
        self.tag = tag
        self.value = value


class PerThread(Generic[T]):
    """One object for each thread that asks, such as a table to count into."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self.forget()

    def forget(self) -> None:
        """Let go of all: a runner keeps a DoFn when it has no more work for it."""
        self._all, self._of_thread = list[T](), threading.local()

    def mine(self) -> T:
        """Return this thread's, made at the first call."""
        if not hasattr(self._of_thread, "found"):
            self._of_thread.found = self._make()
            self._all.append(self._of_thread.found)
        found: T = self._of_thread.found
        return found

    def drop_mine(self) -> None:
        """Let go of this thread's; it gets a new one when it asks again."""
        self._all.remove(self._of_thread.found)
        del self._of_thread.found

    def __iter__(self) -> Iterator[T]:
        return iter(self._all)


class ThreadedDoFn(beam.DoFn):  # type: ignore[misc]
    """Base of the DoFns whose ``process`` hands out work and emits what is done so far.

    Subclasses call ``submit`` with functions that return lists of Tagged values.
    """

    def __init__(self, threads: int) -> None:
        """Remember what was asked for.

        Args:
            threads: 0 for one a core of the worker, which is not the machine that this object is made on.
        """
        self._asked = threads
        self._waiting: int | None = None  # pieces of work that may wait for a thread; as many as threads by default

    def setup(self) -> None:
        """Start the threads, which live as long as the worker keeps this DoFn."""
        self._threads = self._asked or usable_cores()
        self._most = self._threads + (self._threads if self._waiting is None else self._waiting)
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
        while self._pending and (len(self._pending) > self._most or self._pending[0].done()):
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


class SpillingDoFn(ThreadedDoFn):
    """Base of the DoFns whose payloads go through a spill."""

    def __init__(self, threads: int, spill: Spill) -> None:
        super().__init__(threads)
        self._spill = spill

    def finish_bundle(self) -> Iterator[beam.pvalue.TaggedOutput]:
        """Wait for all work, and let go of what was written."""
        yield from super().finish_bundle()
        self._spill.close()

    def work_on(
        self, handles: Iterable[bytes], work: Callable[..., Iterable[Tagged]], *arguments: Any
    ) -> Iterator[beam.pvalue.TaggedOutput]:
        """Call ``work`` with the handles of one key, however many they are.

        Payloads that are in the shuffle are worked on here, as the runner yields them: they need not be in memory
        together. Places of payloads are few bytes each, and go to a thread.
        """
        if not isinstance(self._spill, InlineSpill):
            places = list(handles)
            yield from self.submit(lambda: list(work(places, *arguments)))
            return
        require_running()
        for item in work(handles, *arguments):
            self.count(item)
            yield beam.pvalue.TaggedOutput(item.tag, item.value)


def _run(work: Callable[..., list[Tagged]], *arguments: Any) -> list[Tagged]:
    require_running()
    return work(*arguments)


def in_global_window(values: Iterable[Tagged]) -> Iterator[beam.pvalue.TaggedOutput]:
    """Wrap values as finish_bundle must, where no element lends them its window."""
    for item in values:
        yield beam.pvalue.TaggedOutput(item.tag, GlobalWindows.windowed_value(item.value))
