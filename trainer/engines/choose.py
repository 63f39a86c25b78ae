"""Which engine a config asks for; each is imported only then, so that neither needs the other's libraries."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainer.config import TrainConfig
from trainer.engines.base import Engine
from trainer.engines.init import Tables
from trainer.subwords.ngrams import Parts


def make_engine(
    config: TrainConfig, tables: Tables, counts_V: npt.NDArray[np.int64], parts: Parts | None = None
) -> Engine:
    """Build the engine of a resolved config; it takes the tables over.

    Args:
        config: resolved.
        tables: of the input table's rows, and of the vocabulary's.
        counts_V: how often each word occurs.
        parts: with --subwords, what words are made of.

    Raises:
        UserError: too few words for the negatives that were asked for, out of GPU memory.
    """
    if config.engine == "fused" and config.device == "cuda":
        from trainer.engines.gpu import CudaEngine

        return CudaEngine(config, tables, counts_V)
    if config.engine == "fused":
        from trainer.engines.cpu import FusedEngine

        return FusedEngine(config, tables, counts_V, parts)
    from trainer.engines.reference import ReferenceEngine

    return ReferenceEngine(config, tables, counts_V, parts)


def require_memory(config: TrainConfig, rows: int, processes: int = 1) -> None:
    """Refuse a model that the device has no room for, before its tables are made.

    Args:
        config: resolved.
        rows: V.
        processes: of the training; several hold the tables twice, and what they exchange.
    """
    if config.engine == "fused" and config.device == "cuda":
        from trainer.engines import gpu

        gpu.require_memory(config, rows, processes)
