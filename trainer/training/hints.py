"""Warnings of settings that work, but hardly as they were meant."""

from __future__ import annotations

from pipeline.common.flags import flag_of
from pipeline.dataset.reader import Dataset
from trainer.config import TrainConfig, usable_cores
from trainer.distributed.group import Processes
from trainer.distributed.merge_plan import supported_processes
from trainer.progress.meter import warn


def warn_of_settings(asked: TrainConfig, config: TrainConfig, dataset: Dataset, processes: Processes) -> None:
    if asked.engine == "auto" and config.engine == "reference":
        causes = ", ".join(map(flag_of, asked.reference_only()))
        warn(f"{causes}: only the reference engine has it, which is many times slower than the fused one")
    options = dataset.manifest.options
    if config.epochs > dataset.passes and not options.get("window") == options.get("sample") == 0:  # then none is drawn
        warn(
            f"--epochs {config.epochs} over a dataset of {dataset.passes} pass{'es' * (dataset.passes > 1)}: its draws "
            "repeat, which costs quality; the pipeline's --passes gives each epoch its own"
        )
    if config.threads * processes.local_size > usable_cores():
        warn(f"--threads {config.threads} on {usable_cores()} cores: more threads than cores make it slower")
    supported = supported_processes(dataset.pairs_in_pass(0), config.dim)
    if processes.size > supported:
        warn(
            f"{processes.size} processes share {dataset.pairs_in_pass(0):,} pairs an epoch, at --dim {config.dim} "
            f"enough for {supported}: with more, the vectors may be worse"
        )
