"""NaN and Inf end a run before they reach a checkpoint or a model."""

from __future__ import annotations

from trainer.config import TrainConfig
from trainer.engine import Engine
from trainer.errors import UserError
from trainer.tables import is_finite


def require_finite(config: TrainConfig, engine: Engine) -> None:
    """Refuse tables that hold NaN or Inf.

    Raises:
        UserError: they do.
    """
    for name, table_VD in zip(("input", "output"), engine.tables(), strict=True):
        if not is_finite(table_VD):
            raise UserError(diverged(config, f"the {name} table"))


def diverged(config: TrainConfig, where: str) -> str:
    """Say what was found, and what may help."""
    return (
        f"training: found NaN or Inf in {where}, expected finite numbers; lower --learning-rate "
        f"(here {config.learning_rate:g}) or --batch-size; the last checkpoint was kept"
    )
