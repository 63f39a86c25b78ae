"""The state of an unfinished training, so that it can go on after any kind of stop.

    MODEL/checkpoints/LATEST.json           what `Unfinished` holds; written last
    MODEL/checkpoints/NAME/state.json       position and losses; bytes and XXH3 of the arrays' file
    MODEL/checkpoints/NAME/state.safetensors

A folder that the pointer does not list was never complete, and is not read.

Training waits while the arrays are written into a file of this machine, block by block, so that there is never a
copy of them in memory. What is slow, the wait for the disk or for an object store, happens meanwhile.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import xxhash

from pipeline.dataset.schema import FORMAT_VERSION, canonical_json, sha256_hex
from pipeline.storage import storage
from trainer.checkpoints.unfinished import (
    ARRAYS,
    FOLDER,
    POINTER,
    STATE,
    Unfinished,
    find_unfinished,
    load_checkpoint,
    path_of,
)
from trainer.data.position import Progress
from trainer.models.environment import library_versions
from trainer.models.tensors import TensorFile

__all__ = ["Unfinished", "find_unfinished", "load_checkpoint"]  # their home is `unfinished`

_LEFT = re.compile(r"[0-9]{15,}|\..+\.tmp")


class Checkpoints:
    """Writes checkpoints of one run and keeps the newest ones."""

    def __init__(
        self, model_uri: str, config: Mapping[str, Any], dataset_id: str, keep: int, *, run: str = "",
        training: Mapping[str, Any] | None = None, replaces: str = "",
    ) -> None:  # fmt: skip
        """Begin without any; `adopt` takes over those of an earlier process.

        Args:
            model_uri: the model's folder.
            config: the settings that shape the bytes.
            dataset_id: the dataset.
            keep: how many to keep.
            run: the dataset's run.
            training: how this process trains: threads, processes and the like.
            replaces: the version that is live now.
        """
        self._model_uri, self._keep = model_uri, keep
        self._identity: dict[str, Any] = {"config": dict(config), "dataset_id": dataset_id, "run": run}
        self._identity |= {"training": [dict(training or {})], "replaces": replaces}
        self._listed: list[tuple[str, str]] = []

    @property
    def training(self) -> dict[str, Any]:
        """How it is trained; what was otherwise before a restart is under `before`, oldest first."""
        *before, now = self._identity["training"]
        return {**now, **({"before": before} if before else {})}

    def move(self, dataset_id: str, run: str) -> None:
        """Those that come belong to another run of the dataset."""
        self._identity |= {"dataset_id": dataset_id, "run": run}

    def adopt(self, unfinished: Unfinished) -> None:
        """Count an earlier process's checkpoints of the same run among ours."""
        self._listed = list(unfinished.checkpoints)
        (now,) = self._identity["training"]
        training = [*(one for one in unfinished.training if one != now), now]
        self._identity |= {"training": training, "replaces": unfinished.replaces}
        self._sweep()

    def begin(self) -> None:
        """Note that a training has begun: better to fail now than hours later, if the folder cannot be written."""
        self._sweep()
        self._point(self._identity)

    def save(self, progress: Progress, arrays: Mapping[str, Any]) -> None:
        """Write one and wait for it."""
        finish = self.write(progress, arrays)
        if finish is not None:
            finish()

    def write(self, progress: Progress, arrays: Mapping[str, Any]) -> Callable[[], None] | None:
        """Write arrays as they are now, NumPy's or tensors; they may change as soon as this returns.

        Returns:
            What makes a checkpoint of them, to be called once, by any thread: it waits for the disk, points to the
            checkpoint, and removes those that are more than `keep`. None if no pair was seen since the last one.
        """
        name = f"{progress.pairs:015d}"
        if self._listed and self._listed[0][0] == name:
            return None
        digest = xxhash.xxh3_128()  # which finds damage as well as SHA-256 does, at memory speed
        with self._removing(name):
            file = TensorFile(path_of(self._model_uri, name, ARRAYS), arrays, digest)
        state = canonical_json(
            {
                "format_version": FORMAT_VERSION,
                "versions": library_versions(),
                "progress": vars(progress),
                "arrays": {"bytes": file.bytes, "xxh3": digest.hexdigest()},
            }
        )
        identity = {**self._identity, "followed": list(progress.followed)}
        return functools.partial(self._finish, name, file, state, identity)

    def _finish(self, name: str, file: TensorFile, state: bytes, identity: dict[str, Any]) -> None:
        with self._removing(name):
            with contextlib.closing(file):
                file.put(path_of(self._model_uri, name, ARRAYS))
            storage.write_bytes(path_of(self._model_uri, name, STATE), state)
            listed = [(name, sha256_hex(state)), *(one for one in self._listed if one[0] != name)]
            before, self._listed = self._listed, listed[: self._keep]
            try:
                self._point(identity)
            except BaseException:
                self._listed = before
                raise
        for old, _ in listed[self._keep :]:
            _discard(self._model_uri, old)

    @contextlib.contextmanager
    def _removing(self, name: str) -> Iterator[None]:
        """Leave nothing of a checkpoint that cannot be written."""
        try:
            yield
        except BaseException:
            if name not in dict(self._listed):
                with contextlib.suppress(OSError):  # the write's own error is the one to report
                    _discard(self._model_uri, name)
            raise

    def _sweep(self) -> None:
        """Remove what a killed process left half-written; a local folder is ours alone as long as we train."""
        folder = storage.local_path(path_of(self._model_uri))
        if storage.is_local(self._model_uri) and os.path.isdir(folder):
            for name in os.listdir(folder):
                path = path_of(self._model_uri, name)
                if _LEFT.fullmatch(name) and name not in dict(self._listed):
                    storage.remove_file(path) if name.startswith(".") else storage.remove_tree(path)

    def _point(self, identity: Mapping[str, Any]) -> None:
        storage.write_bytes(path_of(self._model_uri, POINTER), _encode_pointer(identity, self._listed))


