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
from trainer.engines.kernels.numba.walk import cut_segments, fetch_row
from trainer.engines.lines import aligned
from trainer.subwords.ngrams import Parts

# How far other words' steps may move a word's parts before it takes notice, in the length of one step of its own at
# rate 1. On a million French words losses were those of the shortest segments at .35, a little above at .7, and rose
# in the end at 2.7.
STALE = 0.35
SHORTEST_SEGMENT = 64
AHEAD = 2  # words whose parts are on their way from memory while those of one are added up


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


@jit(cache=True)
def shared_share(input_ids_B: Ids, parts: Parts, steps_V: Longs, steps_R: Longs) -> float:
    """The share of its parts that a pair's word has in common with another pair's of another word, on average.

    `steps_V` and `steps_R`, how many pairs have a word and a row, are zero before and after.
    """
    total = 0.0
    for b in range(input_ids_B.size):
        steps_V[input_ids_B[b]] += 1
    for word in range(steps_V.size):
        if steps_V[word] > 0:
            for place in range(parts.offsets[word], parts.offsets[word + 1]):
                steps_R[parts.rows[place]] += steps_V[word]
    for word in range(steps_V.size):
        if steps_V[word] > 0:
            others = 0
            for place in range(parts.offsets[word], parts.offsets[word + 1]):
                others += steps_R[parts.rows[place]] - steps_V[word]
            total += steps_V[word] * others / (parts.offsets[word + 1] - parts.offsets[word])
    for word in range(steps_V.size):
        if steps_V[word] > 0:
            steps_V[word] = 0
            for place in range(parts.offsets[word], parts.offsets[word + 1]):
                steps_R[parts.rows[place]] = 0
    return total / input_ids_B.size**2


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
            if number + AHEAD < count:
                fetch_parts(parts, room.words[number + AHEAD], base, row_bytes)
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
            if number + AHEAD < count:
                fetch_parts(parts, room.words[number + AHEAD], base, row_bytes)
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

    def __init__(self, parts: Parts, row_numbers: int, rows: int, words: int) -> None:
        """Take parts over.

        Args:
            parts: of the V words.
            row_numbers: floats from one row of the input table to the next.
            rows: R.
            words: that a segment has at most; memory is taken as it is used.
        """
        self.parts = parts
        self._row_numbers, self._words = row_numbers, min(words, len(parts.offsets) - 1)
        self._steps = np.zeros(len(parts.offsets) - 1, np.int64), np.zeros(rows, np.int64)
        self._rooms = threading.local()

    def cut(self, output_ids_B: Ids, input_ids_B: Ids, rate: float, segment_pairs: int, longest: int) -> Longs:
        """First pairs of the segments, see cut_segments.

        Until a segment ends, words take no notice of what others change their parts by. That adds up, and too much of
        it diverges: so segments are the shorter, the more of their parts words share, and the higher the rate.
        """
        share = shared_share(input_ids_B, self.parts, *self._steps)
        pairs = int(min(segment_pairs, STALE / max(rate * share, 1e-9)))
        return cut_segments(output_ids_B, max(pairs, SHORTEST_SEGMENT), longest)

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
