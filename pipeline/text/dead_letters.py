"""What is set aside of the text: all counted, and kept up to a limit, the same whichever worker finds it.

What workers found can be put together in any order and grouping, and is the same in the end: the letters that are
kept are the first ones in an order of their own (`_Kept`), as many as fit. So memory has a bound at each place, and
the bytes written do not depend on the runner.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from pipeline.dataset.schema import DEAD_LETTERS_SCHEMA
from pipeline.dataset.tables import encode_table
from pipeline.text.normalize import DeadLetter

#: A letter counts as its content and so many bytes more, about what it takes in memory: short ones have a bound too.
LETTER_BYTES = 128

#: Letters above this are kept only where all shorter ones are: one line of 64 MiB is not to take the room of others.
SHORT_BYTES = 64 << 10

#: Content of a file of dead letters; the next ones go into another.
PART_BYTES = 16 << 20

#: A letter and its place among all: class of its length (short ones, 0, come first), offset (what is near to its
#: file's start does), name of the file, reason, content. A plain tuple: a chunk may have half a million.
_Kept = tuple[int, int, str, str, bytes]


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
        self._end: _Kept | None = None  # the first letter that did not fit: it and those after it are not kept

    def __bool__(self) -> bool:
        return bool(self.tallies)

    @property
    def letters(self) -> int:
        """How many were set aside."""
        return sum(tally.letters for tally in self.tallies.values())

    def add(self, file: str, letter: DeadLetter) -> None:
        """Count a letter of the file of that name, and keep it if there is room."""
        self.add_all(file, [letter])

    def add_all(self, file: str, letters: Sequence[DeadLetter]) -> None:
        """Count letters of the file of that name, and keep those for which there is room."""
        for reason in {letter.reason for letter in letters}:
            found = [letter for letter in letters if letter.reason == reason]
            size = sum(len(letter.content) for letter in found)
            self._count(reason, Tally(len(found), size, (file, min(letter.offset for letter in found))))
        self._keep((_length_class(len(content)), offset, file, reason, content) for offset, reason, content in letters)

    def merge(self, other: SetAside) -> None:
        """Add what another one holds, which stays what it is."""
        for reason, tally in other.tallies.items():
            self._count(reason, tally)
        if other._end is not None:
            self._end = other._end if self._end is None else min(self._end, other._end)
        self._keep(other._kept)

    def kept(self) -> list[tuple[str, DeadLetter]]:
        """Return the letters that are kept with the names of their files, in order of file and offset."""
        self._trim()
        return sorted((file, DeadLetter(offset, reason, content)) for _, offset, file, reason, content in self._kept)

    def __getstate__(self) -> dict[str, object]:
        self._trim()  # no more is sent than is kept
        return self.__dict__

    def _count(self, reason: str, more: Tally) -> None:
        one = self.tallies.get(reason, more._replace(letters=0, bytes=0))
        self.tallies[reason] = Tally(one.letters + more.letters, one.bytes + more.bytes, min(one.first, more.first))

    def _keep(self, letters: Iterable[_Kept]) -> None:
        for kept in letters:
            if self._end is None or kept < self._end:
                self._kept.append(kept)
                self._size += len(kept[-1]) + LETTER_BYTES
                if self._size > 2 * self.limit:
                    self._trim()

    def _trim(self) -> None:
        """Keep the first ones that fit; all before the first that did not fit anywhere are here, so it is exact."""
        self._kept.sort()
        ends = list(itertools.accumulate(len(kept[-1]) + LETTER_BYTES for kept in self._kept))
        fit = bisect.bisect_right(ends, self.limit)
        for end in self._kept[fit : fit + 1]:
            self._end = end if self._end is None else min(self._end, end)
        if self._end is not None:  # equal letters (two such tokens of a line) are kept together, or neither is
            fit = bisect.bisect_left(self._kept, self._end)
        del self._kept[fit:]
        self._size = ends[fit - 1] if fit else 0


def _length_class(size: int) -> int:
    return (size // SHORT_BYTES).bit_length() if size > SHORT_BYTES else 0


def set_aside(limit: int, file: str, letters: Sequence[DeadLetter]) -> SetAside:
    """Return dead letters of one file as a SetAside."""
    aside = SetAside(limit)
    aside.add_all(file, letters)
    return aside


def encode_parts(letters: Iterable[tuple[str, DeadLetter]]) -> Iterator[tuple[str, pa.Buffer]]:
    """Yield names and bytes of files of dead letters, PART_BYTES in each, in the order given."""
    rows, size, number = list[tuple[str, int, str, bytes]](), 0, 0
    for file, letter in letters:
        charge = len(letter.content) + LETTER_BYTES
        if rows and size + charge > PART_BYTES:
            yield _encode_part(number, rows)
            rows, size, number = [], 0, number + 1
        rows.append((file, *letter))
        size += charge
    if rows:
        yield _encode_part(number, rows)


def _encode_part(number: int, rows: list[tuple[str, int, str, bytes]]) -> tuple[str, pa.Buffer]:
    table = pa.table(list(zip(*rows, strict=True)), schema=DEAD_LETTERS_SCHEMA)
    return f"dead-letters/part-{number:05d}.parquet", encode_table(table)
