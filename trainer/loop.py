"""The loop: row groups in order, one step each, merges, progress, checkpoints, and an orderly stop on a signal.

Shape suffix: N pairs of a row group.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pipeline.dataset.reader import Dataset
from trainer.audit import Audit
from trainer.checkpoint import Checkpoints, Progress
from trainer.config import TrainConfig
from trainer.engine import Engine
from trainer.errors import Stopped, UserError
from trainer.processes import Processes
from trainer.progress import Meter
from trainer.reading import Ids, Place, epoch_order, negatives_key, read_ahead
from trainer.rounds import cut_rounds
from trainer.schedule import learning_rate
from trainer.signals import NUMBERS, Noted, noted_signals
from trainer.tables import is_finite

FIRST_PAIRS = 4096  # the loss before training is measured on so many


class Merging(Protocol):
    """What brings the processes' tables together; see trainer.merging."""

    def merge(self, pairs: int, rate: float, full: bool) -> None:
        """Called by every process at the end of each round, with the pairs of all."""


@dataclass
class Tally:
    """What this process has done since the last time that all knew of each other."""

    pairs: int = 0
    loss: float = 0.0
    first_loss: float = 0.0


@dataclass
class Loop:
    """One run over what is left of the epochs.

    Attributes:
        config: resolved.
        dataset: what to read.
        engine: what to train.
        checkpoints: where to keep its state.
        total: pairs of all epochs.
        progress: where to begin; afterwards, where it ended. Processes agree on it at the end of each round.
        processes: who trains.
        merging: joins their tables; None where one trains alone.
        audit: counts the pairs, None if nobody asked for it.
    """

    config: TrainConfig
    dataset: Dataset
    engine: Engine
    checkpoints: Checkpoints
    total: int
    progress: Progress
    processes: Processes = field(default_factory=Processes)
    merging: Merging | None = None
    audit: Audit | None = None
    _pending: Future[None] | None = field(default=None, init=False)
    _tally: Tally = field(default_factory=Tally, init=False)
    _checkpoint_at: tuple[float, float] = field(default=(0.0, 0.0), init=False)

    def run(self) -> None:
        """Train to the end.

        Raises:
            UserError: NaN or Inf in the loss or in a table.
            Stopped: a signal asked for it.
        """
        config, progress = self.config, self.progress
        words_per_pair = self.dataset.total_tokens * config.epochs / self.total
        self._meter = Meter(
            self.total, config.epochs, words_per_pair, seen_pairs=progress.pairs, seen_loss=sum(progress.losses),
            quiet=config.quiet or self.processes.rank > 0,
        )  # fmt: skip
        self._started, self._before_s = time.perf_counter(), progress.seconds
        self._plan_checkpoint()
        with ThreadPoolExecutor(1, thread_name_prefix="checkpoint") as pool, noted_signals() as noted:
            try:
                for epoch in range(progress.epoch, config.epochs):
                    self._train_epoch(epoch, pool, noted)
                self._wait()
            finally:
                self._meter.close()

    def _train_epoch(self, epoch: int, pool: ThreadPoolExecutor, noted: Noted) -> None:
        config, processes = self.config, self.processes
        places = left = epoch_order(self.dataset, config.seed, epoch, config.shuffle)
        self._epoch_start = self.progress.pairs
        if epoch == self.progress.epoch:
            self._epoch_start -= sum(place.group.rows for place in places[: self.progress.group]) + self.progress.row
            left = places[self.progress.group :]
        if self.audit is not None:
            self.audit.begin_epoch(len(places))
        rounds = list(cut_rounds(left, config.merge_pairs, processes.rank, processes.size))
        own = [place for one in rounds for place in one.own]
        with contextlib.closing(read_ahead(self.dataset, own)) as reading:
            for one in rounds:
                for place, center_N, context_N in (next(reading) for _ in one.own):
                    for first, last in self._cuts(place):
                        self._step(place, center_N, context_N, first, last)
                        if processes.size == 1:
                            done = last == center_N.size
                            self._settle(place, place.index + done, 0 if done else last, pool, noted)
                if processes.size > 1:
                    self._settle(one.places[-1], one.places[-1].index + 1, 0, pool, noted, one.full)
        if self.audit is not None:
            self.progress.audit.append(self.audit.end_epoch(self.dataset, places))

    def _cuts(self, place: Place) -> Iterator[tuple[int, int]]:
        rows, size = place.group.rows, self.engine.step_pairs or place.group.rows
        begun = (self.progress.epoch, self.progress.group) == (place.epoch, place.index)
        start = self.progress.row if begun else 0
        return ((row, min(row + size, rows)) for row in range(start, rows, size))

    def _step(self, place: Place, center_N: Ids, context_N: Ids, first: int, last: int) -> None:
        config, tally = self.config, self._tally
        key = negatives_key(config.seed, place)
        seen = self._epoch_start + place.before + first  # pairs of the run before these, whoever trains them
        if seen == 0:
            few = center_N[:FIRST_PAIRS]
            tally.first_loss = self.engine.measure(few, context_N[:FIRST_PAIRS], key=key) / few.size
        tally.loss += self.engine.step(
            center_N[first:last], context_N[first:last],
            lr_start=self._rate(seen), lr_end=self._rate(seen + last - first), key=key, first_row=first,
        )  # fmt: skip
        tally.pairs += last - first
        if self.audit is not None:
            self.audit.count(place, center_N[first:last], context_N[first:last])

    def _rate(self, pairs: int) -> float:
        config = self.config
        return learning_rate(
            config.schedule, config.learning_rate, pairs / self.total, config.min_learning_rate_fraction
        )

    def _settle(
        self, place: Place, group: int, row: int, pool: ThreadPoolExecutor, noted: Noted, full: bool = True
    ) -> None:
        """Agree on how far all are, then do what is due: merge, stop, checkpoint.

        Raises:
            UserError: NaN or Inf in the loss.
            Stopped: a process got a signal.
        """
        progress, tally = self.progress, self._tally
        stop = [noted.number == number for number in NUMBERS]
        due = self._checkpoint_due(tally.pairs)
        ours = np.array([tally.loss, tally.pairs, tally.first_loss, due, *stop], np.float64)
        self.processes.add(ours)
        loss, pairs = float(ours[0]), round(ours[1])
        if not math.isfinite(loss):
            raise UserError(_diverged(self.config, "the loss"))
        if self.merging is not None:
            self.merging.merge(pairs, self._rate(progress.pairs), full)
        progress.losses[place.epoch] += loss
        progress.pairs += pairs
        progress.first_loss += float(ours[2])
        progress.epoch, progress.group, progress.row = place.epoch, group, row
        progress.seconds = self._before_s + time.perf_counter() - self._started
        self._tally = Tally()
        self._meter.add(place.epoch, pairs, loss, self._rate(progress.pairs))
        # Alone, a signal is seen at once; otherwise all must have heard of it.
        came = [number for number, seen in zip(NUMBERS, ours[4:], strict=True) if seen]
        number = noted.number if self.processes.size == 1 else max(came, default=0)
        if full and (ours[3] or number):
            self._save(pool)
        if full and number:
            self._wait()
            raise Stopped(number)

    def _checkpoint_due(self, pairs: int) -> bool:
        at_s, at_pairs = self._checkpoint_at
        return self.processes.rank == 0 and (
            time.monotonic() >= at_s or self.progress.pairs + pairs * self.processes.size >= at_pairs
        )

    def _save(self, pool: ThreadPoolExecutor) -> None:
        """Copy the state now, write it while training goes on."""
        self._plan_checkpoint()
        if self.audit is not None:
            self.audit.gather()
        if self.processes.rank:
            return
        self._wait()
        require_finite(self.config, self.engine)
        state = self.engine.state() | (self.audit.state() if self.audit is not None else {})
        self._pending = pool.submit(self.checkpoints.save, copy.deepcopy(self.progress), state)

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def _plan_checkpoint(self) -> None:
        minutes, pairs = self.config.checkpoint_minutes, self.config.checkpoint_pairs
        self._checkpoint_at = (
            time.monotonic() + minutes * 60 if minutes else math.inf,
            self.progress.pairs + pairs if pairs else math.inf,
        )


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
