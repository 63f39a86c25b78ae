"""Train word vectors on a dataset of pairs. The same command again goes on where an interrupted run stopped."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import platform
import signal
import time
from typing import Any

from pipeline.common.outputs import emit_result
from pipeline.dataset.reader import Dataset
from pipeline.dataset.schema import FormatError
from pipeline.storage import storage
from trainer.checkpoints.write import remove_checkpoints
from trainer.config import TrainConfig, add_arguments, read_config, usable_cores
from trainer.distributed.group import join, speaks
from trainer.errors import Stopped
from trainer.models.environment import library_versions
from trainer.models.lock import lock_folder
from trainer.models.store import Info, finished_version, save_model
from trainer.progress.curve import columns
from trainer.progress.meter import warn
from trainer.training.callbacks import Results
from trainer.training.divergence import require_finite
from trainer.training.setup import Session, begin, share_cores

__all__ = ["add_arguments", "run", "train"]


def run(args: argparse.Namespace) -> int:
    """Train as the flags say, and print the result."""
    config = read_config(args)
    try:
        result = train(config)
    except Stopped as stopped:
        if speaks():
            warn(f"stopped by {signal.Signals(stopped.number).name}; the same command goes on from here")
        return 128 + stopped.number
    if speaks():
        text = describe(result)
        emit_result(json.dumps(result) if config.json else text, text.partition("\n")[0], config.report)
    return 0


def train(config: TrainConfig) -> dict[str, Any]:
    """Train, or go on, and publish the model; returns what --json prints.

    Raises:
        UserError: a setting that cannot be, another training in the model's folder, NaN or Inf.
        FormatError: a damaged dataset or model.
        Stopped: a signal asked for it.
    """
    started = time.perf_counter()
    resolved = config.resolve(has_cuda, usable_cores())
    with join(resolved.device) as processes:
        results = Results(config, processes.rank)
        # Only process 0 reads and writes the model's folder; the others need not even see it.
        with lock_folder(config.model) if processes.rank == 0 else contextlib.nullcontext():
            session = begin(config, share_cores(resolved, config, processes), processes)
            if isinstance(session, tuple):
                return _summary(config, *session, status="finished before") | results.of_finished(session[1])
            start_up_s = time.perf_counter() - started
            with results.watching(session.loop):
                session.loop.run()
                if processes.rank:  # nothing is left to do together: process 0 may take long to publish
                    return {}
                result = _finish(config, session, start_up_s)
                result |= results.of_trained(session.loop, result["version"])
    return result


def _finish(asked: TrainConfig, session: Session, start_up_s: float) -> dict[str, Any]:
    info = _publish(session, start_up_s)
    remove_checkpoints(asked.model)
    loop, seconds = session.loop, session.loop.progress.seconds
    return {
        **_summary(asked, loop.dataset, info, status="finished"),
        "seconds": round(seconds, 3),
        "start_up_s": round(start_up_s, 3),
        "pairs_per_s": round(loop.total / seconds),
        "raw_words_per_s": round(loop.dataset.total_tokens * asked.epochs / seconds),
        "threads": session.config.threads,
        "processes": loop.processes.size,
        "resumed": session.resumed,
        **({"audit": loop.progress.audit} if loop.audit is not None else {}),
    }


def has_cuda() -> bool:
    """Tell whether CUDA can be used; PyTorch is imported only where there is a driver."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    from trainer.engines import reference

    return reference.has_cuda()


def _publish(session: Session, start_up_s: float) -> Info:
    config, loop, progress = session.config, session.loop, session.loop.progress
    require_finite(config, loop.engine)
    dataset, pairs = loop.dataset, progress.epoch_pairs
    losses = [loss / count if count else 0.0 for loss, count in zip(progress.losses, pairs, strict=True)]
    followed = {"followed": progress.followed} if progress.followed else {}
    info: Info = {
        "config": session.identity.config,
        "training": loop.checkpoints.training,
        "lineage": {"dataset_id": dataset.dataset_id, "passes": dataset.passes, **followed},
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
        "processes": loop.processes.size,
        "raw_words": dataset.total_tokens * config.epochs,
        "history": columns(progress.history),
        "previous": _published_version(config.model),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "libraries": library_versions(),
    }
    info["version"] = save_model(config.model, loop.model(info), run, keep=config.keep_versions)
    return info


def _published_version(model_uri: str) -> str:
    """Name the version that this one is about to follow; "" where there is none."""
    with contextlib.suppress(FormatError):
        if found := finished_version(model_uri):
            return found["version"]
    return ""


def _summary(config: TrainConfig, dataset: Dataset, info: Info, status: str) -> dict[str, Any]:
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
    if result["status"] != "finished":
        wrote = f"\n  report      {result['report']}" if "report" in result else ""
        again = "is trained already; --overwrite trains it again"
        return f"version {result['version']} in {result['model']} {again}{wrote}"
    return "\n".join(
        [
            f"trained version {result['version']} in {result['model']}",
            f"  vectors     {result['vocabulary']:,} words of {result['dim']} dimensions",
            f"  loss        {result['first_loss']:.4f} before, {result['loss']:.4f} over the last epoch",
            f"  pairs       {result['pairs']:,} in {result['epochs']} epoch{'s' * (result['epochs'] > 1)}",
            f"  time        {result['seconds']:.1f} s, {result['pairs_per_s']:,} pairs/s",
            f"  speed       {result['raw_words_per_s']:,} raw words/s",
            *([f"  report      {result['report']}"] if "report" in result else []),
        ]
    )
