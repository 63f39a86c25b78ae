"""The loop: batches in order, one step each, joins, progress, checkpoints, and an orderly stop on a signal.

Shapes: B pairs of a batch.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pipeline.dataset.reader import Dataset
from pipeline.dataset.vocabulary import Vocabulary
from trainer.checkpoints.saving import Saver
from trainer.checkpoints.write import Checkpoints
from trainer.config import TrainConfig
from trainer.data.batches import Batch, Batches
from trainer.data.order import negatives_key, pairs_to_come, read_threads
from trainer.data.position import Progress
from trainer.data.sharing import Leg
from trainer.distributed.group import Processes
from trainer.distributed.merge_plan import MergePlan, default_merge_pairs, plan_merges
from trainer.engines.base import Engine, pending_loss
from trainer.engines.init import row_counts
from trainer.errors import Stopped
from trainer.models.store import Info, Model
from trainer.progress.curve import Point, is_due, note
from trainer.progress.meter import Meter
from trainer.subwords.ngrams import Parts, compose
from trainer.subwords.table import SubwordTable
from trainer.training.audit import Audit
from trainer.training.divergence import LossGuard, require_finite, require_finite_loss
from trainer.training.schedule import learning_rate
from trainer.training.signals import NUMBERS, Noted, noted_signals

if TYPE_CHECKING:
    from trainer.distributed.merge import Merger

FIRST_PAIRS = 4096  # the loss before training is measured on so many


@dataclass
class Tally:
    """What this process has done since all processes last counted together."""

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
        progress: where to start; afterwards, where it ended. Processes agree on it at each join.
        processes: who trains.
        parts: with --subwords, what the words are made of.
        rate: learning rate at the start.
        audit: counts the pairs, None without --audit.
        follow: called before an epoch, may move the loop to another run of the dataset.
        watch: called with each point of the history, and the one before it.
    """

    config: TrainConfig
    dataset: Dataset
    vocabulary: Vocabulary
    engine: Engine
    checkpoints: Checkpoints
    progress: Progress
    processes: Processes = field(default_factory=Processes)
    parts: Parts | None = None
    rate: float = 0.0
    audit: Audit | None = None
    follow: Callable[[Loop, int], None] | None = None
    watch: Callable[[Point, Point], None] | None = None
    _merging: Merger | None = field(default=None, init=False)
    _tally: Tally = field(default_factory=Tally, init=False)

    def run(self) -> None:
        """Train to the end.

        Raises:
            UserError: NaN or Inf in the loss or in a table, a loss that rises.
            Stopped: a signal came.
        """
        config, progress = self.config, self.progress
        self.rate = self.rate or config.learning_rate
        done = sum(progress.epoch_pairs[: progress.epoch])
        self.total = done + pairs_to_come(self.dataset, progress.epoch, config.epochs)  # of all epochs
        self._guard = LossGuard(config, self.processes.size, self.dataset.pairs_in_pass(0))
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
                    if self.follow is not None and epoch > self.progress.epoch:
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

    def model(self, info: Info) -> Model:
        """What was trained so far, with the vectors of words that are made of n-grams composed."""
        rows, output_VD = self.engine.tables()
        rule = self.config.subword_rule()
        if self.parts is None or rule is None:
            return Model(rows, output_VD, self.vocabulary, info)
        return Model(compose(rows, *self.parts), output_VD, self.vocabulary, info, SubwordTable(rule, rows))

    def _train_epoch(self, epoch: int, noted: Noted) -> None:
        self._epoch_start = sum(self.progress.epoch_pairs[:epoch])
        if self.audit is not None:
            self.audit.begin_epoch(len(self.dataset.row_groups(epoch % self.dataset.passes)))
        if self.processes.size > 1 and self._merging is None:
            self._join_tables()
        plan = self._plan(epoch)
        batches = self._batches(epoch, plan.batch_size)
        threads = read_threads(self.config.device, self.config.threads)
        with contextlib.closing(batches.read(threads)) as reading:
            for number, batch in enumerate(reading, 1):
                self._step(batch)
                if number % plan.batches == 0 or not batches.left:
                    full = number % (plan.batches * plan.full_every) == 0 or not batches.left
                    self._settle(batches, noted, full)
        if self.audit is not None:
            self.progress.audit.append(self.audit.end_epoch(self.dataset, batches.places))

    def _plan(self, epoch: int) -> MergePlan:
        """How often all processes settle what they have done; one alone does it after each batch."""
        if self.processes.size == 1:
            return MergePlan(self.engine.step_pairs, batches=1, full_every=1)
        config, number = self.config, epoch % self.dataset.passes
        rows = 2 * len(self.vocabulary) + (config.buckets if config.subwords else 0)
        table_bytes = 4 * rows * config.dim
        pairs = config.merge_pairs or default_merge_pairs(
            self.dataset.pairs_in_pass(number), self.processes.size, table_bytes, config.device
        )
        return plan_merges(pairs, int(self.dataset.row_groups(number).rows_G.max(initial=0)))

    def _batches(self, epoch: int, batch_size: int) -> Batches:
        legs = self.progress.legs if epoch == self.progress.epoch else []
        return Batches(
            self.dataset, epoch, [Leg(*leg) for leg in legs], batch_size=batch_size, seed=self.config.seed,
            shuffle=self.config.shuffle, rank=self.processes.rank, world_size=self.processes.size,
        )  # fmt: skip

    def _step(self, batch: Batch) -> None:
        place, tally, config = batch.place, self._tally, self.config
        if place is None:
            return
        key = negatives_key(config.seed, place, batch.first_row)
        pairs = batch.center_B.size
        seen = self._epoch_start + place.before + batch.first_row  # pairs of the run before these, in all processes
        if seen == 0:
            few = batch.center_B[:FIRST_PAIRS]
            tally.first_loss = self.engine.measure(few, batch.context_B[:FIRST_PAIRS], key=key) / few.size
        tally.loss += self.engine.step(
            batch.center_B, batch.context_B, lr_start=self._rate(seen), lr_end=self._rate(seen + pairs), key=key
        )
        tally.pairs += pairs
        if self.audit is not None:
            self.audit.count(place, batch.center_B, batch.context_B)

    def _rate(self, pairs: int) -> float:
        config = self.config
        return learning_rate(config.schedule, self.rate, self.fraction(pairs), config.min_learning_rate_fraction)

    def fraction(self, pairs: int) -> float:
        """How much of the schedule is done after so many pairs of the run."""
        before, done = self.progress.turn_pairs, self.progress.turn_fraction
        return done + (pairs - before) / (self.total - before) * (1.0 - done)

    def _join_tables(self) -> None:
        """Let all processes start with process 0's tables, and join their changes from now on."""
        from trainer.distributed.merge import Merger

        counts_V = self.vocabulary.counts
        counts = {"input": counts_V if self.parts is None else row_counts(self.parts, counts_V), "output": counts_V}
        self._merging = Merger(self.processes, self.engine.live(), counts, self.config.merge)

    def move(self, dataset: Dataset, vocabulary: Vocabulary, epoch: int) -> None:
        """Read another run of the dataset from an epoch on; the schedule goes on from where it is."""
        progress = self.progress
        progress.turn_fraction, progress.turn_pairs = self.fraction(progress.pairs), progress.pairs
        progress.followed.append(self.dataset.dataset_id)
        self.dataset, self.vocabulary, progress.run = dataset, vocabulary, dataset.run_id
        self.total = progress.pairs + pairs_to_come(dataset, epoch, self.config.epochs)
        self._merging = None  # the tables are others now
        self._meter.retarget(self.total)
        self.checkpoints.move(dataset.dataset_id, dataset.run_id)

    def _settle(self, batches: Batches, noted: Noted, full: bool) -> None:
        """Agree on how far all are, then do what is due: join, and where all rows are joined, stop or checkpoint.

        Raises:
            UserError: NaN or Inf in the loss, a loss that rises.
            Stopped: a process got a signal.
        """
        progress, tally, peers, epoch = self.progress, self._tally, self.processes, batches.epoch
        stop = [noted.number == one for one in NUMBERS]
        seen = progress.pairs + tally.pairs * peers.size
        due = peers.rank == 0 and self._saver.is_due(seen)
        noted_now = not batches.left or is_due(progress.history, seen, self.total)
        settled = noted_now or due or peers.size > 1  # otherwise an engine that runs ahead may go on
        if settled:
            tally.loss += pending_loss(self.engine)
        sums = np.array([tally.loss, tally.pairs, tally.first_loss, due, *stop], np.float64)
        peers.all_reduce(sums)
        loss, all_pairs, first_loss, any_due, *stops = sums.tolist()
        pairs = round(all_pairs)
        require_finite_loss(self.config, loss)
        if self._merging is not None:
            self._merging.merge(full)
        progress.losses[epoch] += loss
        progress.epoch_pairs[epoch] += pairs
        progress.pairs += pairs
        progress.first_loss += first_loss
        progress.epoch, progress.legs = epoch, [list(astuple(leg)) for leg in batches.position()]
        progress.seconds = self._before_s + time.perf_counter() - self._started
        self._tally = Tally()
        self._guard.add(pairs, loss, settled)
        self._meter.add(epoch, pairs, loss, self._rate(progress.pairs))
        if noted_now:
            self._note()
        # Several processes must all have heard of a signal; one alone sees it at once.
        came = (one for one, count in zip(NUMBERS, stops, strict=True) if count)
        number = max(came, default=0) or (noted.number if peers.size == 1 else 0)
        if full and (any_due or number):
            self._save()
        if full and number:
            self._saver.wait()
            raise Stopped(number)

    def _note(self) -> None:
        progress = self.progress
        before = progress.history[-1] if progress.history else [0.0] * 4
        now = [progress.pairs, progress.seconds, sum(progress.losses), self._rate(progress.pairs)]
        note(progress.history, now)
        if self.watch is not None:
            self.watch(before, now)

    def _save(self) -> None:
        """Write the state as it is now; training waits until it is in a file, not until it is on a disk."""
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
