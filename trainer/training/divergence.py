"""A training that diverges is ended: before NaN or Inf reach a checkpoint or a model, or where its loss rises."""

from __future__ import annotations

import contextlib
import math

from pipeline.dataset.schema import FormatError
from trainer.checkpoints.write import find_unfinished
from trainer.config import TrainConfig
from trainer.engines.base import Engine
from trainer.errors import UserError
from trainer.models.tensors import is_finite

#: Loss is compared by stretches: of this share of an epoch, and of this many pairs at least.
STRETCHES_AN_EPOCH, FEWEST_PAIRS = 8, 1 << 18
#: How far a stretch's mean loss may be above the best one's. A falling learning rate alone raises it by a few percent:
#: rows follow what was read last less closely. Runs that diverged rose by a third within an epoch.
MOST_RISE = 1.2


class LossGuard:
    """Compares each stretch's mean loss with the best one so far."""

    def __init__(self, config: TrainConfig, processes: int, epoch_pairs: int) -> None:
        """Begin; what was trained before a resumption is not known here."""
        self._config, self._processes = config, processes
        self._stretch = max(epoch_pairs // STRETCHES_AN_EPOCH, FEWEST_PAIRS)
        self._pairs, self._loss, self._best = 0, 0.0, 0.0

    def add(self, pairs: int, loss: float, settled: bool = True) -> None:
        """Count pairs and their summed loss.

        Args:
            pairs: how many.
            loss: of these pairs, or of earlier ones where an engine runs ahead.
            settled: every pair that was counted so far has its loss; only then can a stretch end.

        Raises:
            UserError: a stretch ended whose mean loss is far above the best one's.
        """
        self._pairs += pairs
        self._loss += loss
        if not settled or self._pairs < self._stretch:
            return
        mean = self._loss / self._pairs
        self._pairs, self._loss = 0, 0.0
        if self._best and mean > self._best * MOST_RISE:
            raise UserError(
                f"training: the loss rose from {self._best:.3f} to {mean:.3f} a pair, so it diverges; {self._advice()}"
            )
        self._best = min(self._best or mean, mean)

    def _advice(self) -> str:
        flags = f"lower --learning-rate (here {self._config.learning_rate:g})"
        if self._processes > 1:
            return f"train with fewer processes than {self._processes}, lower --merge-pairs, or {flags}"
        return flags


def require_finite(config: TrainConfig, engine: Engine) -> None:
    """Refuse tables that hold NaN or Inf."""
    live = engine.live()
    for name in ("input", "output"):
        if not is_finite(live[name]):
            raise UserError(diverged(config, f"the {name} table"))


def require_finite_loss(config: TrainConfig, loss: float) -> None:
    """Refuse a loss that is NaN or Inf."""
    if not math.isfinite(loss):
        raise UserError(diverged(config, "the loss"))


def diverged(config: TrainConfig, where: str) -> str:
    """Say what was found, and what may help."""
    kept = "; the last checkpoint was kept" if _has_checkpoint(config.model) else ""
    return (
        f"training: found NaN or Inf in {where}, expected finite numbers; lower --learning-rate "
        f"(here {config.learning_rate:g}) or --batch-size{kept}"
    )


def _has_checkpoint(model_uri: str) -> bool:
    with contextlib.suppress(FormatError, OSError):
        return find_unfinished(model_uri) is not None
    return False
