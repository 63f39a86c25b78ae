"""The rates of engines that are not the CPU's kernel: the readable reference, and a GPU where there is one."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import torch

from trainer.config import TrainConfig
from trainer.engines.base import pending_loss
from trainer.engines.choose import make_engine
from trainer.engines.init import initial_tables

Pairs = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]


def other_engines(threads: int) -> dict[str, dict[str, str]]:
    """Settings by name; the GPU once."""
    engines = {"reference (PyTorch)": {"engine": "reference", "device": "cpu"}}
    if threads == 1 and torch.cuda.is_available():
        engines["CUDA"] = {"engine": "fused", "device": "cuda"}
    return engines


def engine_rate(pairs: Pairs, counts_V: npt.NDArray[np.int64], threads: int, settings: dict[str, str]) -> float:
    """Pairs a second of an engine's steps, compiling apart."""
    plain = TrainConfig("data", "model", threads=threads, **settings)  # type: ignore[arg-type]
    config = plain.resolve(torch.cuda.is_available, threads)
    torch.set_num_threads(threads)
    tables = initial_tables(config.init, len(counts_V), config.dim, config.seed)
    engine = make_engine(config, tables, counts_V)
    size = engine.step_pairs or len(pairs[0])
    start, before = time.perf_counter(), 0
    for first in range(0, len(pairs[0]), size):
        if first == size:  # the first step warms up
            pending_loss(engine)
            start, before = time.perf_counter(), first
        center_B, context_B = (ids[first : first + size] for ids in pairs)
        engine.step(center_B, context_B, lr_start=0.025, lr_end=0.025, key=first)
    pending_loss(engine)
    return (len(pairs[0]) - before) / (time.perf_counter() - start)
