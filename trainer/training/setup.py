"""What a training begins with, in every process of it: dataset, engine, and the position to go on from."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pipeline.common.compiling import compiling
from pipeline.dataset.reader import Dataset, open_dataset
from pipeline.dataset.vocabulary import Vocabulary
from pipeline.storage import storage
from trainer.checkpoints.resume import Decision, Identity, decide, find_dataset, training_settings, warn_of_device
from trainer.checkpoints.write import Checkpoints, load_checkpoint
from trainer.config import Settings, TrainConfig, usable_cores
from trainer.data.order import pairs_to_come
from trainer.data.position import Progress
from trainer.distributed.group import Processes, speaks
from trainer.distributed.merge_plan import rate_factor
from trainer.engines.base import Engine
from trainer.engines.choose import make_engine, require_memory
from trainer.engines.init import initial_tables, warm_tables, word_parts
from trainer.errors import UserError
from trainer.importing.start import load_start
from trainer.models.store import Info, Model
from trainer.models.tensors import Array, fill_arrays
from trainer.progress.meter import warn
from trainer.subwords.ngrams import Parts
from trainer.training.audit import PREFIX, Audit
from trainer.training.follow import follow_latest
from trainer.training.hints import warn_of_settings
from trainer.training.loop import Loop


@dataclass
class Session:
    """One training: what makes it the one it is, and its loop."""

    config: TrainConfig
    identity: Identity
    loop: Loop
    resumed: bool


def begin(asked: TrainConfig, config: TrainConfig, processes: Processes) -> Session | tuple[Dataset, Info]:
    """Make everything ready; where the same training has finished before, return its dataset and model.json.

    Args:
        asked: as the flags say.
        config: resolved.
        processes: who trains; process 0 alone looks into the model's folder.

    Raises:
        UserError: a setting that cannot be, another training in the model's folder.
        FormatError: a damaged dataset or model.
    """
    base = load_start(config.init_from, config.init_version) if config.init_from else None
    # A base model counts by its content: a path says nothing.
    shaping: Settings = {
        **config.shaping(),
        "init_from": base.info["files"]["model.safetensors"]["sha256"] if base else "",
    }
    dataset, identity, decision = _survey(asked, config, shaping, processes)
    settings = [
        shaping, config.merge, config.merge_pairs, asked.learning_rate, config.audit, config.follow_latest,
    ]  # fmt: skip
    processes.require_equal(json.dumps(settings), "settings")
    processes.require_equal(dataset.dataset_id, f"the dataset of --data {storage.redact(config.data)}")
    if decision.finished is not None:
        return dataset, decision.finished
    if pairs_to_come(dataset, 0, config.epochs) == 0:
        raise UserError(f"--data {storage.redact(config.data)}: the dataset has no pairs")
    if processes.rank == 0:
        warn_of_settings(asked, config, dataset, processes)
    scaled = not asked.learning_rate and config.optimizer == "sgd"
    rate = config.learning_rate * (rate_factor(processes.size) if scaled else 1.0)
    checkpoints = Checkpoints(
        config.model, shaping, dataset.dataset_id, config.keep, run=dataset.run_id,
        training=training_settings(config, processes.size, rate), replaces=decision.live,
    )  # fmt: skip
    loop = _make_loop(config, dataset, base, checkpoints, processes)
    loop.rate = rate
    resumed = processes.rank == 0 and _restore(loop, decision)
    resumed, fields = json.loads(processes.broadcast_text(json.dumps([resumed, msgspec.to_builtins(loop.progress)])))
    if processes.rank:
        _read_run(loop, fields["run"])
        loop.progress = Progress(**fields)
    return Session(config, identity, loop, resumed=resumed)


def _survey(
    asked: TrainConfig, config: TrainConfig, shaping: Settings, processes: Processes
) -> tuple[Dataset, Identity, Decision]:
    """Open the dataset and look into the model's folder; all processes see what process 0 saw."""
    if processes.rank:
        found = json.loads(processes.broadcast_text(""))
        dataset = open_dataset(config.data, found["run"])
        identity = Identity(asked, shaping, dataset.dataset_id)
        return dataset, identity, Decision(finished=found["finished"])
    dataset = find_dataset(config, asked, shaping)
    identity = Identity(asked, shaping, dataset.dataset_id)
    decision = decide(config, identity)
    processes.broadcast_text(json.dumps({"run": dataset.run_id, "finished": decision.finished}))
    return dataset, identity, decision


def _make_loop(
    config: TrainConfig, dataset: Dataset, base: Model | None, checkpoints: Checkpoints, processes: Processes
) -> Loop:
    vocabulary = dataset.vocabulary()
    parts = word_parts(config, vocabulary)
    return Loop(
        config, dataset, vocabulary, _make_engine(config, vocabulary, parts, base, processes.size), checkpoints,
        Progress.start(config.epochs, dataset.run_id), processes, parts,
        audit=Audit(processes) if config.audit else None,
        follow=follow_latest if config.follow_latest else None,
    )  # fmt: skip


def _make_engine(
    config: TrainConfig, vocabulary: Vocabulary, parts: Parts | None, base: Model | None, processes: int
) -> Engine:
    require_memory(config, len(vocabulary), processes)
    if (config.engine, config.device) == ("fused", "cpu") and speaks() and not config.quiet:
        compiling.expect(Path(__file__).parents[1] / "engines" / "kernels" / "numba")
        compiling.listen()
    buckets = config.buckets if config.subwords else 0
    tables = initial_tables(config.init, len(vocabulary), config.dim, config.seed, buckets)
    tables = warm_tables(tables, vocabulary, base, config.subword_rule()) if base else tables
    return make_engine(config, tables, vocabulary.counts, parts)


def _read_run(loop: Loop, run: str) -> None:
    """Let a loop that has done nothing yet read the run that a checkpoint is in."""
    if run != loop.dataset.run_id:
        loop.dataset = open_dataset(loop.config.data, run)
        loop.vocabulary = loop.dataset.vocabulary()
        loop.parts = word_parts(loop.config, loop.vocabulary)
        loop.engine = _make_engine(loop.config, loop.vocabulary, loop.parts, None, loop.processes.size)


def _restore(loop: Loop, decision: Decision) -> bool:
    """Go on from the newest whole checkpoint, if there is one."""
    config = loop.config

    def restore(progress: Progress, arrays: dict[str, Array]) -> None:
        _read_run(loop, progress.run)
        own = {name: array for name, array in arrays.items() if not name.startswith(PREFIX)}
        fill_arrays(loop.engine.live(), own)
        if loop.audit is not None:
            loop.audit.load_state(arrays)
        loop.progress = progress

    if decision.unfinished is not None:
        if load_checkpoint(config.model, decision.unfinished, restore, warn) is not None:
            loop.checkpoints.adopt(decision.unfinished)
            loop.checkpoints.move(loop.dataset.dataset_id, loop.dataset.run_id)  # where the checkpoint was written
            warn_of_device(config, decision.unfinished)
            return True
        if config.resume == "must":
            raise UserError(f"--resume must: no complete checkpoint in {storage.redact(config.model)}")
    loop.checkpoints.begin()
    return False


def share_cores(config: TrainConfig, asked: TrainConfig, processes: Processes) -> TrainConfig:
    """Where --threads leaves it open, the processes of one machine share its cores."""
    threads = asked.threads or max(1, usable_cores() // processes.local_size)
    return dataclasses.replace(config, threads=threads)
