"""A model's tables without reading them: the safetensors file is mapped, and pages come in as they are used.

Processes that map the same file share its pages. From an object store the file is copied once to
TMPDIR/pairstream-UID/SHA256.safetensors, where the next one finds it; whoever needs the room may delete it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import secrets
import shutil
import tempfile
from typing import Any

import numpy as np
import safetensors

from pipeline.dataset import storage
from pipeline.dataset.retry import retrying
from pipeline.dataset.schema import FormatError
from pipeline.dataset.vocab import parse_vocab
from trainer import store
from trainer.progress import warn
from trainer.store import TABLES, VOCAB, Floats, Model

_HEADER_LENGTH_BYTES = 8


def map_model(model_uri: str, version: str | None = None, verify: bool = True) -> Model:
    """Open a version, by default the current one; its tables are read-only arrays over the mapped file.

    Args:
        model_uri: the model's folder: a path or a URI.
        version: the name of one of its versions.
        verify: hold the file against its SHA-256, which reads all of it once, some seconds for 5 GB, and keeps nothing.

    Raises:
        FormatError: no model, unfinished training, another format version, a damaged or unexpected file.
    """
    version, expected = (version, None) if version is not None else _current(model_uri)
    info = store._read_info(model_uri, version, expected)
    folder = store._version_folder(model_uri, version, model_uri)
    vocab_uri, tables_uri = (storage.join(folder, name) for name in (VOCAB, TABLES))
    vocabulary = parse_vocab(store._read_checked(vocab_uri, info["files"][VOCAB]), storage.redact(vocab_uri))
    tables = map_tables(tables_uri, info["files"][TABLES], len(vocabulary), verify)
    return Model(tables["input"], tables["output"], vocabulary, info)


def map_tables(uri: str, entry: dict[str, Any], rows: int, verify: bool) -> dict[str, Floats]:
    """Map the tensors `input` and `output`, float32 [rows, D].

    Args:
        uri: the safetensors file.
        entry: its `bytes` and `sha256`.
        rows: the vocabulary's.
        verify: hold it against its SHA-256.

    Raises:
        FormatError: the file is missing, or not as expected.
    """
    name = storage.redact(uri)
    path = storage.local_path(uri) if storage.is_local(uri) else _local_copy(uri, entry)
    try:
        header = _read_header(path, entry["bytes"], name)
        if verify:
            _require_sha256(path, entry["sha256"], name)
        tables = {key: _map_table(path, key, value, rows, name) for key, value in header.items()}
    except FileNotFoundError:
        raise FormatError(f"{name}: found no file, expected one of a model's") from None
    except FormatError:
        if not storage.is_local(uri):
            _remove(path)  # the next attempt copies it anew
        raise
    if tables["input"].shape != tables["output"].shape:
        shapes = f"{tables['input'].shape} and {tables['output'].shape}"
        raise FormatError(f"{name}: found tables of {shapes}, expected one shape")
    return tables


def _current(model_uri: str) -> tuple[str, str | None]:
    found = store._read_latest(model_uri)
    if found is None:
        raise FormatError(store._explain_missing(model_uri))
    return found


def _read_header(path: str, size: int, name: str) -> dict[str, Any]:
    """Return the two tensors' entries, their offsets counted from the file's start."""
    found = os.stat(path).st_size
    if found != size:
        raise FormatError(f"{name}: found {found} bytes, expected {size}")
    try:
        # The library holds lengths, offsets and types against one another and the file; it tells no offsets.
        with safetensors.safe_open(path, "numpy") as file:
            keys = sorted(file.keys())
        with open(path, "rb") as stream:
            length = int.from_bytes(stream.read(_HEADER_LENGTH_BYTES), "little")
            header = json.loads(stream.read(length))
    except (safetensors.SafetensorError, ValueError, OSError, MemoryError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise FormatError(f"{name}: found no valid safetensors file ({reason}), expected one") from None
    if keys != ["input", "output"]:
        raise FormatError(f"{name}: found the tensors {keys}, expected ['input', 'output']")
    start = _HEADER_LENGTH_BYTES + length
    return {key: header[key] | {"offset": start + header[key]["data_offsets"][0]} for key in keys}


def _map_table(path: str, key: str, entry: dict[str, Any], rows: int, name: str) -> Floats:
    shape = tuple(entry["shape"])
    if entry["dtype"] != "F32" or len(shape) != 2 or shape[1] == 0:
        raise FormatError(f"{name}: found {key} {entry['dtype']} {shape}, expected F32 [{rows}, D]")
    if shape[0] != rows:
        raise FormatError(f"{name}: found {shape[0]} rows in {key}, expected the vocabulary's {rows}")
    if not rows:
        return np.empty(shape, np.float32)
    with open(path, "rb") as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    table_VD: Floats = np.frombuffer(mapped, "<f4", shape[0] * shape[1], entry["offset"]).reshape(shape)
    return table_VD


def _require_sha256(path: str, expected: str, name: str) -> None:
    sha = hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        while data := stream.read(1 << 22):
            sha.update(data)
    if sha.hexdigest() != expected:
        raise FormatError(f"{name}: found SHA-256 {sha.hexdigest()[:16]}…, expected {expected[:16]}…")


def _local_copy(uri: str, entry: dict[str, Any]) -> str:
    """Return the file's copy on this machine, which is called by its content; it is made if there is none."""
    path = os.path.join(_own_folder(), f"{entry['sha256']}.safetensors")
    with contextlib.suppress(FileNotFoundError):
        if os.stat(path).st_size == entry["bytes"]:
            return path
    warn(f"{storage.redact(uri)}: {entry['bytes'] / 1e6:,.1f} MB are copied to {path}, to be mapped from there")
    half = f"{path}.{secrets.token_hex(8)}.tmp"

    def fetch() -> None:
        with storage.open_binary(uri) as source, open(half, "wb") as target:
            shutil.copyfileobj(source, target, 1 << 22)

    try:
        retrying(storage.redact(uri), fetch)
        os.replace(half, path)
    finally:
        _remove(half)
    return path


def _own_folder() -> str:
    """Make and return a folder under TMPDIR that no other user can have put anything into."""
    folder = os.path.join(tempfile.gettempdir(), f"pairstream-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    found = os.lstat(folder)
    if found.st_uid != os.getuid() or found.st_mode & 0o40022 != 0o40000:
        raise FormatError(f"{folder}: found a folder that others may write to, expected one's own; remove it")
    return folder


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)
