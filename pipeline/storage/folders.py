"""All files below a folder, local or in an object store: listing them, removing some."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from pipeline.storage import storage


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
    """Remove files below a folder, the first one before the others."""
    uris = [storage.join(folder, name) for name in names]
    for some in filter(None, (uris[:1], uris[1:])):
        try:
            storage.remove_files(some)
        except NotImplementedError:
            from apache_beam.io.filesystems import FileSystems

            FileSystems.delete(some)


def remove_empty(folder: str, is_ours: Callable[[str], bool]) -> None:
    """Remove a local folder and those below it, named by their paths from it, that are ours and have nothing in them.

    Stores have no folders.
    """
    if storage.is_local(folder):
        top = storage.local_path(folder)
        for parent, _, _ in os.walk(top, topdown=False):
            if is_ours(os.path.relpath(parent, top)):
                with contextlib.suppress(OSError):  # there is something in it
                    os.rmdir(parent)


@contextlib.contextmanager
def leaving_none(folder: str) -> Iterator[None]:
    """Remove a local folder, and those around it that were not there before, if nothing is in them at the end."""
    made, path = list[str](), os.path.abspath(storage.local_path(folder))
    while storage.is_local(folder) and (not made or not os.path.lexists(path)):
        made.append(path)
        path = os.path.dirname(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for path in made:
                os.rmdir(path)
