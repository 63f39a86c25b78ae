"""Words made of parts, for the time of a segment: composed before it, their changes spread over the parts after it.

A word's input row is the mean of its parts' rows: its own, and those of its n-grams (Bojanowski et al. 2017). Words
near each other repeat, so each word of a segment is composed once, into a small table of rows that stays in a core's
caches; the step trains these as if they were the words' own. In the end each part moves by as much as its word did,
as fastText's do: the word's mean then has moved by just that.

Shapes: B pairs, R rows of the input table, V words, D dimensions, W words of a segment.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from trainer.engines.kernels.numba.instructions.rows import add_to_rows, sum_rows
from trainer.engines.kernels.numba.jit import Floats, Ids, Longs, Where, jit, source_digest
from trainer.engines.kernels.numba.shape import Shape
from trainer.engines.kernels.numba.walk import fetch_row
from trainer.engines.lines import aligned
from trainer.subwords.ngrams import Parts

STEPS_A_WORD = 16


class Room(NamedTuple):
    """What a thread composes words in.

    Attributes:
        slots: of each word, its row in the table; -1 between segments.
        words: the words of a segment, by their rows.
        table: float32 [W, D] with gaps like the input table's: composed rows, which the step trains.
        before: float32 [W, D]: what they were, times -1.
        change: float32 [D]: what a word has changed by.
        sources: addresses of rows.
    """

    slots: Ids
    words: Ids
    table: Floats
    before: Floats
    change: Floats
    sources: Longs


@jit(allocates=True, cache=True)
def cut_by_words(output_ids_B: Ids, input_ids_B: Ids, vocabulary: int, segment_pairs: int, longest: int) -> Longs:
    """First pairs of the segments, and B at the end; a segment ends with a window, or after `longest` pairs of a run.

    Until a segment ends, words take no notice of what others change their parts by. Where few words take many steps
    that adds up, and diverges: so a segment has at most STEPS_A_WORD pairs for each of its words.
    """
    seen, cuts = np.full(vocabulary, -1, np.int32), np.empty(output_ids_B.size + 1, np.int64)
    start, words, segment, run, size = 0, 0, 0, 0, output_ids_B.size
    for b in range(size):
        run = run + 1 if b > 0 and output_ids_B[b] == output_ids_B[b - 1] else 0
        if b > start and run % longest == 0 and (b - start >= segment_pairs or b - start >= STEPS_A_WORD * words):
            cuts[segment] = start
            start, words, segment = b, 0, segment + 1
        if seen[input_ids_B[b]] != segment:
            seen[input_ids_B[b]] = segment
            words += 1
    cuts[segment], cuts[segment + 1] = start, size
    return cuts[: segment + 2].copy()


@jit()
def place_parts(parts: Parts, word: int, sources: Longs, base: int, row_bytes: int) -> int:
    """Addresses of a word's parts; returns how many there are."""
    first = parts.offsets[word]
    count = parts.offsets[word + 1] - first
    for number in range(count):
        sources[number] = base + np.int64(parts.rows[first + number]) * row_bytes
    return count  # type: ignore[no-any-return]


@jit()
def fetch_parts(parts: Parts, word: int, base: int, row_bytes: int) -> None:
    for place in range(parts.offsets[word], parts.offsets[word + 1]):
        fetch_row(base, np.int64(parts.rows[place]), row_bytes)


def _compiled(sources: int) -> tuple[Callable[..., int], Callable[..., int]]:
    @jit(cache=True)
    def compose(
        shape: Shape, input_ids_B: Ids, local_ids_B: Ids, start: int, stop: int, where: Where, parts: Parts, room: Room
    ) -> int:
        """Compose the words of pairs start … stop - 1, and write which row each pair has; returns their number."""
        base, _, row_bytes, dim = where
        count = 0 * sources  # named here so that the cache's key holds it: see jit.source_digest
        for b in range(start, stop):
            word = input_ids_B[b]
            if room.slots[word] < 0:
                room.slots[word] = count
                room.words[count] = word
                count += 1
            local_ids_B[b] = room.slots[word]
        for number in range(count):
            if number + 1 < count:
                fetch_parts(parts, room.words[number + 1], base, row_bytes)
            size = place_parts(parts, room.words[number], room.sources, base, row_bytes)
            share, at = np.float32(1 / size), number * row_bytes
            sum_rows(shape, room.sources.ctypes.data, size, share, room.table.ctypes.data + at, dim)
            room.sources[0] = room.table.ctypes.data + at
            sum_rows(shape, room.sources.ctypes.data, 1, np.float32(-1), room.before.ctypes.data + at, dim)
        return count

    @jit(cache=True)
    def spread(shape: Shape, count: int, where: Where, parts: Parts, room: Room) -> int:
        """Add what each word has changed by to all of its parts."""
        base, _, row_bytes, dim = where
        one = np.float32(1 + 0 * sources)
        for number in range(count):
            if number + 1 < count:
                fetch_parts(parts, room.words[number + 1], base, row_bytes)
            room.sources[0] = room.table.ctypes.data + number * row_bytes
            room.sources[1] = room.before.ctypes.data + number * row_bytes
            sum_rows(shape, room.sources.ctypes.data, 2, one, room.change.ctypes.data, dim)
            size = place_parts(parts, room.words[number], room.sources, base, row_bytes)
            add_to_rows(shape, room.sources.ctypes.data, size, one, room.change.ctypes.data, dim)
            room.slots[room.words[number]] = -1
        return count

    return compose, spread


compose, spread = _compiled(source_digest())


class Composer:
    """The parts of all words, and room for each thread to compose some of them in."""

    def __init__(self, parts: Parts, row_numbers: int, words: int) -> None:
        """Take parts over.

        Args:
            parts: of the V words.
            row_numbers: floats from one row of the input table to the next.
            words: that a segment has at most; memory is taken as it is used.
        """
        self.parts = parts
        self._row_numbers, self._words = row_numbers, min(words, len(parts.offsets) - 1)
        self._rooms = threading.local()

    def cut(self, output_ids_B: Ids, input_ids_B: Ids, segment_pairs: int, longest: int) -> Longs:
        """See cut_by_words."""
        return cut_by_words(output_ids_B, input_ids_B, len(self.parts.offsets) - 1, segment_pairs, longest)

    def composed(
        self, shape: Shape, input_ids_B: Ids, local_ids_B: Ids, cuts: Longs, share: tuple[int, int], where: Where
    ) -> Iterator[tuple[int, Floats]]:
        """Yield some segments with the table of their words, and spread what has changed in it before the next one.

        The rows of a segment's pairs are written into its part of local_ids_B.
        """
        room, dim = self._room(), where[3]
        for segment in range(*share):
            ends = cuts[segment], cuts[segment + 1]
            words = compose(shape, input_ids_B, local_ids_B, *ends, where, self.parts, room)
            yield segment, room.table[:, :dim]
            spread(shape, words, where, self.parts, room)

    def _room(self) -> Room:
        """Room of this thread, made once."""
        if not hasattr(self._rooms, "room"):
            longest = int(np.diff(self.parts.offsets).max(initial=1))
            self._rooms.room = Room(
                slots=np.full(len(self.parts.offsets) - 1, -1, np.int32),
                words=np.empty(self._words, np.int32),
                table=aligned((self._words, self._row_numbers), np.float32),
                before=aligned((self._words, self._row_numbers), np.float32),
                change=aligned(self._row_numbers, np.float32),
                sources=np.empty(max(longest, 2), np.int64),
            )
        room: Room = self._rooms.room
        return room
