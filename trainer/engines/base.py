"""What every engine is: it holds the tables, takes steps, and can be stopped and continued.

Shapes: B pairs, V vocabulary rows, D dimensions.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from trainer.data.order import Ids
from trainer.engines.init import Tables
from trainer.models.tensors import AnyArray


class Engine(Protocol):
    """Holds the tables and updates them."""

    #: Pairs that one call of `step` should have, so that it does not take long; 0 for a whole row group.
    step_pairs: int

    def step(self, center_B: Ids, context_B: Ids, *, lr_start: float, lr_end: float, key: int) -> float:
        """Train on pairs of one row group; returns the loss summed over them, each pair's before its update.

        Args:
            center_B: ids below V.
            context_B: ids below V.
            lr_start: learning rate at the first pair; it changes linearly.
            lr_end: learning rate after the last pair.
            key: the batch's random stream, from 0 to 2⁶⁴ − 1.
        """

    def measure(self, center_B: Ids, context_B: Ids, *, key: int) -> float:
        """The loss summed over pairs, without training."""

    def tables(self) -> Tables:
        """Input and output table, float32 [V, D], on the host; they may change with the next step."""

    def live(self) -> dict[str, AnyArray]:
        """The tables and all that the optimizer remembers, themselves; they may be changed in place between steps."""


@runtime_checkable
class RunsAhead(Protocol):
    """An engine whose `step` does not wait: it returns the losses of earlier steps, in all those of some."""

    def drain(self) -> float:
        """Wait for every step that was taken; the losses that `step` has not returned yet."""


def pending_loss(engine: Engine) -> float:
    """The losses that an engine still owes."""
    return engine.drain() if isinstance(engine, RunsAhead) else 0.0
