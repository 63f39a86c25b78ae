"""Files of this machine: written so that a reader sees all of one or none, and the pointer's swap under a lock."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import TypeVar

from pipeline.storage.objects import Bytes, require_expected

_CHANCES = 100

T = TypeVar("T")


def make_in(folder: str, make: Callable[[], T]) -> T:
    """Make a folder, then a file in it; both again where another process removed the folder in between."""
    for chance in range(_CHANCES):
        try:
            os.makedirs(folder, exist_ok=True)
            return make()
        except FileNotFoundError:
            if chance + 1 == _CHANCES:
                raise
    raise AssertionError


def read_range(path: str, offset: int, length: int) -> bytes:
    """Return ``length`` bytes from ``offset``; fewer where the file ends before."""
    with open(path, "rb", buffering=0) as file:  # a buffer would copy all of it once more
        file.seek(offset)
        data = file.read(length)
        while len(data) < length and (more := file.read(length - len(data))):
            data += more
    return data


def write_bytes(path: str, data: Bytes) -> None:
    """Write a file that is there when it is complete: a temporary in the same folder, fsync, rename."""
    folder = os.path.dirname(path) or "."
    with naming(path):
        name = os.fsdecode(os.fsencode(os.path.basename(path))[:100])  # tells what file a killed writer's was to be
        handle, temporary = make_in(folder, lambda: tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=folder))
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            # mkstemp makes files private; a dataset has the permissions that the user's umask gives any file.
            os.chmod(temporary, new_file_mode())
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


def new_file_mode() -> int:
    """Return the permissions that the user's umask gives any new file."""
    return 0o666 & ~_umask()


def _umask() -> int:
    # There is no way to read the mask but to set it; Linux shows it without that race between threads.
    with contextlib.suppress(OSError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022


def swap(path: str, expected: bytes | None, new: bytes) -> None:
    """Replace a small file's content if it still is ``expected``, None for no file.

    Raises:
        PointerMovedError: it holds something else.
    """
    # os.replace alone would let the last writer win; the lock makes compare and swap one step. The kernel
    # drops it with its process, so a killed publisher leaves nothing that blocks the next one.
    with make_in(os.path.dirname(path) or ".", lambda: open(path + ".lock", "ab")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        require_expected(path, _read(path), expected, new)
        write_bytes(path, new)


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
