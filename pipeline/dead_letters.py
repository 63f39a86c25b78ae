"""What is set aside of the text: counted to the last letter, and kept up to a limit, whoever comes upon it.

What workers found can be put together in any order and grouping, and is the same in the end: the letters that are
kept are the first ones in an order of their own (`_Kept`), as many as fit. So memory has a bound at each place, and
the bytes written do not depend on the runner.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.schema import DEAD_LETTERS_SCHEMA
from pipeline.text import DeadLetter

#: A letter counts as its content and so many bytes more: very many short ones have a bound too.
LETTER_BYTES = 64

#: Letters above this are kept only where all shorter ones are: one line of 64 MiB is not to take the room of others.
SHORT_BYTES = 64 << 10

#: Content of a file of dead letters; the next ones go into another.
PART_BYTES = 16 << 20


class _Kept(NamedTuple):
    """A letter and its place among all: short ones before long ones, then by how near to its file's start it stands."""

    length_class: int
    offset: int
    file: str
    reason: str
    content: bytes

    @property
    def size(self) -> int:
        return len(self.content) + LETTER_BYTES


class Tally(NamedTuple):
    """Letters of one reason: how many, their bytes, file and offset of the first one (by name of file, then offset)."""

    letters: int
    bytes: int
    first: tuple[str, int]


class SetAside:
    """Dead letters: counts by reason, which are exact, and those that are kept.

    Attributes:
        limit: bytes to keep, LETTER_BYTES counted for each letter; up to twice as much is held on the way.
        tallies: by reason.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.tallies: dict[str, Tally] = {}
        self._kept, self._size = list[_Kept](), 0
        self._end: _Kept | None = None  # the first letter that did not fit: it and those behind it are not kept

    def __bool__(self) -> bool:
        return bool(self.tallies)

    @property
    def letters(self) -> int:
        """How many were set aside."""
        return sum(tally.letters for tally in self.tallies.values())

    def add(self, file: str, letter: DeadLetter) -> None:
        """Count a letter of the file of that name, and keep it if there is room."""
        size = len(letter.content)
        self._count(letter.reason, Tally(1, size, (file, letter.offset)))
        length_class = (size // SHORT_BYTES).bit_length() if size > SHORT_BYTES else 0
        self._keep(_Kept(length_class, letter.offset, file, letter.reason, letter.content))

    def merge(self, other: SetAside) -> None:
        """Add what another one holds, which stays what it is."""
        for reason, tally in other.tallies.items():
            self._count(reason, tally)
        if other._end is not None:
            self._end = other._end if self._end is None else min(self._end, other._end)
        for kept in other._kept:
            self._keep(kept)

    def kept(self) -> list[_Kept]:
        """Return the letters that are kept, in order of file and offset."""
        self._trim()
        return sorted(self._kept, key=lambda kept: (kept.file, kept.offset, kept.reason, kept.content))

    def __getstate__(self) -> dict[str, object]:
        self._trim()  # what travels is no more than is kept
        return self.__dict__

    def _count(self, reason: str, more: Tally) -> None:
        one = self.tallies.get(reason, more._replace(letters=0, bytes=0))
        self.tallies[reason] = Tally(one.letters + more.letters, one.bytes + more.bytes, min(one.first, more.first))

    def _keep(self, kept: _Kept) -> None:
        if self._end is None or kept < self._end:
            self._kept.append(kept)
            self._size += kept.size
            if self._size > 2 * self.limit:
                self._trim()

    def _trim(self) -> None:
        """Keep the first ones that fit; all before the first that did not fit anywhere are here, so it is exact."""
        self._kept.sort()
        size = 0
        for kept in self._kept:
            size += kept.size
            if size > self.limit:
                self._end = kept if self._end is None else min(self._end, kept)
                break
        if self._end is not None:  # equal letters (two such tokens of a line) are kept together, or neither is
            del self._kept[bisect.bisect_left(self._kept, self._end) :]
        self._size = sum(kept.size for kept in self._kept)


def set_aside(limit: int, file: str, letters: Iterable[DeadLetter]) -> SetAside:
    """Return dead letters of one file as a SetAside."""
    aside = SetAside(limit)
    for letter in letters:
        aside.add(file, letter)
    return aside


def encode_parts(kept: Iterable[_Kept]) -> Iterator[tuple[str, pa.Buffer]]:
    """Yield names and bytes of files of dead letters, PART_BYTES in each, in the order given."""
    rows, size, number = list[_Kept](), 0, 0
    for letter in kept:
        if rows and size + letter.size > PART_BYTES:
            yield _encode_part(number, rows)
            rows, size, number = [], 0, number + 1
        rows.append(letter)
        size += letter.size
    if rows:
        yield _encode_part(number, rows)


def _encode_part(number: int, rows: list[_Kept]) -> tuple[str, pa.Buffer]:
    columns = [[getattr(row, name) for row in rows] for name in DEAD_LETTERS_SCHEMA.names]
    sink = pa.BufferOutputStream()
    table = pa.table(columns, schema=DEAD_LETTERS_SCHEMA)
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return f"dead-letters/part-{number:05d}.parquet", sink.getvalue()
