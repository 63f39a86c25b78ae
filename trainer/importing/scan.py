"""A file's bytes from start to end, plain or in gzip, with the SHA-256 of the file as it is."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from typing import IO, Any, cast

from pipeline.dataset.schema import FormatError
from pipeline.storage import storage

_READ_BYTES = 1 << 22
_GZIP = b"\x1f\x8b"


class Scan:
    """The bytes that come next.

    Attributes:
        path: names the file in errors.
    """

    def __init__(self, stream: IO[bytes], path: str) -> None:
        self.path = path
        self._stream, self._held, self._at = stream, b"", 0

    def peek(self, size: int) -> bytes:
        """Return the next bytes, and leave them there; fewer at the end."""
        while len(self._held) - self._at < size and self._read():
            pass
        return self._held[self._at : self._at + size]

    def take(self, size: int, what: str) -> bytes:
        """Return the next bytes.

        Raises:
            FormatError: the file ends before.
        """
        found = self.peek(size)
        if len(found) < size:
            raise FormatError(f"{self.path}: found the end of the file in {what}: it is cut off")
        self._at += size
        return found

    def until(self, end: bytes, most: int, what: str, or_all: bool = False) -> bytes:
        """Return what comes before a byte, which is passed over; with ``or_all`` the file's end will do, too.

        Raises:
            FormatError: it does not come in so many bytes, or there is nothing left.
        """
        while (place := self._held.find(end, self._at)) < 0:
            if len(self._held) - self._at > most:
                raise FormatError(f"{self.path}: found more than {most} bytes of {what} without an end")
            if not self._read():
                if or_all and (rest := self._held[self._at :]):
                    self._at = len(self._held)
                    return rest
                raise FormatError(f"{self.path}: found the end of the file in {what}: it is cut off")
        found = self._held[self._at : place]
        self._at = place + 1
        return found

    def _read(self) -> bool:
        try:
            more = self._stream.read(_READ_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise FormatError(f"{self.path}: damaged gzip ({error})") from None
        self._held, self._at = self._held[self._at :] + more, 0
        return bool(more)


class _Counted(io.RawIOBase):
    """A stream whose bytes are counted and digested as they are read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.sha256, self.size = hashlib.sha256(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # any writable memory
        found = self._stream.read(len(buffer))
        buffer[: len(found)] = found
        self.sha256.update(found)
        self.size += len(found)
        return len(found)


@contextlib.contextmanager
def scanned(uri: str) -> Iterator[tuple[Scan, _Counted]]:
    """Open a file; once all is read, the second value has its `size` and `sha256`."""
    with storage.open_binary(uri) as opened:
        counted = _Counted(opened)
        stream = io.BufferedReader(counted, _READ_BYTES)
        content = gzip.GzipFile(fileobj=stream) if stream.peek(2)[:2] == _GZIP else stream
        yield Scan(cast(IO[bytes], content), storage.redact(uri)), counted
