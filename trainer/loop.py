"""The loop: row groups in order, one step each, progress, checkpoints, and an orderly stop on a signal.

Shape suffix: N pairs of a row group.
"""

from __future__ import annotations

import copy
import math
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from pipeline.dataset.reader import Dataset
from trainer.checkpoint import Checkpoints, Progress
from trainer.config import TrainConfig
from trainer.engine import Engine
from trainer.errors import UserError
from trainer.progress import Meter
from trainer.reading import Ids, Place, epoch_order, negatives_key, read_ahead
from trainer.schedule import learning_rate
from trainer.tables import is_finite

FIRST_PAIRS = 4096  # the loss before training is measured on so many


class Stopped(Exception):  # noqa: N818  (what happened, not what failed)
    """SIGTERM or Ctrl-C came, and the checkpoint is written."""

    def __init__(self, number: int) -> None:
        """Keep the signal's number."""
        super().__init__(number)
        self.number = number


@dataclass
class Loop:
    """One run over what is left of the epochs.

    Attributes:
        config: resolved.
        dataset: what to read.
        engine: what to train.
        checkpoints: where to keep its state.
        total: pairs of all epochs.
        progress: where to begin; afterwards, where it ended.
    """

    config: TrainConfig
    dataset: Dataset
    engine: Engine
    checkpoints: Checkpoints
    total: int
    progress: Progress
    _pending: Future[None] | None = field(default=None, init=False)
    _signal: int = field(default=0, init=False)
    _checkpoint_at: float = field(default=0.0, init=False)

    def run(self) -> None:
        """Train to the end.

        Raises:
            UserError: NaN or Inf in the loss or in a table.
            Stopped: a signal asked for it.
        """
        config, progress = self.config, self.progress
        words_per_pair = self.dataset.total_tokens * config.epochs / self.total
        meter = Meter(
            self.total, config.epochs, words_per_pair,
            seen_pairs=progress.pairs, seen_loss=sum(progress.losses), quiet=config.quiet,
        )  # fmt: skip
        started, before_s = time.perf_counter(), progress.seconds
        self._plan_checkpoint()
        with ThreadPoolExecutor(1, thread_name_prefix="checkpoint") as pool, self._catch_signals():
            try:
                for place, center_N, context_N in read_ahead(self.dataset, self._places()):
                    for first, last in self._cuts(place):
                        self._step(place, center_N, context_N, first, last, meter)
                        progress.seconds = before_s + time.perf_counter() - started
                        if self._signal or time.monotonic() >= self._checkpoint_at:
                            self._save(pool)
                        if self._signal:
                            self._wait()
                            raise Stopped(self._signal)
                self._wait()
            finally:
                meter.close()

    def _places(self) -> Iterator[Place]:
        first, config = self.progress, self.config
        skip = first.group
        orders = (epoch_order(self.dataset, config.seed, e, config.shuffle) for e in range(first.epoch, config.epochs))
        return (place for place in chain.from_iterable(orders) if place.epoch > first.epoch or place.index >= skip)

    def _cuts(self, place: Place) -> Iterator[tuple[int, int]]:
        rows, size = place.group.rows, self.engine.step_pairs or place.group.rows
        return ((row, min(row + size, rows)) for row in range(self.progress.row, rows, size))

    def _step(self, place: Place, center_N: Ids, context_N: Ids, first: int, last: int, meter: Meter) -> None:
        config, progress = self.config, self.progress
        key = negatives_key(config.seed, place)
        if progress.pairs == 0:
            few = center_N[:FIRST_PAIRS]
            progress.first_loss = self.engine.measure(few, context_N[:FIRST_PAIRS], key=key) / few.size
        rates = (self._rate(progress.pairs), self._rate(progress.pairs + last - first))
        loss = self.engine.step(
            center_N[first:last], context_N[first:last], lr_start=rates[0], lr_end=rates[1], key=key, first_row=first
        )
        if not math.isfinite(loss):
            raise UserError(_diverged(config, "the loss"))
        progress.losses[place.epoch] += loss
        progress.pairs += last - first
        done = last == center_N.size
        progress.epoch, progress.group, progress.row = place.epoch, place.index + done, 0 if done else last
        meter.add(place.epoch, last - first, loss, rates[1])

    def _rate(self, pairs: int) -> float:
        config = self.config
        return learning_rate(
            config.schedule, config.learning_rate, pairs / self.total, config.min_learning_rate_fraction
        )

    def _save(self, pool: ThreadPoolExecutor) -> None:
        """Copy the state now, write it while training goes on."""
        self._wait()
        require_finite(self.config, self.engine)
        self._pending = pool.submit(self.checkpoints.save, copy.deepcopy(self.progress), self.engine.state())
        self._plan_checkpoint()

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def _plan_checkpoint(self) -> None:
        minutes = self.config.checkpoint_minutes
        self._checkpoint_at = time.monotonic() + minutes * 60 if minutes else math.inf

    @contextmanager
    def _catch_signals(self) -> Iterator[None]:
        """Note SIGTERM and Ctrl-C, to stop between two steps; a second one has its usual effect."""
        numbers = (signal.SIGINT, signal.SIGTERM)

        def note(number: int, _frame: Any) -> None:
            self._signal = number
            for one in numbers:
                signal.signal(one, before[one])

        before = {number: signal.getsignal(number) for number in numbers}
        try:
            for number in numbers:
                signal.signal(number, note)
        except ValueError:  # not the main thread: whoever owns that one decides
            yield
            return
        try:
            yield
        finally:
            for number in numbers:
                signal.signal(number, before[number])


def require_finite(config: TrainConfig, engine: Engine) -> None:
    """Refuse tables that hold NaN or Inf.

    Raises:
        UserError: they do.
    """
    for name, table_VD in zip(("input", "output"), engine.tables(), strict=True):
        if not is_finite(table_VD):
            raise UserError(_diverged(config, f"the {name} table"))


def _diverged(config: TrainConfig, where: str) -> str:
    return (
        f"training: found NaN or Inf in {where}, expected finite numbers; lower --learning-rate "
        f"(here {config.learning_rate:g}) or --batch-size; the last checkpoint was kept"
    )
