"""The dataset, the training and the staged version of a night; each is taken as it is where it is there already."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from pipeline.dataset.manifest import MANIFEST
from pipeline.dataset.reader import Dataset, open_dataset
from pipeline.dataset.schema import FormatError, sha256_hex
from pipeline.storage import storage
from trainer.checkpoints.write import remove_checkpoints
from trainer.errors import UserError
from trainer.evaluation.align import align
from trainer.models.lease import Lease
from trainer.models.mapped import map_model
from trainer.models.pointer import LATEST, Pointer, read_pointer
from trainer.models.publication import remove_version, remove_versions
from trainer.models.store import Model, finished_version, load_model, read_info, read_run, stage_model
from trainer.progress.meter import warn
from trainer.retraining import lineage
from trainer.retraining.config import COLD, LIVE, RetrainConfig, Settings
from trainer.retraining.corpus import load_files
from trainer.retraining.pipeline_process import PipelineFailed, run_pipeline, say_step
from trainer.retraining.state import Night, State, folder_of, save_state
from trainer.retraining.uses import record_uses

TRAINING = "training"
_FILES = ("listed.parquet", "read.parquet", "known.parquet", f"{TRAINING}/{LATEST}")


def make_dataset(settings: Settings, state: State, lease: Lease) -> tuple[Dataset, State]:
    """Have the pipeline make the night's dataset; one that is complete is taken as it is.

    Raises:
        PipelineFailed: it could not; the night is not gone on with.
    """
    own, night = settings.own, night_of(state)
    if _is_complete(own.data, night.name):
        if data_digest(own.data) == night.data_sha256:  # the process died between the manifest and the pointer
            run_pipeline(["publish", "--output", own.data, "--run", night.name], lease.fds, own.quiet)
    else:
        with _dropping(own.model, state, PipelineFailed, UserError):
            words = [part for pattern in own.input for part in ("--input", pattern)]
            words += ["--input-list", folder_of(own.model, night.name, "read.parquet"), "--output", own.data]
            words += ["--run-id", night.name, *_base_flags(settings, night)]
            try:
                run_pipeline(["run", *words], lease.fds, own.quiet)
            except PipelineFailed as failed:  # a complete run may have failed to become the published one
                if not _is_complete(own.data, night.name):
                    if "--vocab" in str(failed):  # a flag that retrain gave, so its name alone says little
                        hint = "the live model's words were made by other settings; retrain once without --only-new"
                        raise PipelineFailed(f"{failed}: {hint}", failed.status) from None
                    raise
                warn(f"pipeline: {failed}")
    dataset = open_dataset(own.data, night.name)
    state = dataclasses.replace(state, night=dataclasses.replace(
        night, dataset_id=dataset.dataset_id, content=lineage.content_of(dataset)
    ))  # fmt: skip
    save_state(own.model, state)
    return dataset, state


def data_digest(data_uri: str) -> str:
    """SHA-256 of a dataset's pointer, "" for none."""
    data = storage.read_pointer(storage.join(data_uri, LATEST))
    return "" if data is None else sha256_hex(data)


def _is_complete(data_uri: str, run: str) -> bool:
    return storage.exists(storage.join(data_uri, "runs", run, MANIFEST))


def _base_flags(settings: Settings, night: Night) -> list[str]:
    """The pipeline's flags; new files extend the vocabulary, and take over the phrases, of the live model's dataset."""
    flags = settings.own.pipeline_flags
    if not (night.only_new and night.parent):
        return flags
    made = lineage.load_lineage(settings.own.model, night.parent)
    run = made["dataset"]["run"] if made else ""
    folder = storage.join(settings.own.data, "runs", run)
    if not run or not _is_complete(settings.own.data, run):
        raise UserError(
            f"--only-new: found no run {run!r} in {storage.redact(settings.own.data)}, expected the one that the live "
            "model was trained on, whose vocabulary is extended; retrain once without --only-new"
        )
    return ["--vocab", folder, *_without_phrases(flags)]


def _without_phrases(flags: list[str]) -> list[str]:
    kept, skip = [], False
    for flag in flags:
        if skip:
            skip = False
        elif flag == "--phrases":
            skip = True
        elif not flag.startswith("--phrases="):
            kept.append(flag)
    return kept


def require_warm_start(settings: Settings, live: Pointer | None) -> None:
    """Refuse to begin a night whose training cannot start from the model that --init-from names.

    Raises:
        UserError: there is none, or it has another number of dimensions.
    """
    own, wanted = settings.own, settings.train_config(data="-", model="-").dim
    base, version = _base_of(own, live.version if live else "")
    if not base:
        return
    info = read_info(base, version) if version else finished_version(base)
    flag = f"--init-from {storage.redact(own.init_from)}"
    if info is None:
        raise UserError(f"{flag}: found no model, expected a trained one; --init-from none starts from no model")
    if (found := info["config"].get("dim", wanted)) != wanted:
        raise UserError(
            f"{flag}: found vectors of {found} dimensions, expected {wanted} as in --dim; "
            f"--init-from none starts from no model, --dim {found} keeps the dimensions"
        )


