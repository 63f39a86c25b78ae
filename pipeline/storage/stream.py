"""An object as a file: read in ranges, each asked for again where a connection breaks, all of one version."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.storage.objects import Piece

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: The first range after a seek, and the longest: doubled from one to the next while a file is read on.
FIRST_BYTES, LONGEST_BYTES = 1 << 20, 8 << 20


class RangedStream(io.RawIOBase):
    """A file whose bytes `fetch(offset, length, version)` returns."""

    def __init__(self, fetch: Callable[[int, int, str | None], Piece]) -> None:
        """Fetch the beginning: it tells the size, and whether there is a file at all."""
        self._fetch, self._place, self._start, self._step = fetch, 0, 0, FIRST_BYTES
        self._data, self._size, self._version, _ = fetch(0, FIRST_BYTES, None)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        """Yes; nothing is fetched before the next reading."""
        return True

    def tell(self) -> int:
        """Where the next reading begins."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        return self._place

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read some bytes, at least one unless the file ends here."""
        view = memoryview(buffer).cast("B")
        if self._place >= self._size or not len(view):
            return 0
        if not self._start <= self._place < self._start + len(self._data):
            self._load(len(view))
        skip = self._place - self._start
        piece = memoryview(self._data)[skip : skip + len(view)]
        view[: len(piece)] = piece
        self._place += len(piece)
        return len(piece)

    def _load(self, wanted: int) -> None:
        reads_on = self._place == self._start + len(self._data)
        self._step = min(2 * self._step, LONGEST_BYTES) if reads_on else FIRST_BYTES
        length = min(max(wanted, self._step), self._size - self._place)
        self._start, self._data = self._place, self._fetch(self._place, length, self._version).data


def open_ranged(fetch: Callable[[int, int, str | None], Piece]) -> io.BufferedReader:
    """Open what `fetch` returns ranges of; a reading of n bytes returns n, but at the end.

    Raises:
        FileNotFoundError: there is no such file.
    """
    return io.BufferedReader(RangedStream(fetch), 1 << 16)
