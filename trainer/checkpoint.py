"""The state of an unfinished training, so that it can go on after any kind of stop.

    MODEL/checkpoints/LATEST.json           {format_version, version, config, dataset_id, run, checkpoints}: written
                                            last; `run` names the dataset's run, `checkpoints` lists name
                                            and SHA-256 of state.json, newest first
    MODEL/checkpoints/NAME/state.json       position and losses; bytes and XXH3 of the arrays' file
    MODEL/checkpoints/NAME/state.safetensors

A folder that the pointer does not list was never complete, and is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
import xxhash

from pipeline.dataset import storage
from pipeline.dataset.schema import (
    FORMAT_VERSION,
    FormatError,
    canonical_json,
    parse_json_object,
    require_inside,
    require_version,
    sha256_hex,
)
from trainer.engine import State
from trainer.position import Progress, parse_progress
from trainer.versions import library_versions

FOLDER = "checkpoints"
POINTER = "LATEST.json"
STATE = "state.json"
ARRAYS = "state.safetensors"


@dataclass(frozen=True)
class Unfinished:
    """What the pointer says: the training that the checkpoints belong to, and (name, SHA-256) of each, newest first."""

    version: str
    config: dict[str, Any]
    dataset_id: str
    run: str
    checkpoints: tuple[tuple[str, str], ...]


def find_unfinished(model_uri: str) -> Unfinished | None:
    """Read the checkpoints' pointer, None where there is none.

    Raises:
        FormatError: it is damaged, or of another format version.
    """
    uri = _path(model_uri, POINTER)
    try:
        data = storage.read_pointer(uri)
    except NotADirectoryError:
        raise FormatError(f"{storage.redact(model_uri)}: found a file, expected a model's folder") from None
    if data is None:
        return None
    path = storage.redact(uri)
    fields = parse_json_object(data, path)
    require_version(fields.get("format_version"), path)
    try:
        listed = tuple((require_inside(one["name"], path), str(one["sha256"])) for one in fields["checkpoints"])
        config = dict(fields["config"])
        run = str(fields.get("run", ""))
        found = Unfinished(str(fields["version"]), config, str(fields["dataset_id"]), run, listed)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path}: found no valid pointer to checkpoints ({error!r}), expected one") from None
    return found if listed else None


def load_checkpoint(
    model_uri: str, unfinished: Unfinished, restore: Callable[[Progress, State], None], warn: Callable[[str], None]
) -> Progress | None:
    """Go on from the newest checkpoint that is whole; None where there is none.

    Args:
        model_uri: the model's folder.
        unfinished: what `find_unfinished` returned.
        restore: puts position and arrays back; what it refuses (FormatError) is no checkpoint of this run.
        warn: told about each checkpoint that is passed over, and why.
    """
    for name, sha256 in unfinished.checkpoints:
        try:
            progress, arrays = _read(model_uri, name, sha256)
            restore(progress, arrays)
        except FormatError as error:
            warn(f"ignored a checkpoint: {error}")
        else:
            return progress
    return None


class Checkpoints:
    """Writes checkpoints of one run and keeps the newest ones."""

    def __init__(
        self, model_uri: str, version: str, config: Mapping[str, Any], dataset_id: str, keep: int, run: str = ""
    ) -> None:
        """Begin without any; `adopt` takes over those of an earlier process."""
        self._model_uri, self._keep = model_uri, keep
        self._identity: dict[str, Any] = {
            "version": version,
            "config": dict(config),
            "dataset_id": dataset_id,
            "run": run,
        }
        self._listed: list[tuple[str, str]] = []

    def move(self, dataset_id: str, run: str) -> None:
        """Those that come belong to another run of the dataset."""
        self._identity |= {"dataset_id": dataset_id, "run": run}

    def adopt(self, unfinished: Unfinished) -> None:
        """Count an earlier process's checkpoints of the same run among ours."""
        self._listed = list(unfinished.checkpoints)

    def begin(self) -> None:
        """Say that a training has begun: better to fail now than hours later, if the folder cannot be written."""
        self._point()

    def save(self, progress: Progress, arrays: State) -> None:
        """Write one, point to it, and remove what is more than `keep`."""
        name = f"{progress.pairs:015d}"
        if self._listed and self._listed[0][0] == name:
            return  # no pair was seen since
        folder = _path(self._model_uri, name)
        # XXH3 finds damage as well as SHA-256 does, at memory speed.
        data = safetensors.numpy.save({key: np.asarray(array, order="C") for key, array in arrays.items()})
        state = canonical_json(
            {
                "format_version": FORMAT_VERSION,
                "versions": library_versions(),
                "progress": vars(progress),
                "arrays": {"bytes": len(data), "xxh3": xxhash.xxh3_128_hexdigest(data)},
            }
        )
        storage.write_bytes(storage.join(folder, ARRAYS), data)
        storage.write_bytes(storage.join(folder, STATE), state)
        listed = [(name, sha256_hex(state)), *(one for one in self._listed if one[0] != name)]
        self._listed = listed[: self._keep]
        self._point()
        for old, _ in listed[self._keep :]:
            _discard(self._model_uri, old)

    def _point(self) -> None:
        listed = [{"name": name, "sha256": sha256} for name, sha256 in self._listed]
        pointer = {**self._identity, "format_version": FORMAT_VERSION, "checkpoints": listed}
        storage.write_bytes(_path(self._model_uri, POINTER), canonical_json(pointer))


