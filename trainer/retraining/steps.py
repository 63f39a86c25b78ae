"""The dataset, the training and the version of a night; each is taken as it is where it is there already."""

from __future__ import annotations

from dataclasses import replace

from pipeline.dataset.manifest import MANIFEST
from pipeline.dataset.reader import Dataset, open_dataset
from pipeline.storage import storage
from trainer.errors import UserError
from trainer.evaluation.align import align
from trainer.models.lease import Lease
from trainer.models.mapped import map_model
from trainer.models.pointer import Pointer
from trainer.models.store import Info, finished_version, load_model, read_info, read_run, stage_model
from trainer.progress.meter import warn
from trainer.retraining import lineage
from trainer.retraining.config import COLD, LIVE, RetrainConfig, Settings
from trainer.retraining.corpus import require_files
from trainer.retraining.pipeline_process import PipelineFailed, run_pipeline, say_step
from trainer.retraining.plan import data_digest
from trainer.retraining.state import READ, TRAINING, Night, folder_of


def make_dataset(settings: Settings, night: Night, lease: Lease) -> Dataset:
    """Have the pipeline make the night's dataset; one that is complete is taken as it is.

    Raises:
        PipelineFailed: it could not.
        UserError: the dataset of the live version, which --only-new needs, is not there.
    """
    own = settings.own
    if not _is_complete(own.data, night.run):
        words = [part for pattern in own.input for part in ("--input", pattern)]
        words += ["--input-list", folder_of(own.model, night.name, READ), "--output", own.data]
        words += ["--run-id", night.run, *_base_flags(settings, night)]
        try:
            run_pipeline(["run", *words], lease.fds, own.quiet)
        except PipelineFailed as failed:  # a complete run may have failed to become the published one
            if not _is_complete(own.data, night.run):
                if "--vocab" in str(failed):  # a flag that retrain gave, so its name alone says little
                    hint = "the live model's words were made by other settings; retrain once without --only-new"
                    raise PipelineFailed(f"{failed}: {hint}", failed.status) from None
                raise
            warn(f"pipeline: {failed}")
    elif data_digest(own.data) == night.data_sha256:  # the process died between the manifest and the pointer
        run_pipeline(["publish", "--output", own.data, "--run", night.run], lease.fds, own.quiet)
    dataset = open_dataset(own.data, night.run)
    _say_other_words(settings, night, dataset)
    return dataset


def _say_other_words(settings: Settings, night: Night, dataset: Dataset) -> None:
    """Warn where the live version's words were cut by another version of the tokenizer."""
    made = lineage.load_lineage(settings.own.model, night.parent) if night.parent else None
    theirs = made.dataset.tokenizer.get("version") if made else None
    ours = dataset.manifest.tokenizer.get("version")
    if made and made.dataset.tokenizer.get("name") == dataset.manifest.tokenizer.get("name") and theirs != ours:
        warn(f"words are cut by version {ours} of the tokenizer, those of the live model were by version {theirs}")


def _is_complete(data_uri: str, run: str) -> bool:
    return storage.exists(storage.join(data_uri, "runs", run, MANIFEST))


def _base_flags(settings: Settings, night: Night) -> list[str]:
    """The pipeline's flags; new files extend the vocabulary, and take over the phrases, of the live model's dataset."""
    flags = settings.own.pipeline_flags
    if not (night.only_new and night.parent):
        return flags
    made = lineage.load_lineage(settings.own.model, night.parent)
    run = made.dataset.run if made else ""
    folder = storage.join(settings.own.data, "runs", run)
    if not run or not _is_complete(settings.own.data, run):
        raise UserError(
            f"--only-new: found no run {run!r} in {storage.redact(settings.own.data)}, expected the one that the live "
            "model was trained on, whose vocabulary is extended; retrain once without --only-new"
        )
    return ["--vocab", folder, *_without_phrases(flags)]


def _without_phrases(flags: list[str]) -> list[str]:
    values = {at + 1 for at, flag in enumerate(flags) if flag == "--phrases"}
    return [flag for at, flag in enumerate(flags) if at not in values and flag.partition("=")[0] != "--phrases"]


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


def train_candidate(settings: Settings, night: Night, dataset: Dataset) -> None:
    """Train in a folder of the night's own, or go on there.

    Raises:
        UserError, FormatError: it cannot work.
        Stopped: a signal asked for it.
    """
    from trainer.training.command import train

    own = settings.own
    base, version = _base_of(own, night.parent)
    if base and not (map_model(base, version or None).vocabulary.encode(dataset.vocabulary().tokens) >= 0).any():
        raise UserError(
            f"--init-from {storage.redact(own.init_from)}: no word of the new vocabulary is in it: "
            "was the tokenizer, --lowercase or the language changed? --init-from none starts from no model"
        )
    config = settings.train_config(
        data=own.data, run=dataset.run_id, model=folder_of(own.model, night.name, TRAINING), quiet=own.quiet,
        init_from=base, init_version=version,
    )  # fmt: skip
    say_step("training", own.quiet)
    train(config)


def stage(settings: Settings, night: Night, dataset: Dataset) -> str:
    """Write the trained model as a version that no one reads yet, in the live version's space; return its name."""
    own, folder = settings.own, folder_of(settings.own.model, night.name, TRAINING)
    say_step("writing the new version", own.quiet)
    trained, aligned = load_model(folder), None
    run = {**read_run(folder, trained.info["version"]), "night": night.run}
    if own.align and night.parent:
        trained, aligned = align(trained, load_model(own.model, night.parent), own.align_words)
    origin = {**trained.info["lineage"], "parent": night.parent or None, "aligned": aligned}
    info: Info = {**trained.info, "lineage": origin}
    version, _ = stage_model(own.model, replace(trained, info=info), run)
    known = lineage.known_files(own.model, night.parent) if night.parent and night.only_new else None
    read = require_files(folder_of(own.model, night.name, READ))
    files = lineage.trained_files(read, dataset, known, version)
    lineage.save_lineage(own.model, version, night, dataset, settings, files, aligned)
    return version
