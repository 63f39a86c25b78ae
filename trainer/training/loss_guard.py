"""A training whose loss rises clearly is ended: more of it would only make the vectors worse."""

from __future__ import annotations

from trainer.config import TrainConfig
from trainer.errors import UserError

#: Loss is compared by stretches: of this share of an epoch, and of this many pairs at least.
STRETCHES_AN_EPOCH, FEWEST_PAIRS = 8, 1 << 18
#: How far a stretch's mean loss may be above the best one's. A falling learning rate alone raises it by a few percent:
#: rows follow what was read last less closely. Runs that diverged rose by a third within an epoch.
MOST_RISE = 1.2


class LossGuard:
    """Compares each stretch's mean loss with the best one so far."""

    def __init__(self, config: TrainConfig, processes: int, epoch_pairs: int) -> None:
        """Begin; what was trained before a resumption is not known here.

        Args:
            config: for the message.
            processes: how many train.
            epoch_pairs: pairs of an epoch.
        """
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
