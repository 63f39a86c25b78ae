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

from pipeline.config import Config
from pipeline.native.process import usable_cores
from pipeline.progress import require_running
from pipeline.stages.spill import FileSpill, Spill
from pipeline.vocabulary.count import TokenCounter

COUNTS = "counts"


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
        """Take 0 threads for one a core of the worker, which is not the machine that this object is made on."""
        self._asked = threads
        self._waiting: int | None = None  # pieces of work that may wait for a thread; as many as threads by default

    def setup(self) -> None:
        """Start the threads, which live as long as the worker keeps this DoFn."""
        self._threads = self._asked or usable_cores()
        self._most = self._threads + (self._threads if self._waiting is None else self._waiting)
        self._pool = ThreadPoolExecutor(self._threads)
        self._pending: deque[Future[list[Tagged]]] = deque()

    def teardown(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def start_bundle(self) -> None:
        """Forget what a failed bundle left, and wait for what of it still runs: it would add to this one's results."""
        for future in self._pending:
            future.cancel()
        wait(self._pending)
        self._pending.clear()

    def submit(self, work: Callable[..., list[Tagged]], *arguments: object) -> Iterator[beam.pvalue.TaggedOutput]:
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

    def __init__(self, config: Config, spill: Spill) -> None:
        super().__init__(config.threads)
        self._config, self._spill = config, spill

    def finish_bundle(self) -> Iterator[beam.pvalue.TaggedOutput]:
        """Wait for all work, and let go of what was written."""
        yield from super().finish_bundle()
        self._spill.close()

    def work_on(
        self, handles: Iterable[bytes], work: Callable[..., Iterable[Tagged]], *arguments: object
    ) -> Iterator[beam.pvalue.TaggedOutput]:
        """Call ``work`` with the handles of one key, however many they are.

        Payloads that are in the shuffle are worked on here, as the runner yields them: they need not be in memory
        together. Places of payloads are few bytes each, and go to a thread.
        """
        if isinstance(self._spill, FileSpill):
            places = list(handles)
            yield from self.submit(lambda: list(work(places, *arguments)))
            return
        require_running()
        for item in work(handles, *arguments):
            self.count(item)
            yield beam.pvalue.TaggedOutput(item.tag, item.value)


class CountingDoFn(SpillingDoFn):
    """Base of the DoFns whose threads count, each into a table of its own.

    A table's counts are emitted by partition when it is large, and at the end of the bundle.
    """

    make_counter: type[TokenCounter]

    def __init__(self, config: Config, spill: Spill, partitions: int) -> None:
        super().__init__(config, spill)
        self._partitions = partitions

    def start_bundle(self) -> None:
        super().start_bundle()
        self._forget()

    def _forget(self) -> None:
        """Let go of all tables: a runner keeps a DoFn when it has no more work for it."""
        self._counters, self._of_thread = list[TokenCounter](), threading.local()

    def finish_bundle(self) -> Iterator[beam.pvalue.TaggedOutput]:
        yield from ThreadedDoFn.finish_bundle(self)  # all is counted; only then
        self._pending.extend(self._pool.submit(self._emit, counter) for counter in self._counters)
        yield from super().finish_bundle()
        self._forget()

    def count_into(self, count: Callable[[TokenCounter], list[Tagged]]) -> list[Tagged]:
        """Call ``count`` with this thread's table; return what it emits, and the table's counts once it is large."""
        if not hasattr(self._of_thread, "counter"):
            self._of_thread.counter = self.make_counter()
            self._counters.append(self._of_thread.counter)
        counter = self._of_thread.counter
        found = count(counter)
        if counter.is_large:
            self._counters.remove(counter)
            del self._of_thread.counter
            found += self._emit(counter)
        return found

    def _emit(self, counter: TokenCounter) -> list[Tagged]:
        payloads = counter.payloads(self._partitions)
        return [Tagged(COUNTS, (part, self._spill.put(payload))) for part, payload in payloads]


def _run(work: Callable[..., list[Tagged]], *arguments: object) -> list[Tagged]:
    require_running()
    return work(*arguments)


def in_global_window(values: Iterable[Tagged]) -> Iterator[beam.pvalue.TaggedOutput]:
    """Wrap values as finish_bundle must, where no element lends them its window."""
    for item in values:
        yield beam.pvalue.TaggedOutput(item.tag, GlobalWindows.windowed_value(item.value))
