"""What a train command finds in its model folder, and what that means: begin, go on, done, or refuse."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.common.flags import flag_of
from pipeline.dataset.reader import Dataset, open_dataset
from pipeline.dataset.schema import FormatError
from pipeline.storage import storage
from trainer.checkpoints.write import Unfinished, find_unfinished, remove_checkpoints
from trainer.config import SHAPING, Setting, Settings, TrainConfig
from trainer.errors import UserError
from trainer.models.pointer import read_pointer
from trainer.models.store import Info, finished_version
from trainer.progress.meter import warn

_DEFAULTS: Settings = {name: getattr(TrainConfig, name) for name in SHAPING}


@dataclass(frozen=True)
class Identity:
    """What makes two trainings the same one: the dataset and the settings, but not the device."""

    asked: TrainConfig
    config: Settings
    dataset_id: str

    def is_of(self, config: Mapping[str, Setting], *dataset_ids: str) -> bool:
        """Tell whether a training with these settings, which read these datasets, is this one."""
        return self.dataset_id in dataset_ids and not self.differences(config)

    def differences(self, config: Mapping[str, Setting]) -> dict[str, tuple[Setting, Setting]]:
        """Settings of another training that are not as they would be here on its device: theirs, and ours."""
        config, ours = {**_DEFAULTS, **config}, self._on_device_of(config)
        return {name: (config.get(name), ours[name]) for name in ours if config.get(name) != ours[name]}

    def _on_device_of(self, config: Mapping[str, Setting]) -> Settings:
        """Our settings, where those that the user did not choose are chosen for the device of another training."""
        device = config.get("device")
        if device == self.config["device"]:
            return self.config
        asked = dataclasses.replace(self.asked, device=str(device), arithmetic=TrainConfig.arithmetic)
        try:
            moved = asked.resolve(lambda: True, 1).shaping()
        except UserError:  # it lacks what the flags ask for
            return {**self.config, "device": device}
        chosen = self.asked.arithmetic != TrainConfig.arithmetic  # only one device has it, so its absence says nothing
        moved["arithmetic"] = self.asked.arithmetic if chosen else config.get("arithmetic")
        return {**self.config, **moved}


@dataclass(frozen=True)
class Decision:
    """Done already (model.json is there), to go on (checkpoints are there), or to begin (neither).

    ``live`` is the version that is live now, "" for none.
    """

    finished: Info | None = None
    unfinished: Unfinished | None = None
    live: str = ""


def find_dataset(config: TrainConfig, asked: TrainConfig, shaping: Settings) -> Dataset:
    """Open the dataset to train on.

    An unfinished training keeps to the run that it was reading, whatever was published since.
    """
    if not (config.run or config.overwrite or config.resume == "never"):
        unfinished = find_unfinished(config.model)
        if unfinished is not None and unfinished.run:
            with contextlib.suppress(FormatError):  # it may have been removed since
                dataset = open_dataset(config.data, unfinished.run)
                if Identity(asked, shaping, dataset.dataset_id).is_of(unfinished.config, unfinished.dataset_id):
                    return dataset
    return open_dataset(config.data, config.run or None)


def decide(config: TrainConfig, wanted: Identity) -> Decision:
    """Look into the model folder; leftovers that this run replaces are removed.

    Raises:
        UserError: something else is there, or nothing where --resume must asks for it.
        FormatError: what is there cannot be read.
    """
    if config.overwrite:
        pointer = read_pointer(config.model)
        remove_checkpoints(config.model)
        return Decision(live=pointer.version if pointer else "")
    finished, unfinished = finished_version(config.model), find_unfinished(config.model)
    live = str(finished["version"]) if finished else ""
    ours = unfinished is not None and wanted.is_of(unfinished.config, unfinished.dataset_id, *unfinished.followed)
    done = finished is not None and wanted.is_of(finished["config"], *_datasets(finished))
    # A training that began when this version was live is to replace it. Of any other one this version came, and the
    # process died before it removed the checkpoints.
    replacing = ours and unfinished is not None and unfinished.replaces == live and config.resume != "never"
    if done and not replacing:
        if ours:
            remove_checkpoints(config.model)
        return Decision(finished=finished, live=live)
    if unfinished is not None:
        if not ours:
            _refuse(config.model, "an unfinished training", unfinished.config, unfinished.dataset_id, wanted)
        if config.resume != "never":
            return Decision(unfinished=unfinished, live=live)
        remove_checkpoints(config.model)
    elif finished is not None:
        _refuse(config.model, "a model", finished["config"], str(finished["lineage"].get("dataset_id")), wanted)
    if config.resume == "must":
        raise UserError(f"--resume must: no checkpoint in {storage.redact(config.model)}")
    return Decision(live=live)


def warn_of_device(config: TrainConfig, unfinished: Unfinished) -> None:
    """Say so where a training goes on on another device."""
    before = unfinished.config.get("device")
    if before != config.device:
        warn(
            f"{storage.redact(config.model)}: this training began on {before} and goes on on {config.device}: the "
            "vectors will not be exactly those of one device"
        )


def training_settings(config: TrainConfig, processes: int, rate: float) -> Settings:
    """What shapes the vectors besides the settings that make two trainings the same one.

    Args:
        config: resolved.
        processes: how many train.
        rate: learning rate at the start, which may have grown with them.
    """
    settings: Settings = {"device": config.device, "threads": config.threads, "processes": processes}
    if processes > 1:
        settings |= {"merge": config.merge, "merge_pairs": config.merge_pairs, "learning_rate": rate}
    return settings


def _datasets(finished: Info) -> list[str]:
    """Ids of the datasets that a model was trained on: --follow-latest moves from one to the next."""
    lineage = finished["lineage"]
    return [str(lineage.get("dataset_id")), *lineage.get("followed", ())]


def _refuse(model_uri: str, what: str, config: Mapping[str, Setting], dataset_id: str, wanted: Identity) -> None:
    raise UserError(
        f"{storage.redact(model_uri)}: found {what} with {difference(config, dataset_id, wanted)}; "
        "--overwrite starts again"
    )


def difference(config: Mapping[str, Setting], dataset_id: str, wanted: Identity) -> str:
    """Name the settings that differ, and both values."""
    differences = wanted.differences(config)
    found = [f"{flag_of(name)} {_show(theirs)}" for name, (theirs, _) in differences.items()]
    expected = [f"{flag_of(name)} {_show(ours)}" for name, (_, ours) in differences.items()]
    if dataset_id != wanted.dataset_id:
        found.append(f"dataset {dataset_id[:16]}…")
        expected.append(f"dataset {wanted.dataset_id[:16]}…")
    return f"{', '.join(found)}, expected {', '.join(expected)}"


def _show(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
