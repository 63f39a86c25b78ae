"""NaN and Inf end a run before they reach a checkpoint or a model."""

from __future__ import annotations

import contextlib
import math

from pipeline.dataset.schema import FormatError
from trainer.checkpoints.write import find_unfinished
from trainer.config import TrainConfig
from trainer.engines.base import Engine
from trainer.errors import UserError
from trainer.models.tensors import is_finite


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
    kept = "; the last checkpoint was kept" if _has_checkpoint(config.model) else ""
    return (
        f"training: found NaN or Inf in {where}, expected finite numbers; lower --learning-rate "
        f"(here {config.learning_rate:g}) or --batch-size{kept}"
    )


def _has_checkpoint(model_uri: str) -> bool:
    with contextlib.suppress(FormatError, OSError):
        return find_unfinished(model_uri) is not None
    return False
