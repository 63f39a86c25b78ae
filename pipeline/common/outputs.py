"""Files that a command writes where its user says: written through what is there, never onto what the command reads.

A new file, or one in the place of an earlier file, is there once it is complete. The earlier file's permissions stay,
and its owner where the system allows it; other hard links to it keep the old content. A symbolic link stays, and
what it points to is replaced. Pipes, character devices and open descriptors (/dev/stdout, /dev/fd/N) are written to
from start to end. Folders, sockets and block devices are refused.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import mmap
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

from pipeline.common.exit import LostOutput, emit
from pipeline.storage import storage
from pipeline.storage.local import make_in, naming, new_file_mode
from pipeline.storage.objects import Bytes, is_match

_REFUSED = {stat.S_IFSOCK: "a socket", stat.S_IFBLK: "a block device"}
_STREAMS = {"stdin": 0, "stdout": 1, "stderr": 2}
_MOST_LINKS = 40  # Linux's own limit


class OutputError(OSError):
    """A place that a command must not write to; the message is one line."""


def write_output(uri: str, data: Bytes) -> None:
    """Write a whole file; see `open_output`."""
    if not storage.is_local(uri):
        storage.write_bytes(uri, data)
        return
    with open_output(uri) as stream:
        stream.write(data)


@contextlib.contextmanager
def open_output(uri: str) -> Iterator[IO[bytes]]:
    """Open a file to be written from start to end; it takes its place once the block ends well.

    Raises:
        OutputError: a socket or a block device is there.
        OSError: it cannot be written; the error names the file.
    """
    if not storage.is_local(uri):
        with _naming_writes(tempfile.gettempdir()), tempfile.TemporaryFile() as spool:
            yield spool
            spool.flush()
            _upload(spool, uri)
        return
    path = storage.local_path(uri)
    with _naming_writes(path), _opened(path) as stream:
        yield stream


def emit_result(text: str, done: str, target: str) -> None:
    """Print a result, on standard error where ``target``, what was written, went to standard output itself.

    ``done`` is the same in one line for people.
    """
    if target and storage.is_local(target) and _descriptor_of(storage.local_path(target)) == 1:
        print(text, file=sys.stderr)
    else:
        emit(text, done)


def _opened(path: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    """Open what a local path leads to in the way that suits it."""
    descriptor = _descriptor_of(path)
    if descriptor is not None:
        sys.stdout.flush()  # what was printed comes first
        return os.fdopen(os.dup(descriptor), "wb")
    status = _status_of(path)
    if status is None or stat.S_ISREG(status.st_mode):
        return _replacing(path, status)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_NOCTTY), "wb")


@contextlib.contextmanager
def _naming_writes(path: str) -> Iterator[None]:
    """Name the file in errors that name none, as those of writing do: others are about what was read meanwhile."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        kind = LostOutput if _descriptor_of(path) == 1 else OSError
        raise kind(error.errno, error.strerror, path) from None


def _descriptor_of(path: str) -> int | None:
    """Return the number of this process's open file that a path names, through links too; None where it names none."""
    own = re.compile(rf"/dev/fd/(\d+)|/proc/(?:self|thread-self|{os.getpid()})/fd/(\d+)|/dev/(stdin|stdout|stderr)")
    path = os.path.abspath(path)
    for _ in range(_MOST_LINKS):
        if found := own.fullmatch(path):
            number = found[1] or found[2]
            return int(number) if number else _STREAMS[found[3]]
        if not os.path.islink(path):
            return None
        path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
    return None


def _status_of(path: str) -> os.stat_result | None:
    """Look at what is there, None for nothing; what cannot be written to is refused."""
    with naming(path):
        try:
            status = os.stat(path)
        except FileNotFoundError:
            if path.endswith("/"):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path) from None
            return None
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if kind := _REFUSED.get(stat.S_IFMT(status.st_mode)):
        raise OutputError(f"{path}: found {kind}, expected a file, a pipe or a character device")
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    return status


@contextlib.contextmanager
def _replacing(path: str, status: os.stat_result | None) -> Iterator[IO[bytes]]:
    """Write next to the file that a path leads to, and put the new one in its place when it is complete."""
    target = os.path.realpath(path)
    folder, temporary = os.path.dirname(target), None
    try:
        with naming(path):
            handle, temporary = make_in(folder, lambda: tempfile.mkstemp(prefix=".", suffix=".tmp", dir=folder))
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(handle)
            if status is not None:
                with contextlib.suppress(PermissionError):  # only root gives files away
                    os.fchown(handle, status.st_uid, status.st_gid)
            os.fchmod(handle, new_file_mode() if status is None else status.st_mode & 0o777)
        with naming(path):
            os.replace(temporary, target)
    except BaseException:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        raise


