"""Writing a version so that it is there when it is whole, and removing what is not needed.

On a local disk a version is written into versions/.NAME.tmp, which one rename turns into versions/VERSION. Publishers
share a lock: one that holds it alone knows that what is half-written belongs to a process that was killed. An object
store has neither rename nor lock. There model.json comes last, and what lacks it is removed if it is older than the
pointer: its publisher began before another one ended, so that it cannot publish any more.

versions/VERSION/unpublished marks a version that its publisher makes the live one next. If the publisher is killed
before that, the version goes too.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping

from pipeline.dataset.schema import FormatError
from pipeline.storage import storage
from pipeline.storage.retry import retrying
from pipeline.storage.storage import Bytes
from trainer.models.lock import share
from trainer.models.pointer import LATEST, VERSIONS, Pointer, read_pointer, version_folder
from trainer.models.tensors import TensorFile
from trainer.progress.meter import warn

TABLES, SUBWORDS = "model.safetensors", "subwords.safetensors"
VOCAB, INFO, RUN = "vocab.parquet", "model.json", "run.json"
LINEAGE, INPUTS, MARK = "lineage.json", "inputs.parquet", "unpublished"

_OURS = (INFO, TABLES, SUBWORDS, VOCAB, RUN, LINEAGE, INPUTS, MARK)
_NEW = re.compile(r"\.[0-9a-f]{16}\.tmp")
_HALF_WRITTEN = re.compile(r"\..+\.tmp")
_CHUNK_BYTES = 1 << 22


@contextlib.contextmanager
def publishing(model_uri: str) -> Iterator[str]:
    """Give the URI of the folder to write a version's files into.

    What killed publishers left is removed before. Where the block fails, nothing of it is left on a local disk.
    """
    if not storage.is_local(model_uri):
        _clean_store(model_uri)
    with share(model_uri, lambda: _clean_folder(model_uri)):
        folder = storage.join(model_uri, VERSIONS, f".{secrets.token_hex(8)}.tmp")
        try:
            yield folder
        except BaseException:
            if storage.is_local(model_uri):
                storage.remove_tree(folder)
                with contextlib.suppress(OSError):  # other versions are there, or it never was
                    os.rmdir(storage.local_path(storage.join(model_uri, VERSIONS)))
            raise
        if storage.is_local(model_uri):
            storage.remove_tree(folder)


def place(
    model_uri: str, version: str, folder: str, tables: Mapping[str, tuple[TensorFile, str]],
    contents: Mapping[str, Bytes],
) -> None:  # fmt: skip
    """Make a version of files; one of the same name has the same bytes, and of it only what is damaged is written.

    ``tables`` are files with their SHA-256; of ``contents`` model.json comes last.
    """
    target = version_folder(model_uri, version)
    local = storage.is_local(model_uri)
    fresh = local and not os.path.lexists(storage.local_path(target))
    into, known = folder if fresh else target, read_if_there(storage.join(target, INFO)) == contents[INFO]
    for name, (file, sha256) in tables.items():
        if not (known and _digest(storage.join(target, name)) == sha256):
            file.put(storage.join(into, name))
    for name, data in contents.items():
        uri = storage.join(into, name)
        if not known or (name != MARK and (found := read_if_there(uri)) != bytes(data) and not (found and name == RUN)):
            storage.write_bytes(uri, data)
    if known and MARK not in contents:
        storage.remove_file(storage.join(target, MARK))
    if fresh:
        try:
            os.rename(storage.local_path(folder), storage.local_path(target))
        except OSError:
            if read_if_there(storage.join(target, INFO)) != contents[INFO]:  # otherwise another publisher was faster
                raise


def end_publication(model_uri: str, after: Pointer) -> None:
    """Remove what is no longer kept and, from a store, what killed publishers left; a failure is a warning only."""
    try:
        storage.remove_file(storage.join(version_folder(model_uri, after.version), MARK))
        for version in after.dropped:
            remove_version(model_uri, version)
    except (OSError, NotImplementedError) as error:
        warn(f"{storage.redact(model_uri)}: old versions were not removed: {' '.join(str(error).split())}")
    if not storage.is_local(model_uri):
        _clean_store(model_uri)


def remove_version(model_uri: str, version: str) -> None:
    """Remove a version's files; model.json, without which there is none, goes first."""
    folder = version_folder(model_uri, version)
    for name in _OURS:
        storage.remove_file(storage.join(folder, name))
    if storage.is_local(folder):  # also what a killed process left half-written
        storage.remove_tree(folder)


def _clean_folder(model_uri: str) -> None:
    """Remove what killed publishers left; no one publishes meanwhile."""
    with contextlib.suppress(FormatError, OSError):  # what is wrong with the pointer is said where it is needed
        pointer = read_pointer(model_uri)
        root = storage.local_path(model_uri)
        for path in (os.path.join(root, name) for name in os.listdir(root) if name.startswith(f".{LATEST}.")):
            os.unlink(path)
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(os.path.join(root, VERSIONS)):
                if not entry.is_dir(follow_symlinks=False):
                    continue
                if _NEW.fullmatch(entry.name) or _is_left(os.listdir(entry.path), entry.name, pointer):
                    shutil.rmtree(entry.path, ignore_errors=True)


def _clean_store(model_uri: str) -> None:
    """Remove versions that were begun before the pointer was moved, and cannot be published any more."""
    try:
        pointer = read_pointer(model_uri)
        listed = storage.list_objects(storage.join(model_uri, LATEST)) if pointer else None
        moved = min((one.modified for one in listed or () if one.uri.endswith(f"/{LATEST}")), default=0.0)
        versions: dict[str, dict[str, float]] = {}
        for one in (storage.list_objects(storage.join(model_uri, VERSIONS, "")) if moved else None) or ():
            version, _, name = one.uri.rpartition(f"/{VERSIONS}/")[2].partition("/")
            versions.setdefault(version, {})[name] = one.modified
        for version, files in versions.items():
            if max(files.values()) < moved and _is_left([*files], version, pointer):
                for name in files:
                    storage.remove_file(storage.join(model_uri, VERSIONS, version, name))
    except (OSError, FormatError) as error:
        warn(f"{storage.redact(model_uri)}: unfinished versions were not removed: {' '.join(str(error).split())}")


def _is_left(names: list[str], version: str, pointer: Pointer | None) -> bool:
    """Tell whether files are of a version that was not written to the end, or never published as it was to be."""
    if not names or not all(name in _OURS or _HALF_WRITTEN.fullmatch(name) for name in names):
        return False
    if pointer is not None and version in pointer.kept:
        return False
    return INFO not in names or MARK in names


def read_if_there(uri: str) -> bytes | None:
    """Read a file; None where there is none."""
    try:
        return storage.read_bytes(uri)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _digest(uri: str) -> str:
    """SHA-256 of a file, "" where there is none."""

    def read() -> str:
        digest = hashlib.sha256()
        with storage.open_binary(uri) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()

    try:
        return read() if storage.is_local(uri) else retrying(storage.redact(uri), read)
    except (FileNotFoundError, NotADirectoryError):
        return ""