def remove_checkpoints(model_uri: str) -> None:
    """Remove all checkpoints of a model, also what a killed process left: training has finished, or starts anew."""
    if storage.is_local(model_uri):
        storage.remove_tree(storage.join(model_uri, FOLDER))
        return
    listed = storage.list_objects(_path(model_uri, ""))
    if listed is None:
        _remove_unlisted(model_uri)
        return
    ours = [one.uri for one in listed if one.uri.endswith(tuple(f"/{name}" for name in (POINTER, STATE, ARRAYS)))]
    for uri in sorted(ours, key=lambda uri: not uri.endswith(f"/{POINTER}")):  # first: without it nobody looks for them
        storage.remove_file(uri)


def _remove_unlisted(model_uri: str) -> None:
    """Remove what the pointer names, where there is no way to list."""
    unfinished = find_unfinished(model_uri)
    if unfinished is not None:
        for name, _ in unfinished.checkpoints:
            _discard(model_uri, name)
        _remove_file(_path(model_uri, POINTER), canonical_json(_pointer_of(unfinished)))


def _pointer_of(unfinished: Unfinished) -> dict[str, Any]:
    return {**vars(unfinished), "format_version": FORMAT_VERSION, "checkpoints": []}


def _path(model_uri: str, *parts: str) -> str:
    return storage.join(model_uri, FOLDER, *parts)


def _discard(model_uri: str, name: str) -> None:
    if storage.is_local(model_uri):
        storage.remove_tree(_path(model_uri, name))
        return
    for file in (STATE, ARRAYS):
        _remove_file(_path(model_uri, name, file), b"")


def _remove_file(uri: str, instead: bytes) -> None:
    """Remove a file, or write something short instead, where its store has no way that we know."""
    try:
        storage.remove_file(uri)
    except NotImplementedError:
        storage.write_bytes(uri, instead)


def _read(model_uri: str, name: str, sha256: str) -> tuple[Progress, State]:
    uri = _path(model_uri, name, STATE)
    path, data = storage.redact(uri), _read_file(uri)
    if sha256_hex(data) != sha256:
        raise FormatError(f"{path}: found SHA-256 {sha256_hex(data)[:16]}…, expected {sha256[:16]}…")
    fields = parse_json_object(data, path)
    require_version(fields.get("format_version"), path)
    arrays_uri = _path(model_uri, name, ARRAYS)
    arrays_path, content = storage.redact(arrays_uri), _read_file(arrays_uri)
    found = {"bytes": len(content), "xxh3": xxhash.xxh3_128_hexdigest(content)}
    if found != fields.get("arrays"):
        raise FormatError(f"{arrays_path}: found {found}, expected {fields.get('arrays')}")
    try:
        return parse_progress(fields.get("progress")), safetensors.numpy.load(content)
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError, MemoryError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FormatError(f"{arrays_path}: found no valid checkpoint ({reason}), expected one") from None


def _read_file(uri: str) -> bytes:
    try:
        return storage.read_bytes(uri)
    except (FileNotFoundError, NotADirectoryError):
        raise FormatError(f"{storage.redact(uri)}: found no file, expected one of a checkpoint's") from None