def _upload(spool: IO[bytes], uri: str) -> None:
    if not os.fstat(spool.fileno()).st_size:  # which cannot be mapped
        storage.write_bytes(uri, b"")
        return
    with mmap.mmap(spool.fileno(), 0, access=mmap.ACCESS_READ) as data, memoryview(data) as view:
        storage.write_bytes(uri, view)


def refuse_inputs(flag: str, target: str, sources: Iterable[tuple[str, str]]) -> None:
    """Refuse to write onto what the same command reads, or where its next run would read it.

    ``sources`` are flags and what they name: paths, URIs or globs; "" names nothing.

    Raises:
        OutputError: the target is one of the sources by its name, through links, or by a hard link, or a glob
            matches it.
    """
    identity = _identity_of(target)
    for source_flag, source in sources:
        if source and (would_read(source, target) or (identity is not None and identity in _identities_of(source))):
            shown = storage.redact(target)
            raise OutputError(f"{flag} {shown}: {source_flag} {storage.redact(source)} reads it; choose another place")


def refuse_owned(flag: str, target: str, folder_flag: str, folder: str, names: Sequence[str]) -> None:
    """Refuse to write onto one of the files and folders, ``names``, that a dataset or a model has in its folder.

    Raises:
        OutputError: the target is one of them, or is in one.
    """
    if not folder:
        return
    owned = [storage.join(_real(folder), name) for name in names]
    identity = _identity_of(target, shared=True)
    inside = any((one + "/").startswith(own + "/") for own in owned for one in _places_of(target))
    if inside or (identity is not None and any(identity in _identities_below(own) for own in owned)):
        raise OutputError(
            f"{flag} {storage.redact(target)}: found one of the own files of {folder_flag} {storage.redact(folder)}, "
            "expected another place"
        )


def _real(uri: str) -> str:
    return os.path.realpath(storage.local_path(uri)) if storage.is_local(uri) else uri.rstrip("/")


def _places_of(uri: str) -> set[str]:
    """Return where a file is: its own name in its real folder, and what it is a link to."""
    if not storage.is_local(uri):
        return {uri}
    path = storage.local_path(uri)
    folder, name = os.path.split(path.rstrip("/"))
    return {os.path.realpath(path), os.path.join(os.path.realpath(folder or "."), name)}


def would_read(pattern: str, target: str) -> bool:
    """Tell whether a path, URI or glob matches a file that need not be there yet."""
    if not storage.is_local(pattern):
        return is_match(pattern, target)
    if not storage.is_local(target):
        return False
    path = storage.local_path(pattern)
    if os.path.exists(path) or not glob.has_magic(path):
        return bool(_places_of(path) & _places_of(target))
    head = path[: path.rfind("/", 0, min(at for sign in "*?[" if (at := path.find(sign)) >= 0)) + 1]
    resolved = os.path.join(os.path.realpath(head or "."), path[len(head) :])
    return any(is_match(resolved, place) for place in _places_of(target))


def _identity_of(uri: str, shared: bool = False) -> tuple[int, int] | None:
    """Return what a regular local file is whatever its name; ``shared`` asks only for those with several names."""
    if storage.is_local(uri):
        with contextlib.suppress(OSError):
            status = os.stat(storage.local_path(uri))
            if stat.S_ISREG(status.st_mode) and (status.st_nlink > 1 or not shared):
                return status.st_dev, status.st_ino
    return None


def _identities_of(pattern: str) -> Iterator[tuple[int, int]]:
    if storage.is_local(pattern):
        path = storage.local_path(pattern)
        yield from filter(None, map(_identity_of, [path] if os.path.exists(path) else glob.iglob(path, recursive=True)))


def _identities_below(uri: str) -> Iterator[tuple[int, int]]:
    if storage.is_local(uri):
        yield from _identities_of(glob.escape(storage.local_path(uri)))
        for folder, _, names in os.walk(storage.local_path(uri)):
            yield from filter(None, (_identity_of(os.path.join(folder, name)) for name in names))
