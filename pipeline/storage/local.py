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


@contextlib.contextmanager
def locked(path: str, *, create: bool = True, wait: bool = False) -> Iterator[int]:
    """Open a file, and be the only one that has it locked; the kernel drops the lock with its process.

    Args:
        path: made, with its folder, where it is not there.
        create: otherwise it must be there.
        wait: for others to let go.

    Raises:
        BlockingIOError: another process has it locked.
        FileNotFoundError: it is not there.
    """
    flags = os.O_CLOEXEC | (os.O_RDWR | os.O_CREAT if create else os.O_RDONLY)
    while True:
        handle = (
            make_in(os.path.dirname(path) or ".", lambda: os.open(path, flags, 0o666))
            if create
            else os.open(path, flags)
        )
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if os.fstat(handle).st_nlink:  # its last holder may have removed the file since it was opened
                yield handle
                return
        finally:
            os.close(handle)


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
    with locked(path + ".lock", wait=True):
        require_expected(path, _read(path), expected, new)
        write_bytes(path, new)


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
