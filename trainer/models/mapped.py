"""A model's tables without reading them: the safetensors file is mapped, and pages come in as they are used.

Processes that map the same file share its pages. From an object store the file is copied once to
TMPDIR/pairstream-UID/SHA256.safetensors, where the next one finds it; it may be deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable

from pipeline.dataset.schema import FormatError, require_sha256
from pipeline.storage import storage
from pipeline.storage.retry import retrying
from trainer.models.store import FileEntry, Floats, Model, open_version
from trainer.models.tensors import Array, map_arrays, require_subwords, require_tables
from trainer.progress.meter import warn

_CHECKED_BYTES = 1 << 26  # of a file, in memory at once
_NORESERVE = 0x4000 if sys.platform == "linux" else 0  # Python 3.13 has a name for it


def map_model(model_uri: str, version: str | None = None, verify: bool = True) -> Model:
    """Open a version, by default the current one; its tables are read-only arrays over the mapped file.

    Args:
        model_uri: the model's folder: a path or a URI.
        version: the name of one of its versions.
        verify: check the file's SHA-256, which reads all of it once, some seconds for 5 GB, and keeps nothing.

    Raises:
        FormatError: no model, unfinished training, another format version, a damaged or unexpected file.
    """
    return open_version(model_uri, version, lambda uri, entry, rows: map_tables(uri, entry, rows, verify), verify)


def map_tables(uri: str, entry: FileEntry, rows: int, verify: bool) -> dict[str, Floats]:
    """Map the tensors `input` and `output`, float32 [rows, D]; ``verify`` checks the file's SHA-256."""
    return _map_arrays(uri, entry, verify, lambda tables, name: require_tables(tables, rows, name))


def map_subwords(uri: str, entry: FileEntry, shape: tuple[int, int], verify: bool) -> Floats:
    """Map the tensor `rows`, float32 of a shape; ``verify`` checks the file's SHA-256."""
    return _map_arrays(uri, entry, verify, lambda tables, name: require_subwords(tables, shape, name))["rows"]


def _map_arrays(
    uri: str, entry: FileEntry, verify: bool, require: Callable[[dict[str, Array], str], None]
) -> dict[str, Floats]:
    name = storage.redact(uri)
    path = storage.local_path(uri) if storage.is_local(uri) else _local_copy(uri, entry)
    try:
        mapped = _map_file(path, entry["bytes"], name)
        if verify:
            require_sha256(_digest(mapped), entry["sha256"], name)
        tables = map_arrays(mapped, name)
        require(tables, name)
        return tables  # type: ignore[return-value]
    except FormatError:
        if not storage.is_local(uri):
            _remove(path)  # the next attempt copies it again
        raise


def _map_file(path: str, size: int, name: str) -> mmap.mmap:
    try:
        with open(path, "rb") as stream:
            found = os.fstat(stream.fileno()).st_size
            if found != size or size == 0:
                raise FormatError(f"{name}: found {found} bytes, expected {size}")
            # Private pages: what writes past NumPy's flag, as PyTorch does, changes copies of this process alone,
            # where pages that cannot be written to would end it. Unreserved: a file may be larger than memory.
            flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", _NORESERVE)
            return mmap.mmap(stream.fileno(), size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    except FileNotFoundError:
        raise FormatError(f"{name}: found no file, expected one of a model's") from None


def _digest(mapped: mmap.mmap) -> str:
    """Return a mapped file's SHA-256; its pages are given back as it is read."""
    sha = hashlib.sha256()
    for start in range(0, len(mapped), _CHECKED_BYTES):
        with memoryview(mapped) as view:
            sha.update(view[start : start + _CHECKED_BYTES])
        mapped.madvise(mmap.MADV_DONTNEED, start, min(_CHECKED_BYTES, len(mapped) - start))
    return sha.hexdigest()


def _local_copy(uri: str, entry: FileEntry) -> str:
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