def _encode_pointer(identity: Mapping[str, Any], checkpoints: Sequence[tuple[str, str]]) -> bytes:
    listed = [{"name": name, "sha256": sha256} for name, sha256 in checkpoints]
    return canonical_json({**identity, "format_version": FORMAT_VERSION, "checkpoints": listed})


def remove_checkpoints(model_uri: str) -> None:
    """Remove all checkpoints of a model, also what a killed process left: training has finished, or starts again."""
    if storage.is_local(model_uri):
        storage.remove_tree(storage.join(model_uri, FOLDER))
        return
    listed = storage.list_objects(path_of(model_uri, ""))
    if listed is None:
        _remove_unlisted(model_uri)
        return
    ours = [one.uri for one in listed if one.uri.endswith(tuple(f"/{name}" for name in (POINTER, STATE, ARRAYS)))]
    for uri in sorted(ours, key=lambda uri: not uri.endswith(f"/{POINTER}")):  # first: without it no one looks for them
        storage.remove_file(uri)


def _remove_unlisted(model_uri: str) -> None:
    """Remove what the pointer names, where there is no way to list."""
    unfinished = find_unfinished(model_uri)
    if unfinished is not None:
        for name, _ in unfinished.checkpoints:
            _discard(model_uri, name)
        _remove_file(path_of(model_uri, POINTER), _encode_pointer(vars(unfinished), ()))


def _discard(model_uri: str, name: str) -> None:
    if storage.is_local(model_uri):
        storage.remove_tree(path_of(model_uri, name))
        return
    for file in (STATE, ARRAYS):
        _remove_file(path_of(model_uri, name, file), b"")


def _remove_file(uri: str, instead: bytes) -> None:
    """Remove a file, or write something short instead, where its store has no way that we know."""
    try:
        storage.remove_file(uri)
    except NotImplementedError:
        storage.write_bytes(uri, instead)
