"""What object stores have in common; `s3` and `gcs` do each its own way, and `store_of` finds the one for a URI."""

from __future__ import annotations

import errno
import fnmatch
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from pipeline.dataset.redact import has_user, quieten_libraries, redact
from pipeline.dataset.retry import StoreError

Bytes = bytes | bytearray | memoryview

CONNECT_SECONDS, READ_SECONDS = 10, 30  # a store that is silent for longer is asked anew


class PointerMovedError(Exception):
    """Somebody else swapped the pointer since it was read; nothing was written."""


class Piece(NamedTuple):
    """Some bytes of an object, the size of all of it, and the store's name of the version that they are of."""

    data: bytes
    size: int
    version: str


class StoredObject(NamedTuple):
    """An object in a listing: its URI, its size, and the time of its last write in Unix seconds."""

    uri: str
    bytes: int
    modified: float


class Store(Protocol):
    """An object store. Nothing here tries again: `retry` does, around each call."""

    def get(self, uri: str, offset: int, length: int, version: str | None = None) -> Piece:
        """Fetch a range, which may end behind the object's end; of the given version or not at all.

        Raises:
            FileNotFoundError: there is no such object.
            StoreError: it is of another version by now.
        """

    def put(self, uri: str, data: Bytes) -> None:
        """Write an object, which is there when it is complete."""

    def swap(self, uri: str, expected: bytes | None, new: bytes) -> None:
        """Write a small object if it still holds ``expected``, None for none; what holds ``new`` already is fine.

        Raises:
            PointerMovedError: it holds something else.
        """

    def delete(self, uri: str) -> None:
        """Remove an object; one that is not there is fine."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List the objects whose URIs begin with a prefix."""

    def unfinished(self, prefix: str) -> Iterator[tuple[StoredObject, str]]:
        """List what killed writers left: uploads that never became objects, each with the store's name of it."""

    def abort(self, uri: str, upload: str) -> None:
        """Remove an upload that never became an object; one that is not there is fine."""


def store_of(uri: str) -> Store | None:
    """Return the store of a URI, None where smart-open alone knows it.

    Raises:
        StoreError: there is a name or password in a store's URI, where process lists and logs would show it.
    """
    scheme = uri.partition("://")[0]
    if scheme not in ("s3", "gs", "gcs"):
        return None
    if has_user(uri):
        raise StoreError(
            f"{redact(uri)}: found a name or password in the URI, expected them where the store's own tools look: "
            "environment, profile, or the machine's role"
        )
    quieten_libraries()
    if scheme == "s3":
        from pipeline.dataset.s3 import S3

        return S3()
    from pipeline.dataset.gcs import Gcs

    return Gcs()


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of an object's URI."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    return bucket, key


def not_found(uri: str) -> FileNotFoundError:
    """Make the error that says that there is no such object."""
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), uri)


def require_expected(uri: str, found: bytes | None, expected: bytes | None, new: bytes) -> None:
    """Refuse to swap a pointer that is neither as its mover saw it nor as it shall be.

    Raises:
        PointerMovedError: it is so.
    """
    if found not in (expected, new):
        raise PointerMovedError(f"{uri}: was swapped by another publisher since this command started")


def is_match(pattern: str, key: str) -> bool:
    """Tell whether a store's key matches a pattern."""
    return key == pattern or _parts_match(pattern.split("/"), key.split("/"))


def _parts_match(patterns: Sequence[str], names: Sequence[str]) -> bool:
    if not patterns or not names:
        return not patterns and not names
    if patterns[0] == "**":
        hidden = names[0].startswith(".")
        return _parts_match(patterns[1:] or ["*"], names) or (not hidden and _parts_match(patterns, names[1:]))
    if names[0].startswith(".") and not patterns[0].startswith("."):
        return False
    return fnmatch.fnmatchcase(names[0], patterns[0]) and _parts_match(patterns[1:], names[1:])
