"""What is left of a training that was stopped: whose checkpoints there are, and going on from the newest whole one.

Nothing is read into memory but the arrays that the engine has already: they are copied there from the mapped file.
"""

from __future__ import annotations

import contextlib
import mmap
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import IO

import msgspec
import xxhash

from pipeline.dataset.schema import (
    FORMAT_VERSION,
    FormatError,
    canonical_json,
    parse_struct,
    require_inside,
    require_sha256,
    sha256_hex,
)
from pipeline.storage import storage
from pipeline.storage.retry import retrying
from trainer.config import Settings
from trainer.data.position import Progress, parse_progress
from trainer.models.pointer import read_whole
from trainer.models.tensors import Array, map_arrays

FOLDER = "checkpoints"
POINTER = "LATEST.json"
STATE = "state.json"
ARRAYS = "state.safetensors"

_CHUNK_BYTES = 1 << 22


class Listed(msgspec.Struct, frozen=True):
    """A checkpoint of the pointer: its folder, and the digest of its state.json."""

    name: str
    sha256: str


class Unfinished(msgspec.Struct, frozen=True):
    """Whose the checkpoints are: the content of their pointer.

    Attributes:
        config: the settings that shape the bytes.
        dataset_id: the dataset.
        checkpoints: newest first.
        run: the dataset's run.
        followed: ids of datasets that were read before it (--follow-latest).
        training: how it was trained so far, newest last; see `Checkpoints`.
        replaces: the version that was live when the training began, "" for none; None where it was not noted.
    """

    config: Settings
    dataset_id: str
    checkpoints: tuple[Listed, ...]
    run: str = ""
    followed: tuple[str, ...] = ()
    training: tuple[Settings, ...] = ()
    replaces: str | None = None


class Summary(msgspec.Struct):
    """Size and XXH3 of a file of arrays."""

    bytes: int
    xxh3: str


class StateFile(msgspec.Struct):
    """The content of a state.json; ``versions`` are those of the libraries that wrote it."""

    arrays: Summary
    progress: dict[str, object]
    versions: dict[str, str | None] = {}


def encode(content: Unfinished | StateFile) -> bytes:
    """Encode a file canonically."""
    return canonical_json({"format_version": FORMAT_VERSION, **msgspec.to_builtins(content)})


def find_unfinished(model_uri: str) -> Unfinished | None:
    """Read the checkpoints' pointer, None where there is none."""
    data = read_whole(model_uri, f"{FOLDER}/{POINTER}")
    if data is None:
        return None
    path = storage.redact(path_of(model_uri, POINTER))
    found = parse_struct(data, Unfinished, path)
    for one in found.checkpoints:
        require_inside(one.name, path)
    return found if found.checkpoints else None


def load_checkpoint(
    model_uri: str,
    unfinished: Unfinished,
    restore: Callable[[Progress, dict[str, Array]], None],
    warn: Callable[[str], None],
) -> Progress | None:
    """Go on from the newest checkpoint that is whole; None where there is none.

    Args:
        model_uri: the model's folder.
        unfinished: what `find_unfinished` returned.
        restore: puts position and arrays (mapped, read-only) back; what it refuses (FormatError) is no checkpoint of
            this run.
        warn: told about each checkpoint that is passed over, and why.
    """
    for one in unfinished.checkpoints:
        try:
            with _opened(model_uri, one) as (progress, arrays):
                restore(progress, arrays)
        except FormatError as error:
            warn(f"ignored a checkpoint: {error}")
        else:
            return progress
    return None


@contextlib.contextmanager
def _opened(model_uri: str, one: Listed) -> Iterator[tuple[Progress, dict[str, Array]]]:
    """Check a checkpoint, and give its position and its arrays, mapped from the file."""
    uri, arrays_uri = (path_of(model_uri, one.name, name) for name in (STATE, ARRAYS))
    path, arrays_path, data = storage.redact(uri), storage.redact(arrays_uri), _read_file(uri)
    require_sha256(sha256_hex(data), one.sha256, path)
    state = parse_struct(data, StateFile, path)
    with _local_file(arrays_uri) as file:
        found = _summary(file)
        if found != state.arrays:
            raise FormatError(f"{arrays_path}: found {found}, expected {state.arrays}")
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if found.bytes else b""
    yield parse_progress(state.progress, path), map_arrays(content, arrays_path)


def _summary(file: IO[bytes]) -> Summary:
    digest, size = xxhash.xxh3_128(), 0
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return Summary(size, digest.hexdigest())


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
