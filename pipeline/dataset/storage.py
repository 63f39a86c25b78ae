"""Any URI as whole files and byte ranges, and the one write that needs care: the pointer's conditional swap.

Local paths go through the operating system, every other scheme through smart-open, with retries; what differs from
store to store has a small function of its own for each in `objects`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import urllib.parse
from collections.abc import Iterator
from typing import IO, Any

from pipeline.dataset import objects
from pipeline.dataset.objects import PointerMovedError, require_expected
from pipeline.dataset.retry import retrying

__all__ = ["PointerMovedError"]

SHORT_READS = 3  # how often a range that comes back too short is asked for

Bytes = bytes | bytearray | memoryview


def is_local(uri: str) -> bool:
    """Tell whether ``uri`` is a path of this machine (plain or ``file://``)."""
    return "://" not in uri or uri.startswith("file://")


def local_path(uri: str) -> str:
    """Return the plain path of a local ``uri``."""
    return urllib.parse.unquote(uri[len("file://") :]) if uri.startswith("file://") else uri


def absolute(uri: str) -> str:
    """Return what names the same file from any folder: a path from the root, or the URI as it is."""
    return uri if "://" in uri else os.path.abspath(uri)


def join(uri: str, *parts: str) -> str:
    """Append path parts to a folder's URI, with exactly one slash between them."""
    return "/".join([uri.rstrip("/"), *parts])


def redact(uri: str) -> str:
    """Return ``uri`` without a user's name or password, for messages and logs."""
    scheme, separator, rest = uri.partition("://")
    authority, slash, path = rest.partition("/")
    if not separator or "@" not in authority:
        return uri
    return f"{scheme}://***@{authority.rpartition('@')[2]}{slash}{path}"


def open_binary(uri: str) -> IO[bytes]:
    """Open ``uri`` for reading its raw bytes: no decompression, whatever its name ends in.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if is_local(uri):
        return open(local_path(uri), "rb")
    from smart_open import open as smart_open

    with _missing_as_file_not_found(uri):
        params = objects.transport_params(uri)
        stream: IO[bytes] = smart_open(uri, "rb", compression="disable", transport_params=params)
        return stream


def read_bytes(uri: str) -> bytes:
    """Return the whole file.

    Raises:
        FileNotFoundError: there is no such file.
    """

    def read() -> bytes:
        with _missing_as_file_not_found(uri), open_binary(uri) as stream:
            return stream.read()

    return read() if is_local(uri) else retrying(redact(uri), read)


def read_range(uri: str, offset: int, length: int) -> bytes:
    """Return ``length`` bytes from ``offset``; fewer where the file ends before.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if is_local(uri):
        return _read_local_range(local_path(uri), offset, length)
    data = b""
    for _ in range(SHORT_READS):  # a connection may also end early without an error
        data = retrying(redact(uri), lambda: _read_range(uri, offset, length))
        if len(data) == length:
            break
    return data


def _read_local_range(path: str, offset: int, length: int) -> bytes:
    with open(path, "rb", buffering=0) as file:  # a buffer would copy all of it once more
        file.seek(offset)
        data = file.read(length)
        while len(data) < length and (more := file.read(length - len(data))):
            data += more
    return data


def _read_range(uri: str, offset: int, length: int) -> bytes:
    with _missing_as_file_not_found(uri), open_binary(uri) as stream:
        stream.seek(offset)
        return stream.read(length)


def exists(uri: str) -> bool:
    """Tell whether the file is there (one byte is read from an object store)."""
    if is_local(uri):
        return os.path.exists(local_path(uri))
    try:
        retrying(redact(uri), lambda: _read_range(uri, 0, 1))
    except FileNotFoundError:
        return False
    return True


def write_bytes(uri: str, data: Bytes) -> None:
    """Write a whole file so that a reader sees all of it or none; an earlier one is replaced.

    Locally: a temporary in the same folder, fsync, rename. Object stores publish a put when it is complete.
    """
    if is_local(uri):
        _write_local(local_path(uri), data)
        return
    from smart_open import open as smart_open

    def put() -> None:
        params = objects.transport_params(uri)
        with smart_open(uri, "wb", compression="disable", transport_params=params) as stream:
            stream.write(data)

    retrying(redact(uri), put)


def remove_file(uri: str) -> None:
    """Delete a file; one that is not there is fine.

    Raises:
        NotImplementedError: for this scheme there is no way to.
    """
    if is_local(uri):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(local_path(uri))
        return
    delete = {"s3": objects.delete_s3, "gs": objects.delete_gcs, "gcs": objects.delete_gcs}.get(_scheme(uri))
    if delete is None:
        raise NotImplementedError(f"{redact(uri)}: no way to remove a file is known for scheme {_scheme(uri)!r}")
    retrying(redact(uri), lambda: delete(uri))


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
        _swap_local(uri, expected, new)
        return
    swap = {"s3": objects.swap_s3, "gs": objects.swap_gcs, "gcs": objects.swap_gcs}.get(_scheme(uri))
    if swap is None:
        raise NotImplementedError(f"{redact(uri)}: no conditional write is known for scheme {_scheme(uri)!r}")
    retrying(redact(uri), lambda: swap(uri, expected, new))


def _scheme(uri: str) -> str:
    return uri.partition("://")[0]


def _write_local(path: str, data: Bytes) -> None:
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, exist_ok=True)
    with naming(path):
        handle, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=folder)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            # mkstemp makes files private; a dataset has the permissions that the user's umask gives any file.
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Let the system's errors name the file that was to be written: a full disk's names none."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), path) from None


def _umask() -> int:
    # There is no way to read the mask but to set it; Linux shows it without that race between threads.
    with contextlib.suppress(OSError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022


def _swap_local(uri: str, expected: bytes | None, new: bytes) -> None:
    path = local_path(uri)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    # os.replace alone would let the last writer win; the lock makes compare and swap one step. The kernel
    # drops it with its process, so a killed publisher leaves nothing behind that blocks the next one.
    with open(path + ".lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        require_expected(redact(uri), read_pointer(path), expected, new)
        _write_local(path, new)


@contextlib.contextmanager
def _missing_as_file_not_found(uri: str) -> Iterator[None]:
    """Give "not there" one type: smart-open's stores each raise their own."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        if _says_not_found(error):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), redact(uri)) from None
        raise


def _says_not_found(error: BaseException) -> bool:
    cause: Any = getattr(error, "backend_error", error)
    response = getattr(cause, "response", None)
    if isinstance(response, dict):  # botocore
        return response.get("Error", {}).get("Code") in ("NoSuchKey", "404")
    return 404 in (getattr(response, "status_code", None), getattr(cause, "code", None))  # requests; google.api_core
