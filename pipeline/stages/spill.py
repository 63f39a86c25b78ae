"""How ids get from the chunks to the shards: inside the shuffle, or through files of which only the place is shuffled.

An in-memory runner keeps every element that it shuffles. On one machine the ids therefore go through files, and
memory stays bounded; on a cluster the shuffle is made for them.
"""

from __future__ import annotations

import io
import os
import struct
import threading
import uuid
import weakref
from typing import IO, TYPE_CHECKING

import pyarrow as pa

from pipeline.storage import storage
from pipeline.storage.local import make_in

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PLACE = struct.Struct("<qq")


class Spill:
    """Turns payloads into handles, which are shuffled, and back, for many threads; here the payload itself."""

    def put(self, payload: bytes) -> bytes:
        """Return a handle: what is shuffled in place of the payload."""
        return payload

    def get(self, handle: bytes) -> bytes:
        """Return the payload."""
        return handle

    def open(self, handle: bytes) -> pa.NativeFile:
        """Return a stream that starts with the payload, to be read piece by piece."""
        return pa.BufferReader(handle)

    def close(self) -> None:
        """Let go of what was written; payloads can still be read, and more be put."""


class FileSpill(Spill):
    """Payloads are appended to a file of this process; their path, offset and length are shuffled."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._read: weakref.WeakValueDictionary[bytes, _Opened] = weakref.WeakValueDictionary()

    def put(self, payload: bytes) -> bytes:
        with self._lock:
            if self._file is None:
                path = os.path.join(self._folder, f"ids-{uuid.uuid4().hex}.bin")
                # Unbuffered, so that a payload is readable at once by others; open as long as this lives.
                self._file = make_in(self._folder, lambda: open(path, "xb", buffering=0))  # noqa: SIM115
            offset = self._file.tell()
            rest = memoryview(payload)
            with storage.naming(self._file.name):
                while rest:
                    rest = rest[self._file.write(rest) or 0 :]
            return _PLACE.pack(offset, len(payload)) + os.fsencode(self._file.name)

    def get(self, handle: bytes) -> bytes:
        offset, length = _PLACE.unpack_from(handle)
        with open(handle[_PLACE.size :], "rb") as file:
            file.seek(offset)
            payload = file.read(length)
        assert len(payload) == length, "a spilled payload is read only after it was written"
        return payload

    def open(self, handle: bytes) -> pa.NativeFile:
        path = handle[_PLACE.size :]
        with self._lock:
            file = self._read.get(path)  # all streams of a file share its descriptor: a merge has thousands
            if file is None:
                file = self._read[path] = _Opened(path)
        return pa.PythonFile(_From(file, _PLACE.unpack_from(handle)[0]), mode="r")

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def __del__(self) -> None:
        """A bundle that failed never came to closing it."""
        self.close()

    def __reduce__(self) -> tuple[type[FileSpill], tuple[str]]:
        """Pickle as the folder alone: each process has a file of its own."""
        return FileSpill, (self._folder,)


class _Opened:
    """A file that is closed when the last of its readers lets go of it."""

    def __init__(self, path: bytes) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class _From(io.RawIOBase):
    """A shared file, read from a place of its own on."""

    def __init__(self, file: _Opened, place: int) -> None:
        self._shared, self._place = file, place

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        size = os.preadv(self._shared.descriptor, [buffer], self._place)
        self._place += size
        return size


def make_spill(folder: str | None) -> Spill:
    """Return a spill through files below ``folder``, or an inline one for None."""
    return Spill() if folder is None else FileSpill(folder)
