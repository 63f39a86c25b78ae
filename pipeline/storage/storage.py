"""Any URI as whole files and byte ranges, and the one write that needs care: the pointer's conditional swap.

Local paths go through the operating system, S3's, Google's and Azure's objects through obstore (`objects`), every
other scheme through smart-open; all but the local ones with retries.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shutil
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import IO

from pipeline.storage import connect, local, objects
from pipeline.storage.local import naming
from pipeline.storage.objects import Bytes, PointerMovedError, StoredObject, is_object
from pipeline.storage.redact import has_user, quieten_libraries, redact
from pipeline.storage.retry import StoreError, retrying
from pipeline.storage.stream import open_ranged

__all__ = ["Bytes", "PointerMovedError", "has_user", "naming", "redact"]

SHORT_READS = 3  # how often a range that comes back too short is asked for


def is_local(uri: str) -> bool:
    """Tell whether ``uri`` is a path of this machine (plain or ``file://``)."""
    return "://" not in uri or uri.startswith("file://")


def local_path(uri: str) -> str:
    """Return the plain path of a local ``uri``."""
    return urllib.parse.unquote(uri[len("file://") :]) if uri.startswith("file://") else uri


class RealPaths:
    """Where files are when all links are followed; each folder is looked up once."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def of(self, uri: str) -> str:
        """Return a file's; a store's objects are where their URIs say."""
        if not is_local(uri):
            return uri
        path = local_path(uri)
        if os.path.islink(path):
            return os.path.realpath(path)
        folder, name = os.path.split(path)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return os.path.join(self._folders[folder], name)


def absolute(uri: str) -> str:
    """Return what names the same file from any folder: a path from the root, or the URI as it is."""
    return uri if "://" in uri else os.path.abspath(uri)


def join(uri: str, *parts: str) -> str:
    """Append names to a folder's URI, with exactly one slash between them.

    Where a URI's signs are read as codes, a name's are written as such: "%2e%2e" is a name like any, not the way out.
    """
    if uri.startswith(("file://", "http://", "https://")):
        parts = tuple(urllib.parse.quote(part) for part in parts)
    return "/".join([uri.rstrip("/"), *parts])


def open_binary(uri: str) -> IO[bytes]:
    """Open ``uri`` for reading its raw bytes: no decompression, whatever its name ends in.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if is_local(uri):
        return open(local_path(uri), "rb")
    if is_object(uri):
        return open_ranged(functools.partial(objects.get, uri))
    return _smart_open(uri, "rb", {"timeout": connect.READ_SECONDS} if uri.startswith("http") else {})


def _smart_open(uri: str, mode: str, params: dict[str, float]) -> IO[bytes]:
    from smart_open import open as smart_open

    quieten_libraries()
    try:
        stream: IO[bytes] = smart_open(uri, mode, compression="disable", transport_params=params)
    except NotImplementedError as error:
        raise StoreError(f"{redact(uri)}: found a scheme that nothing is installed for ({error})") from None
    except Exception as error:
        response = getattr(getattr(error, "backend_error", error), "response", None)
        if getattr(response, "status_code", None) == 404:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), redact(uri)) from None
        raise
    return stream


def read_bytes(uri: str) -> bytes:
    """Return the whole file.

    Raises:
        FileNotFoundError: there is no such file.
    """

    def read() -> bytes:
        with open_binary(uri) as stream:
            return stream.read()

    return read() if is_local(uri) or is_object(uri) else retrying(redact(uri), read)


def read_range(uri: str, offset: int, length: int) -> bytes:
    """Return ``length`` bytes from ``offset``; fewer where the file ends before.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if is_local(uri):
        return local.read_range(local_path(uri), offset, length)
    if is_object(uri):
        return objects.get(uri, offset, length).data

    def read() -> bytes:
        with open_binary(uri) as stream:
            stream.seek(offset)
            return stream.read(length)

    data = b""
    for _ in range(SHORT_READS):  # a connection may also end early without an error
        data = retrying(redact(uri), read)
        if len(data) == length:
            break
    return data


def exists(uri: str) -> bool:
    """Tell whether the file is there (one byte is read from an object store)."""
    if is_local(uri):
        return os.path.exists(local_path(uri))
    try:
        read_range(uri, 0, 1)
    except FileNotFoundError:
        return False
    return True


def write_bytes(uri: str, data: Bytes) -> None:
    """Write a whole file so that a reader sees all of it or none; an earlier one is replaced.

    Locally: a temporary in the same folder, fsync, rename. Object stores publish a put when it is complete.
    """
    if is_local(uri):
        local.write_bytes(local_path(uri), data)
    elif is_object(uri):
        objects.put(uri, data)
    else:

        def put() -> None:
            with _smart_open(uri, "wb", {}) as stream:
                stream.write(data)

        retrying(redact(uri), put)


def remove_file(uri: str) -> None:
    """Delete a file; one that is not there is fine.

    Raises:
        NotImplementedError: for this scheme there is no way to.
    """
    remove_files([uri])


def remove_files(uris: Sequence[str]) -> None:
    """Delete files of one place, many by one request where a store can; those that are not there are fine.

    Raises:
        NotImplementedError: for this scheme there is no way to.
    """
    if not uris:
        return
    if is_local(uris[0]):
        for uri in uris:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(local_path(uri))
        return
    if not is_object(uris[0]):
        raise NotImplementedError(f"{redact(uris[0])}: no way to remove a file is known for its scheme")
    objects.delete(uris)


def list_objects(prefix: str) -> Iterator[StoredObject] | None:
    """List the objects of a store whose URIs begin with ``prefix``; None where Beam's file systems must be asked."""
    return objects.list_prefix(prefix) if is_object(prefix) else None


def remove_tree(uri: str) -> None:
    """Delete a local folder and all in it; a folder that is not there is fine."""
    if not is_local(uri):
        raise NotImplementedError(f"{redact(uri)}: only local folders are removed by this function")
    shutil.rmtree(local_path(uri), ignore_errors=True)


def read_pointer(uri: str) -> bytes | None:
    """Return the pointer file's content, or None where there is none yet."""
    try:
        return read_bytes(uri)
    except FileNotFoundError:
        return None


def swap_pointer(uri: str, expected: bytes | None, new: bytes) -> None:
    """Replace the pointer's content by ``new`` if it still is ``expected`` (None: it must not exist yet).

    Repeating a swap that went through is harmless: a pointer that already holds ``new`` is left as it is.

    Raises:
        PointerMovedError: the pointer holds something else by now.
    """
    if is_local(uri):
        local.swap(local_path(uri), expected, new)
        return
    if not is_object(uri):
        raise NotImplementedError(
            f"{redact(uri)}: no conditional write is known for scheme {uri.partition('://')[0]!r}"
        )
    objects.swap(uri, expected, new)
