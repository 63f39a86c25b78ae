"""Train word vectors on a dataset of pairs. The same command again goes on where an interrupted run stopped."""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import signal
import time
from importlib import metadata
from typing import Any

from pipeline.dataset import storage
from pipeline.dataset.flags import flag_of
from pipeline.dataset.reader import Dataset, open_dataset
from pipeline.dataset.vocab import Vocabulary
from trainer.checkpoint import Checkpoints, Progress, load_checkpoint, remove_checkpoints
from trainer.config import TrainConfig, add_arguments, read_config, usable_cores
from trainer.engine import Engine
from trainer.engines import make_engine
from trainer.errors import UserError
from trainer.loop import Loop, Stopped, require_finite
from trainer.progress import warn
from trainer.resume import Identity, decide
from trainer.store import Model, load_model, model_version, save_model
from trainer.tables import initial_tables, warm_tables

__all__ = ["add_arguments", "run", "train"]

LIBRARIES = ("pairstream", "numpy", "pyarrow", "numba", "torch", "safetensors")


def run(args: argparse.Namespace) -> int:
    """Train as the flags say, and print the result."""
    config = read_config(args)
    try:
        result = train(config)
    except Stopped as stopped:
        warn(f"stopped by {signal.Signals(stopped.number).name}; the same command goes on from here")
        return 128 + stopped.number
    print(json.dumps(result) if config.json else describe(result))
    return 0


def train(config: TrainConfig) -> dict[str, Any]:
    """Train, or go on, and publish the model; returns what --json prints.

    Raises:
        UserError: a setting that cannot be, another training in the model's folder, NaN or Inf.
        FormatError: a damaged dataset or model.
        Stopped: a signal asked for it.
    """
    started = time.perf_counter()
    dataset = open_dataset(config.data, config.run or None)
    total = sum(dataset.pairs_in_pass(epoch % dataset.passes) for epoch in range(config.epochs))
    if total == 0:
        raise UserError(f"--data {storage.redact(config.data)}: found no pairs, expected some")
    resolved = config.resolve(has_cuda, usable_cores())
    base = load_model(config.init_from) if config.init_from else None
    # A base model counts by its content: a path says nothing.
    base_digest = base.info["files"]["model.safetensors"]["sha256"] if base else ""
    shaping = {**resolved.shaping(), "init_from": base_digest}
    identity = Identity(model_version(shaping, dataset.dataset_id), shaping, dataset.dataset_id)
    decision = decide(config, identity)
    if decision.finished is not None:
        return _summary(config, dataset, decision.finished, status="finished before")
    vocabulary = dataset.vocabulary()
    tables = initial_tables(config.init, len(vocabulary), config.dim, config.seed)
    engine = make_engine(resolved, warm_tables(tables, vocabulary, base) if base else tables, vocabulary.counts)
    _warn_of_settings(config, resolved, dataset)
    checkpoints = Checkpoints(config.model, identity.version, shaping, dataset.dataset_id, config.keep)
    progress = None
    if decision.unfinished is not None:
        progress = load_checkpoint(config.model, decision.unfinished, engine.load_state, warn)
        if progress is not None:
            checkpoints.adopt(decision.unfinished)
        elif config.resume == "must":
            raise UserError(f"--resume must: found no whole checkpoint in {storage.redact(config.model)}, expected one")
    if progress is None:
        checkpoints.begin()
    loop = Loop(resolved, dataset, engine, checkpoints, total, progress or Progress(losses=[0.0] * config.epochs))
    start_up_s = time.perf_counter() - started
    loop.run()
    info = _publish(resolved, dataset, vocabulary, engine, identity, loop.progress, start_up_s)
    remove_checkpoints(config.model)
    seconds = loop.progress.seconds
    return {
        **_summary(config, dataset, info, status="finished"),
        "seconds": round(seconds, 3),
        "start_up_s": round(start_up_s, 3),
        "pairs_per_s": round(total / seconds),
        "raw_words_per_s": round(dataset.total_tokens * config.epochs / seconds),
        "threads": resolved.threads,
        "resumed": progress is not None,
    }


def has_cuda() -> bool:
    """Tell whether CUDA can be used; PyTorch is imported only where there is a driver."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    from trainer import reference

    return reference.has_cuda()


def _publish(
    config: TrainConfig,
    dataset: Dataset,
    vocabulary: Vocabulary,
    engine: Engine,
    identity: Identity,
    progress: Progress,
    start_up_s: float,
) -> dict[str, Any]:
    require_finite(config, engine)
    pairs = [dataset.pairs_in_pass(epoch % dataset.passes) for epoch in range(config.epochs)]
    losses = [loss / count if count else 0.0 for loss, count in zip(progress.losses, pairs, strict=True)]
    info = {
        "version": identity.version,
        "config": identity.config,
        "lineage": {"dataset_id": dataset.dataset_id, "passes": dataset.passes},
        "metrics": {
            "pairs": sum(pairs),
            "epochs": config.epochs,
            "first_loss": progress.first_loss,
            "loss": losses[-1],
            "epoch_losses": losses,
        },
    }
    run = {
        "data": storage.redact(config.data),
        "data_run": dataset.run_id,  # equal datasets may come from different runs: no part of what is hashed
        "init_from": storage.redact(config.init_from),
        "seconds": progress.seconds,
        "start_up_s": start_up_s,
        "threads": config.threads,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "libraries": {name: _library_version(name) for name in LIBRARIES},
    }
    save_model(config.model, identity.version, Model(*engine.tables(), vocabulary, info), run)
    return info


def _library_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _warn_of_settings(asked: TrainConfig, config: TrainConfig, dataset: Dataset) -> None:
    if asked.engine == "auto" and config.engine == "reference":
        causes = ", ".join(map(flag_of, asked.reference_only())) or "--device cuda"
        warn(f"{causes}: only the reference engine has it, which is many times slower than the fused one")
    if config.epochs > dataset.passes:
        warn(
            f"--epochs {config.epochs} over a dataset of {dataset.passes} pass{'es' * (dataset.passes > 1)}: its draws "
            "repeat, which costs quality; the pipeline's --passes gives each epoch its own"
        )
    if config.threads > usable_cores():
        warn(f"--threads {config.threads} on {usable_cores()} cores: more threads than cores make it slower")


def _summary(config: TrainConfig, dataset: Dataset, info: dict[str, Any], status: str) -> dict[str, Any]:
    return {
        "status": status,
        "model": storage.redact(config.model),
        "version": info["version"],
        "dataset_id": info["lineage"]["dataset_id"],
        "run_id": dataset.run_id,
        **info["metrics"],
        "vocabulary": dataset.manifest.vocabulary.rows,
        "dim": info["config"]["dim"],
        "engine": info["config"]["engine"],
        "device": info["config"]["device"],
    }


def describe(result: dict[str, Any]) -> str:
    """Format a result for people."""
    if result["status"] != "finished":
        return f"version {result['version']} in {result['model']} is trained already; --overwrite trains it again"
    return "\n".join(
        [
            f"trained version {result['version']} in {result['model']}",
            f"  vectors     {result['vocabulary']:,} words of {result['dim']} dimensions",
            f"  loss        {result['first_loss']:.4f} before, {result['loss']:.4f} over the last epoch",
            f"  pairs       {result['pairs']:,} in {result['epochs']} epoch{'s' * (result['epochs'] > 1)}",
            f"  time        {result['seconds']:.1f} s, {result['pairs_per_s']:,} pairs/s",
            f"  speed       {result['raw_words_per_s']:,} raw words/s",
        ]
    )
