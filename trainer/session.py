"""What a training begins with, in every process of it: dataset, engine, and the position to go on from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.dataset import storage
from pipeline.dataset.flags import flag_of
from pipeline.dataset.reader import Dataset, open_dataset
from pipeline.dataset.vocab import Vocabulary
from trainer.audit import PREFIX, Audit
from trainer.checkpoint import Checkpoints, Progress, load_checkpoint
from trainer.config import TrainConfig, usable_cores
from trainer.engine import Engine, State
from trainer.engines import make_engine
from trainer.errors import UserError
from trainer.loop import Loop
from trainer.processes import Processes
from trainer.progress import warn
from trainer.resume import Decision, Identity, decide, find_dataset
from trainer.store import Model, load_model, model_version
from trainer.tables import initial_tables, warm_tables


@dataclass
class Session:
    """One training: what it is called, what it reads, and its loop; `finished` is model.json of an earlier one."""

    config: TrainConfig
    identity: Identity
    dataset: Dataset
    vocabulary: Vocabulary
    loop: Loop
    resumed: bool


def begin(asked: TrainConfig, config: TrainConfig, processes: Processes) -> Session | tuple[Dataset, dict[str, Any]]:
    """Make everything ready; where the same training has finished before, return its dataset and model.json.

    Args:
        asked: as the flags say.
        config: resolved.
        processes: who trains; process 0 alone looks into the model's folder.

    Raises:
        UserError: a setting that cannot be, another training in the model's folder.
        FormatError: a damaged dataset or model.
    """
    base = load_model(config.init_from) if config.init_from else None
    # A base model counts by its content: a path says nothing.
    shaping = {**config.shaping(), "init_from": base.info["files"]["model.safetensors"]["sha256"] if base else ""}
    dataset, identity, decision = _survey(config, shaping, processes)
    processes.require_equal(json.dumps([shaping, config.merge, config.merge_pairs, config.audit]), "settings")
    processes.require_equal(dataset.dataset_id, f"the dataset of --data {storage.redact(config.data)}")
    if decision.finished is not None:
        return dataset, decision.finished
    total = sum(dataset.pairs_in_pass(epoch % dataset.passes) for epoch in range(config.epochs))
    if total == 0:
        raise UserError(f"--data {storage.redact(config.data)}: found no pairs, expected some")
    vocabulary = dataset.vocabulary()
    engine = _make_engine(config, vocabulary, base)
    if processes.rank == 0:
        _warn_of_settings(asked, config, dataset, processes)
    checkpoints = Checkpoints(
        config.model, identity.version, shaping, dataset.dataset_id, config.keep, run=dataset.run_id
    )
    audit = Audit(processes) if config.audit else None
    progress = _restore(config, decision, engine, audit, checkpoints, processes)
    begun = progress or Progress(losses=[0.0] * config.epochs)
    loop = Loop(config, dataset, engine, checkpoints, total, begun, processes, audit=audit)
    _join_tables(loop, vocabulary, processes)
    return Session(config, identity, dataset, vocabulary, loop, resumed=progress is not None)


def _survey(
    config: TrainConfig, shaping: Mapping[str, Any], processes: Processes
) -> tuple[Dataset, Identity, Decision]:
    """Open the dataset and look into the model's folder; all processes see what process 0 saw."""
    if processes.rank:
        said = json.loads(processes.tell(""))
        dataset = open_dataset(config.data, said["run"])
        identity = Identity(said["version"], dict(shaping), dataset.dataset_id)
        return dataset, identity, Decision(finished=said["finished"])
    dataset = find_dataset(config, shaping)
    identity = Identity(model_version(shaping, dataset.dataset_id), dict(shaping), dataset.dataset_id)
    decision = decide(config, identity)
    said = {"run": dataset.run_id, "version": identity.version, "finished": decision.finished}
    processes.tell(json.dumps(said))
    return dataset, identity, decision


def _make_engine(config: TrainConfig, vocabulary: Vocabulary, base: Model | None) -> Engine:
    tables = initial_tables(config.init, len(vocabulary), config.dim, config.seed)
    return make_engine(config, warm_tables(tables, vocabulary, base) if base else tables, vocabulary.counts)


def _restore(
    config: TrainConfig,
    decision: Decision,
    engine: Engine,
    audit: Audit | None,
    checkpoints: Checkpoints,
    processes: Processes,
) -> Progress | None:
    """Go on from process 0's newest whole checkpoint, or begin; the position is the same in every process."""
    progress = None

    def restore(_: Progress, arrays: State) -> None:
        engine.load_state({name: array for name, array in arrays.items() if not name.startswith(PREFIX)})
        if audit is not None:
            audit.load_state(arrays)

    if processes.rank == 0:
        if decision.unfinished is not None:
            progress = load_checkpoint(config.model, decision.unfinished, restore, warn)
            if progress is not None:
                checkpoints.adopt(decision.unfinished)
            elif config.resume == "must":
                raise UserError(
                    f"--resume must: found no whole checkpoint in {storage.redact(config.model)}, expected one"
                )
        if progress is None:
            checkpoints.begin()
    said = json.loads(processes.tell(json.dumps(progress and vars(progress))))
    return None if said is None else Progress(**said)


def _join_tables(loop: Loop, vocabulary: Vocabulary, processes: Processes) -> None:
    if processes.size > 1:
        from trainer.merging import Merger, update_shares

        shares_V = update_shares(vocabulary.counts, float(loop.dataset.manifest.options.get("sample", 0.0)))
        loop.merging = Merger(processes, loop.engine.live(), shares_V, loop.config.merge)


def share_cores(config: TrainConfig, asked: TrainConfig, processes: Processes) -> TrainConfig:
    """Where --threads leaves it open, the processes of one machine share its cores."""
    threads = asked.threads or max(1, usable_cores() // processes.local_size)
    return dataclasses.replace(config, threads=threads)


def _warn_of_settings(asked: TrainConfig, config: TrainConfig, dataset: Dataset, processes: Processes) -> None:
    if asked.engine == "auto" and config.engine == "reference":
        causes = ", ".join(map(flag_of, asked.reference_only())) or "--device cuda"
        warn(f"{causes}: only the reference engine has it, which is many times slower than the fused one")
    if config.epochs > dataset.passes:
        warn(
            f"--epochs {config.epochs} over a dataset of {dataset.passes} pass{'es' * (dataset.passes > 1)}: its draws "
            "repeat, which costs quality; the pipeline's --passes gives each epoch its own"
        )
    if config.threads * processes.local_size > usable_cores():
        warn(f"--threads {config.threads} on {usable_cores()} cores: more threads than cores make it slower")
    groups = len(dataset.row_groups(0))
    if groups < processes.size:
        warn(
            f"{processes.size} processes for {groups} row groups: {processes.size - groups} of them have nothing to do"
        )
