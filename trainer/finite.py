"""NaN and Inf end a run before they reach a checkpoint or a model."""

from __future__ import annotations

import math

from trainer.config import TrainConfig
from trainer.engine import Engine
from trainer.errors import UserError
from trainer.tables import is_finite


def require_finite(config: TrainConfig, engine: Engine) -> None:
    """Refuse tables that hold NaN or Inf.

    Raises:
        UserError: they do.
    """
    live = engine.live()
    for name in ("input", "output"):
        if not is_finite(live[name]):
            raise UserError(diverged(config, f"the {name} table"))


def require_finite_loss(config: TrainConfig, loss: float) -> None:
    """Refuse a loss that is NaN or Inf.

    Raises:
        UserError: it is.
    """
    if not math.isfinite(loss):
        raise UserError(diverged(config, "the loss"))


def diverged(config: TrainConfig, where: str) -> str:
    """Say what was found, and what may help."""
    return (
        f"training: found NaN or Inf in {where}, expected finite numbers; lower --learning-rate "
        f"(here {config.learning_rate:g}) or --batch-size; the last checkpoint was kept"
    )