def _base_of(own: RetrainConfig, parent: str) -> tuple[str, str]:
    """Return the model that training starts from, "" for none, and its version, "" for the live one."""
    if own.init_from == LIVE:
        return (own.model, parent) if parent else ("", "")
    return ("", "") if own.init_from == COLD else (own.init_from, "")


def _require_common_words(own: RetrainConfig, base: str, version: str, dataset: Dataset) -> None:
    if base and not (map_model(base, version or None).vocabulary.encode(dataset.vocabulary().tokens) >= 0).any():
        raise UserError(
            f"--init-from {storage.redact(own.init_from)}: no word of the new vocabulary is in it: "
            "was the tokenizer, --lowercase or the language changed? --init-from none starts from no model"
        )


def train_candidate(settings: Settings, state: State, dataset: Dataset) -> None:
    """Train in a folder of the night's own, or go on there.

    Raises:
        UserError, FormatError: it cannot work; the night is not gone on with.
        Stopped: a signal asked for it.
    """
    from trainer.training.command import train

    own, night = settings.own, night_of(state)
    base, version = _base_of(own, night.parent)
    config = settings.train_config(
        data=own.data, run=dataset.run_id, model=folder_of(own.model, night.name, TRAINING), quiet=own.quiet,
        init_from=base, init_version=version,
    )  # fmt: skip
    with _dropping(own.model, state, UserError, FormatError):
        _require_common_words(own, base, version, dataset)
        say_step("training", own.quiet)
        train(config)


def stage(settings: Settings, state: State, dataset: Dataset) -> State:
    """Write the trained model as a version that no one reads yet, in the live version's space."""
    own, night = settings.own, night_of(state)
    folder = folder_of(own.model, night.name, TRAINING)
    say_step("writing the new version", own.quiet)
    trained, aligned = _in_live_space(own, night, load_model(folder))
    known = lineage.known_files(own.model, night.parent) if night.parent and night.only_new else None
    info = {**trained.info, "lineage": {**trained.info["lineage"], "parent": night.parent or None, "aligned": aligned}}
    run = {**read_run(folder, trained.info["version"]), "night": night.name}
    model = Model(trained.input_VD, trained.output_VD, trained.vocabulary, info)
    version, _ = stage_model(own.model, model, run)
    night = dataclasses.replace(night, version=version)
    read = load_files(folder_of(own.model, night.name, "read.parquet"))
    assert read is not None
    files = lineage.trained_files(read, dataset, known, version)
    lineage.save_lineage(own.model, night, dataset, settings, files, aligned)
    state = dataclasses.replace(state, night=night)
    save_state(own.model, state)
    record_uses(own, state)
    return state


def _in_live_space(own: RetrainConfig, night: Night, trained: Model) -> tuple[Model, int | None]:
    """Turn a trained model, if asked; the number of words tells what the rotation was fitted to."""
    if not (own.align and night.parent):
        return trained, None
    return align(trained, load_model(own.model, night.parent), own.align_words)


def drop(model_uri: str, state: State) -> State:
    """Give a night up: nothing of it but its run in the dataset stays."""
    night = state.night
    if night is None:
        return state
    used = _named(model_uri) | {outcome.version for outcome in state.outcomes}
    doomed = (*state.doomed, *({night.version} - used - {""}))
    state = dataclasses.replace(state, night=None, over=(*state.over, night.name), doomed=doomed)
    save_state(model_uri, state)
    return tidy(model_uri, state)


def tidy(model_uri: str, state: State) -> State:
    """Remove what nights that are over, and versions that are no longer kept, have left."""
    if not state.over and not state.doomed:
        return state
    for name in state.over:
        _remove_night(folder_of(model_uri, name))
    for version in set(state.doomed) - _named(model_uri):
        remove_version(model_uri, version)
    state = dataclasses.replace(state, over=(), doomed=())
    save_state(model_uri, state)
    return state


def _named(model_uri: str) -> set[str]:
    """Versions that the pointer names: whatever happens, their files stay."""
    live = read_pointer(model_uri)
    return {live.version, *live.previous, *live.withdrawn} if live else set()


def _remove_night(folder: str) -> None:
    if storage.is_local(folder):
        storage.remove_tree(folder)
        return
    training = storage.join(folder, TRAINING)
    with contextlib.suppress(FormatError):
        remove_versions(training)
        remove_checkpoints(training)
    for name in _FILES:
        storage.remove_file(storage.join(folder, name))


@contextlib.contextmanager
def _dropping(model_uri: str, state: State, *errors: type[Exception]) -> Iterator[None]:
    """Give the night up where it failed for a reason that another try would meet again."""
    try:
        yield
    except errors:
        drop(model_uri, state)
        raise


def night_of(state: State) -> Night:
    """The night under way, which there must be."""
    assert state.night is not None
    return state.night
