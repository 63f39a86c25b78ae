"""What is left of a training that was stopped: whose checkpoints there are, and going on from the newest whole one.

Nothing is read into memory but the arrays that the engine has already: they are copied there from the mapped file.
"""

from __future__ import annotations

import contextlib
import mmap
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import xxhash

from pipeline.dataset.schema import FormatError, parse_json_object, require_inside, require_version, sha256_hex
from pipeline.storage import storage
from pipeline.storage.retry import retrying
from trainer.data.position import Progress, parse_progress
from trainer.engines.base import State
from trainer.models.pointer import parse_pointer, read_whole
from trainer.models.tensors import map_arrays

FOLDER = "checkpoints"
POINTER = "LATEST.json"
STATE = "state.json"
ARRAYS = "state.safetensors"

_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True)
class Unfinished:
    """Whose the checkpoints are, as their pointer says.

    Attributes:
        config: the settings that shape the bytes.
        dataset_id: the dataset.
        run: its run.
        followed: ids of datasets that were read before it (--follow-latest).
        training: how it was trained so far, newest last; see `Checkpoints`.
        replaces: the version that was live when the training began, "" for none; None where it was not noted.
        checkpoints: name, and SHA-256 of state.json, newest first.
    """

    config: dict[str, Any]
    dataset_id: str
    run: str
    followed: tuple[str, ...]
    training: tuple[dict[str, Any], ...]
    replaces: str | None
    checkpoints: tuple[tuple[str, str], ...]


def find_unfinished(model_uri: str) -> Unfinished | None:
    """Read the checkpoints' pointer, None where there is none.

    Raises:
        FormatError: it is damaged, or of another format version.
    """
    data = read_whole(model_uri, f"{FOLDER}/{POINTER}")
    if data is None:
        return None
    path = storage.redact(path_of(model_uri, POINTER))
    fields = parse_pointer(data, path)
    try:
        listed = tuple((require_inside(one["name"], path), str(one["sha256"])) for one in fields["checkpoints"])
        found = Unfinished(
            dict(fields["config"]), str(fields["dataset_id"]), str(fields.get("run", "")),
            tuple(map(str, fields.get("followed", ()))), tuple(map(dict, fields.get("training", ()))),
            fields.get("replaces"), listed,
        )  # fmt: skip
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
        restore: puts position and arrays (mapped, read-only) back; what it refuses (FormatError) is no checkpoint of
            this run.
        warn: told about each checkpoint that is passed over, and why.
    """
    for name, sha256 in unfinished.checkpoints:
        try:
            with _opened(model_uri, name, sha256) as (progress, arrays):
                restore(progress, arrays)
        except FormatError as error:
            warn(f"ignored a checkpoint: {error}")
        else:
            return progress
    return None


@contextlib.contextmanager
def _opened(model_uri: str, name: str, sha256: str) -> Iterator[tuple[Progress, State]]:
    """Check a checkpoint, and give its position and its arrays, mapped from the file."""
    uri = path_of(model_uri, name, STATE)
    path, data = storage.redact(uri), _read_file(uri)
    if sha256_hex(data) != sha256:
        raise FormatError(f"{path}: found SHA-256 {sha256_hex(data)[:16]}…, expected {sha256[:16]}…")
    fields = parse_json_object(data, path)
    require_version(fields.get("format_version"), path)
    arrays_uri = path_of(model_uri, name, ARRAYS)
    arrays_path = storage.redact(arrays_uri)
    with _local_file(arrays_uri) as file:
        found = _summary(file)
        if found != fields.get("arrays"):
            raise FormatError(f"{arrays_path}: found {found}, expected {fields.get('arrays')}")
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if found["bytes"] else b""
    try:
        progress, arrays = parse_progress(fields.get("progress")), map_arrays(content, arrays_path)
    except (FormatError, KeyError, ValueError, TypeError, MemoryError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FormatError(f"{arrays_path}: found no valid checkpoint ({reason}), expected one") from None
    yield progress, arrays


def _summary(file: IO[bytes]) -> dict[str, Any]:
    """Size and XXH3 of a file, read in pieces."""
    digest, size = xxhash.xxh3_128(), 0
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return {"bytes": size, "xxh3": digest.hexdigest()}


@contextlib.contextmanager
def _local_file(uri: str) -> Iterator[IO[bytes]]:
    """Open a file of this machine, or a nameless copy of an object store's."""

    def fetch(copy: IO[bytes]) -> None:
        copy.seek(0)
        copy.truncate()
        with storage.open_binary(uri) as source:
            shutil.copyfileobj(source, copy, _CHUNK_BYTES)
        copy.seek(0)

    with _missing(uri), contextlib.ExitStack() as stack:
        if storage.is_local(uri):
            file: IO[bytes] = stack.enter_context(open(storage.local_path(uri), "rb"))
        else:
            with storage.naming(tempfile.gettempdir()):
                file = stack.enter_context(tempfile.TemporaryFile())
            retrying(storage.redact(uri), lambda: fetch(file))
        yield file


def _read_file(uri: str) -> bytes:
    with _missing(uri):
        return storage.read_bytes(uri)


@contextlib.contextmanager
def _missing(uri: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise FormatError(f"{storage.redact(uri)}: found no file, expected one of a checkpoint's") from None


def path_of(model_uri: str, *parts: str) -> str:
    """URI of what belongs to checkpoints in a model's folder."""
    return storage.join(model_uri, FOLDER, *parts)
