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
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import xxhash
from msgspec.structs import replace

from pipeline.dataset.schema import sha256_hex
from pipeline.storage import storage
from trainer.checkpoints.unfinished import (
    ARRAYS,
    FOLDER,
    POINTER,
    STATE,
    Listed,
    StateFile,
    Summary,
    Unfinished,
    encode,
    find_unfinished,
    load_checkpoint,
    path_of,
)
from trainer.config import Settings
from trainer.data.position import Progress
from trainer.models.environment import library_versions
from trainer.models.tensors import AnyArray, TensorFile

__all__ = ["Unfinished", "find_unfinished", "load_checkpoint"]  # their home is `unfinished`

_LEFT = re.compile(r"[0-9]{15,}|\..+\.tmp")


class Checkpoints:
    """Writes checkpoints of one run and keeps the newest ones."""

    def __init__(
        self, model_uri: str, config: Settings, dataset_id: str, keep: int, *, run: str = "",
        training: Settings | None = None, replaces: str = "",
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
        self._pointer = Unfinished(config, dataset_id, (), run, training=(training or {},), replaces=replaces)

    @property
    def training(self) -> dict[str, Any]:
        """How it is trained; what was otherwise before a restart is under `before`, oldest first."""
        *before, now = self._pointer.training
        return {**now, **({"before": before} if before else {})}

    def move(self, dataset_id: str, run: str) -> None:
        """Those that come belong to another run of the dataset."""
        self._pointer = replace(self._pointer, dataset_id=dataset_id, run=run)

    def adopt(self, unfinished: Unfinished) -> None:
        """Count an earlier process's checkpoints of the same run among ours."""
        (now,) = self._pointer.training
        self._pointer = replace(
            self._pointer, checkpoints=unfinished.checkpoints, replaces=unfinished.replaces,
            training=(*(one for one in unfinished.training if one != now), now),
        )  # fmt: skip
        self._sweep()

    def begin(self) -> None:
        """Note that a training has begun: better to fail now than hours later, if the folder cannot be written."""
        self._sweep()
        self._point(self._pointer)

    def save(self, progress: Progress, arrays: Mapping[str, AnyArray]) -> None:
        finish = self.write(progress, arrays)
        if finish is not None:
            finish()

    def write(self, progress: Progress, arrays: Mapping[str, AnyArray]) -> Callable[[], None] | None:
        """Write arrays as they are now, NumPy's or tensors; they may change as soon as this returns.

        Returns:
            What makes a checkpoint of them, to be called once, by any thread: it waits for the disk, points to the
            checkpoint, and removes those that are more than `keep`. None if no pair was seen since the last one.
        """
        name = f"{progress.pairs:015d}"
        if [name] == self._names()[:1]:
            return None
        digest = xxhash.xxh3_128()  # which finds damage as well as SHA-256 does, at memory speed
        with self._removing(name):
            file = TensorFile(path_of(self._model_uri, name, ARRAYS), arrays, digest)
        summary = Summary(file.bytes, digest.hexdigest())
        state = encode(StateFile(summary, msgspec.to_builtins(progress), library_versions()))
        pointer = replace(self._pointer, followed=tuple(progress.followed))
        return functools.partial(self._finish, name, file, state, pointer)

    def _finish(self, name: str, file: TensorFile, state: bytes, pointer: Unfinished) -> None:
        with self._removing(name):
            with contextlib.closing(file):
                file.put(path_of(self._model_uri, name, ARRAYS))
            storage.write_bytes(path_of(self._model_uri, name, STATE), state)
            others = [one for one in self._pointer.checkpoints if one.name != name]
            listed = (Listed(name, sha256_hex(state)), *others)
            before = self._pointer
            self._pointer = replace(before, checkpoints=listed[: self._keep])
            try:
                self._point(replace(pointer, checkpoints=self._pointer.checkpoints))
            except BaseException:
                self._pointer = before
                raise
        for old in listed[self._keep :]:
            _discard(self._model_uri, old.name)

    @contextlib.contextmanager
    def _removing(self, name: str) -> Iterator[None]:
        """Leave nothing of a checkpoint that cannot be written."""
        try:
            yield
        except BaseException:
            if name not in self._names():
                with contextlib.suppress(OSError):  # the write's own error is the one to report
                    _discard(self._model_uri, name)
            raise

    def _sweep(self) -> None:
        """Remove what a killed process left half-written; a local folder is ours alone as long as we train."""
        folder = storage.local_path(path_of(self._model_uri))
        if storage.is_local(self._model_uri) and os.path.isdir(folder):
            for name in os.listdir(folder):
                path = path_of(self._model_uri, name)
                if _LEFT.fullmatch(name) and name not in self._names():
                    storage.remove_file(path) if name.startswith(".") else storage.remove_tree(path)

    def _names(self) -> list[str]:
        return [one.name for one in self._pointer.checkpoints]

    def _point(self, pointer: Unfinished) -> None:
        storage.write_bytes(path_of(self._model_uri, POINTER), encode(pointer))


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
        for one in unfinished.checkpoints:
            _discard(model_uri, one.name)
        _remove_file(path_of(model_uri, POINTER), encode(replace(unfinished, checkpoints=())))


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
