"""The loop: row groups in order, one step each, merges, progress, checkpoints, and an orderly stop on a signal.

Shape suffix: N pairs of a row group.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pipeline.dataset.reader import Dataset
from pipeline.dataset.vocab import Vocabulary
from trainer.audit import Audit
from trainer.checkpoint import Checkpoints
from trainer.config import TrainConfig
from trainer.curve import Point, is_due, note
from trainer.engine import Engine, pending_loss
from trainer.errors import Stopped
from trainer.finite import require_finite, require_finite_loss
from trainer.position import Progress
from trainer.processes import Processes
from trainer.progress import Meter
from trainer.reading import Ids, Place, epoch_order, negatives_key, pairs_to_come, read_ahead, read_threads
from trainer.rounds import cut_rounds
from trainer.saving import Saver
from trainer.schedule import learning_rate
from trainer.signals import NUMBERS, Noted, noted_signals

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
        vocabulary: its words.
        engine: what to train.
        checkpoints: where to keep its state.
        progress: where to begin; afterwards, where it ended. Processes agree on it at the end of each round.
        processes: who trains.
        audit: counts the pairs, None if nobody asked for it.
        follow: called before an epoch, may move the loop to another run of the dataset.
        watch: told of each point of the history, and of the one before it.
    """

    config: TrainConfig
    dataset: Dataset
    vocabulary: Vocabulary
    engine: Engine
    checkpoints: Checkpoints
    progress: Progress
    processes: Processes = field(default_factory=Processes)
    audit: Audit | None = None
    follow: Callable[[Loop, int], None] | None = None
    watch: Callable[[Point, Point], None] | None = None
    _merging: Merging | None = field(default=None, init=False)
    _tally: Tally = field(default_factory=Tally, init=False)

    def run(self) -> None:
        """Train to the end.

        Raises:
            UserError: NaN or Inf in the loss or in a table.
            Stopped: a signal asked for it.
        """
        config, progress = self.config, self.progress
        done = sum(progress.epoch_pairs[: progress.epoch])
        self.total = done + pairs_to_come(self.dataset, progress.epoch, config.epochs)  # of all epochs
        self._meter = Meter(
            self.total, config.epochs, self.words_per_pair, seen_pairs=progress.pairs, seen_loss=sum(progress.losses),
            quiet=config.quiet or self.processes.rank > 0,
        )  # fmt: skip
        self._started, self._before_s = time.perf_counter(), progress.seconds
        self._saver = Saver(config, self.checkpoints)
        self._saver.plan(progress.pairs)
        with noted_signals() as noted:
            try:
                for epoch in range(progress.epoch, config.epochs):
                    if self.follow is not None and epoch > progress.epoch:
                        self.follow(self, epoch)
                    self._train_epoch(epoch, noted)
                self._saver.wait()
            finally:
                self._saver.close()
                self._meter.close()

    @property
    def words_per_pair(self) -> float:
        """Raw words of the corpus for each pair."""
        return self.dataset.total_tokens * self.config.epochs / self.total

    def _train_epoch(self, epoch: int, noted: Noted) -> None:
        config, processes = self.config, self.processes
        places = left = epoch_order(self.dataset, config.seed, epoch, config.shuffle)
        self._epoch_start = self.progress.pairs
        if epoch == self.progress.epoch:
            self._epoch_start -= sum(place.group.rows for place in places[: self.progress.group]) + self.progress.row
            left = places[self.progress.group :]
        self._epoch_groups = len(places)
        if self.audit is not None:
            self.audit.begin_epoch(len(places))
        rounds = list(cut_rounds(left, config.merge_pairs, processes.rank, processes.size))
        own = [place for one in rounds for place in one.own]
        threads = read_threads(config.device, config.threads)
        with contextlib.closing(read_ahead(self.dataset, own, threads)) as reading:
            for one in rounds:
                for place, center_N, context_N in (next(reading) for _ in one.own):
                    for first, last in self._cuts(place):
                        self._step(place, center_N, context_N, first, last)
                        if processes.size == 1:
                            done = last == center_N.size
                            self._settle(place, place.index + done, 0 if done else last, noted)
                if processes.size > 1:
                    self._settle(one.places[-1], one.places[-1].index + 1, 0, noted, one.full)
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
            config.schedule, config.learning_rate, self.fraction(pairs), config.min_learning_rate_fraction
        )

    def fraction(self, pairs: int) -> float:
        """How much of the schedule is done after so many pairs of the run."""
        before, done = self.progress.turn_pairs, self.progress.turn_fraction
        return done + (pairs - before) / (self.total - before) * (1.0 - done)

    def join_tables(self) -> None:
        """Let all processes begin with process 0's tables, and merge from now on."""
        if self.processes.size > 1:
            from trainer.merging import Merger, update_shares

            sample = float(self.dataset.manifest.options.get("sample", 0.0))
            shares_V = update_shares(self.vocabulary.counts, sample)
            self._merging = Merger(self.processes, self.engine.live(), shares_V, self.config.merge)

    def move(self, dataset: Dataset, vocabulary: Vocabulary, epoch: int) -> None:
        """Read another run of the dataset from an epoch on; the schedule goes on from where it is."""
        progress = self.progress
        progress.turn_fraction, progress.turn_pairs = self.fraction(progress.pairs), progress.pairs
        progress.followed.append(self.dataset.dataset_id)
        self.dataset, self.vocabulary, progress.run = dataset, vocabulary, dataset.run_id
        self.total = progress.pairs + pairs_to_come(dataset, epoch, self.config.epochs)
        self._meter.retarget(self.total)
        self.checkpoints.move(dataset.dataset_id, dataset.run_id)

    def _settle(self, place: Place, group: int, row: int, noted: Noted, full: bool = True) -> None:
        """Agree on how far all are, then do what is due: merge, stop, checkpoint.

        Raises:
            UserError: NaN or Inf in the loss.
            Stopped: a process got a signal.
        """
        progress, tally, processes = self.progress, self._tally, self.processes
        stop = [noted.number == number for number in NUMBERS]
        seen = progress.pairs + tally.pairs * processes.size
        due = processes.rank == 0 and self._saver.is_due(seen)
        noted_now = group == self._epoch_groups or is_due(progress.history, seen, self.total)
        if noted_now or processes.size > 1:  # otherwise an engine that runs ahead may go on
            tally.loss += pending_loss(self.engine)
        ours = np.array([tally.loss, tally.pairs, tally.first_loss, due, *stop], np.float64)
        processes.add(ours)
        loss, pairs = float(ours[0]), round(ours[1])
        require_finite_loss(self.config, loss)
        if self._merging is not None:
            self._merging.merge(pairs, self._rate(progress.pairs), full)
        progress.losses[place.epoch] += loss
        progress.epoch_pairs[place.epoch] += pairs
        progress.pairs += pairs
        progress.first_loss += float(ours[2])
        progress.epoch, progress.group, progress.row = place.epoch, group, row
        progress.seconds = self._before_s + time.perf_counter() - self._started
        self._tally = Tally()
        self._meter.add(place.epoch, pairs, loss, self._rate(progress.pairs))
        if noted_now:
            self._note()
        # Alone, a signal is seen at once; otherwise all must have heard of it.
        came = [number for number, seen in zip(NUMBERS, ours[4:], strict=True) if seen]
        number = noted.number if processes.size == 1 else max(came, default=0)
        if full and (ours[3] or number):
            self._save()
        if full and number:
            self._saver.wait()
            raise Stopped(number)

    def _note(self) -> None:
        """Add a point to the history."""
        progress = self.progress
        before = progress.history[-1] if progress.history else [0.0] * 4
        now = [progress.pairs, progress.seconds, sum(progress.losses), self._rate(progress.pairs)]
        note(progress.history, now)
        if self.watch is not None:
            self.watch(before, now)

    def _save(self) -> None:
        """Write the state as it is now; training stands still until it is in a file, not until it is on a disk."""
        self._saver.plan(self.progress.pairs)
        owed = pending_loss(self.engine)
        require_finite_loss(self.config, owed)
        self.progress.losses[self.progress.epoch] += owed
        if self.audit is not None:
            self.audit.gather()
        if self.processes.rank == 0:
            require_finite(self.config, self.engine)
            self._saver.write(
                self.progress, self.engine.live() | (self.audit.state() if self.audit is not None else {})
            )
