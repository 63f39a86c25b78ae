"""All files below a folder, local or in an object store: listing them, removing some."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from pipeline.dataset import storage

_REQUESTS_AT_ONCE = 16


class StoredFile(NamedTuple):
    """A file: its path below the folder that was listed, its size, and the time of its last write, in Unix seconds."""

    name: str
    bytes: int
    modified: float


def list_files(folder: str) -> list[StoredFile]:
    """List all files below a folder; none where it does not exist."""
    if storage.is_local(folder):
        return _list_local(storage.local_path(folder))
    prefix = len(storage.join(folder, ""))
    found = storage.list_objects(storage.join(folder, ""))
    if found is not None:
        return [StoredFile(one.uri[prefix:], one.bytes, one.modified) for one in found]
    from apache_beam.io.filesystems import FileSystems

    [result] = FileSystems.match([storage.join(folder, "**")])
    return [StoredFile(m.path[prefix:], m.size_in_bytes, m.last_updated_in_seconds) for m in result.metadata_list]


def _list_local(folder: str) -> list[StoredFile]:
    files = []
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # others work here as well
                path = os.path.join(parent, name)
                info = os.lstat(path)
                files.append(StoredFile(os.path.relpath(path, folder), info.st_size, info.st_mtime))
    return files


def remove_files(folder: str, names: Sequence[str]) -> None:
    """Remove files below a folder, the first one before the others, and the local folders that are empty then."""
    if not storage.is_local(folder):
        _remove_objects([storage.join(folder, name) for name in names])
        return
    path = storage.local_path(folder)
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(path, name))
    for parent, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(parent)  # only where nothing is in it


def _remove_objects(uris: Sequence[str]) -> None:
    if not uris:
        return
    with contextlib.suppress(NotImplementedError):
        storage.remove_file(uris[0])
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
            list(pool.map(storage.remove_file, uris[1:]))
        return
    from apache_beam.io.filesystems import FileSystems

    for some in (uris[:1], uris[1:]):
        if some:
            FileSystems.delete(list(some))


def remove_empty(folder: str, top: str) -> None:
    """Remove a folder and those around it, up to ``top``, as far as nothing is in them; stores have no folders."""
    if storage.is_local(folder):
        path, last = os.path.abspath(storage.local_path(folder)), os.path.abspath(storage.local_path(top))
        with contextlib.suppress(OSError):
            while os.path.commonpath([path, last]) == last:
                os.rmdir(path)
                path = os.path.dirname(path)
