"""What a train command finds in its model folder, and what that means: begin, go on, done, or refuse."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.dataset import storage
from pipeline.dataset.flags import flag_of
from pipeline.dataset.reader import Dataset, open_dataset
from pipeline.dataset.schema import FormatError
from trainer.checkpoint import Unfinished, find_unfinished, remove_checkpoints
from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.store import LATEST, finished_version, model_version


@dataclass(frozen=True)
class Identity:
    """What makes two trainings the same one.

    Attributes:
        version: their version's name, which follows from the other two.
        config: the settings that shape the bytes.
        dataset_id: the dataset.
    """

    version: str
    config: dict[str, Any]
    dataset_id: str


@dataclass(frozen=True)
class Decision:
    """Done already (model.json is there), to go on (checkpoints are there), or to begin (neither)."""

    finished: dict[str, Any] | None = None
    unfinished: Unfinished | None = None


def find_dataset(config: TrainConfig, shaping: Mapping[str, Any]) -> tuple[Dataset, str]:
    """Open the dataset to train on, and name the version that comes of it.

    An unfinished training keeps to the run that it was reading, whatever was published since.

    Raises:
        FormatError: there is none, or it is damaged.
    """
    if not (config.run or config.overwrite or config.resume == "never"):
        unfinished = find_unfinished(config.model)
        if unfinished is not None and unfinished.config == shaping and unfinished.run:
            with contextlib.suppress(FormatError):  # it may have been removed since
                dataset = open_dataset(config.data, unfinished.run)
                if dataset.dataset_id == unfinished.dataset_id:
                    return dataset, unfinished.version
    dataset = open_dataset(config.data, config.run or None)
    return dataset, model_version(shaping, dataset.dataset_id)


def decide(config: TrainConfig, wanted: Identity) -> Decision:
    """Look into the model folder; leftovers that this run replaces are removed.

    Raises:
        UserError: something else is there, or nothing where --resume must asks for it.
        FormatError: what is there cannot be read.
    """
    if config.overwrite:
        storage.read_pointer(storage.join(config.model, LATEST))  # an error if --model is a file
        remove_checkpoints(config.model)
        return Decision()
    finished, unfinished = finished_version(config.model), find_unfinished(config.model)
    if finished is not None and _is_same(finished, wanted):
        if unfinished is not None and unfinished.version == finished["version"]:
            remove_checkpoints(config.model)  # the process died between publishing and this
        return Decision(finished=finished)
    if unfinished is not None:
        if unfinished.version != wanted.version:
            _refuse(config.model, "an unfinished training", unfinished.config, unfinished.dataset_id, wanted)
        if config.resume != "never":
            return Decision(unfinished=unfinished)
        remove_checkpoints(config.model)
    elif finished is not None:
        _refuse(config.model, "a model", finished["config"], str(finished["lineage"].get("dataset_id")), wanted)
    if config.resume == "must":
        raise UserError(f"--resume must: found no checkpoint in {storage.redact(config.model)}, expected one")
    return Decision()


def _is_same(finished: Mapping[str, Any], wanted: Identity) -> bool:
    # A training that followed its dataset is named by the run that it began with.
    last = finished["config"] == wanted.config and finished["lineage"].get("dataset_id") == wanted.dataset_id
    return bool(finished["version"] == wanted.version or last)


def _refuse(model_uri: str, what: str, config: Mapping[str, Any], dataset_id: str, wanted: Identity) -> None:
    raise UserError(
        f"{storage.redact(model_uri)}: found {what} with {difference(config, dataset_id, wanted)}; "
        "--overwrite starts anew"
    )


def difference(config: Mapping[str, Any], dataset_id: str, wanted: Identity) -> str:
    """Name the settings that differ, and both values."""
    names = [name for name in wanted.config if config.get(name) != wanted.config[name]]
    found = [f"{flag_of(name)} {_show(config.get(name))}" for name in names]
    expected = [f"{flag_of(name)} {_show(wanted.config[name])}" for name in names]
    if dataset_id != wanted.dataset_id:
        found.append(f"dataset {dataset_id[:16]}…")
        expected.append(f"dataset {wanted.dataset_id[:16]}…")
    return f"{', '.join(found)}, expected {', '.join(expected)}"


def _show(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
