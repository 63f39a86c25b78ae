"""Which rows of the input table a word is the mean of: fastText's n-grams and hash, exactly.

The table has a row for each of the V words and, after them, one for each bucket. An n-gram is a run of characters of
"<word>"; all whose hash is equal modulo the buckets share a row. (Bojanowski et al. 2017; `Dictionary` of fastText
0.9.3: the same hash of the same bytes, an n-gram that occurs twice counted twice, and </s> without any.)

Shapes: V vocabulary rows, R rows of the input table, D dimensions, W words and C characters of a block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]

END_OF_SENTENCE = "</s>"  # what fastText calls a line's end
MAX_BUCKETS = 2**31 - 1
MAX_LENGTH = 100

_BASIS, _PRIME = np.uint32(2166136261), np.uint32(16777619)  # of FNV-1a, 32 bit
_BLOCK_WORDS = 1 << 14
_BLOCK_NUMBERS = 1 << 18  # gathered together: what stays in a cache


class Parts(NamedTuple):
    """The rows of the input table that each word is the mean of.

    Attributes:
        offsets: int64 [V+1]: word v has ``rows[offsets[v]:offsets[v + 1]]``.
        rows: int32, numbers of rows of the input table.
    """

    offsets: Longs
    rows: Ids


@dataclass(frozen=True)
class Subwords:
    """The rule.

    Attributes:
        shortest: characters of the shortest n-grams, from 1; "<" and ">" count.
        longest: characters of the longest ones.
        buckets: rows that all n-grams share.
    """

    shortest: int
    longest: int
    buckets: int

    def __post_init__(self) -> None:
        """Check what a flag or a file may say.

        Raises:
            ValueError: no such rule; the message is "found …, expected …".
        """
        if not 1 <= self.shortest <= self.longest <= MAX_LENGTH:
            raise ValueError(f"found {self.lengths}, expected MIN-MAX from 1 to {MAX_LENGTH}, such as 3-6")
        if not 1 <= self.buckets <= MAX_BUCKETS:
            raise ValueError(f"found {self.buckets} buckets, expected 1 to {MAX_BUCKETS}")

    @classmethod
    def parse(cls, lengths: str, buckets: int) -> Subwords:
        """Make a rule of "3-6".

        Raises:
            ValueError: no such rule; the message is "found …, expected …".
        """
        shortest, _, longest = lengths.partition("-")
        if not all(number.isascii() and number.isdigit() and len(number) < 10 for number in (shortest, longest)):
            raise ValueError(f"found {lengths!r}, expected MIN-MAX from 1 to {MAX_LENGTH}, such as 3-6")
        return cls(int(shortest), int(longest), buckets)

    @property
    def lengths(self) -> str:
        """As `parse` takes it."""
        return f"{self.shortest}-{self.longest}"

    def parts(self, tokens: Sequence[str]) -> Parts:
        """The rows of each word of a vocabulary: its own first, then one for each n-gram.

        Raises:
            ValueError: more rows than int32 can number.
        """
        if len(tokens) + self.buckets > MAX_BUCKETS:
            raise ValueError(
                f"found {len(tokens)} words and {self.buckets} buckets, expected {MAX_BUCKETS} rows at most"
            )
        offsets_V1 = np.zeros(len(tokens) + 1, np.int64)
        counts_V = self._count(np.fromiter(map(len, tokens), np.int64, len(tokens)))
        counts_V[[row for row, token in enumerate(tokens) if token == END_OF_SENTENCE]] = 0
        np.cumsum(counts_V + 1, out=offsets_V1[1:])
        rows = np.empty(offsets_V1[-1], np.int32)
        for start in range(0, len(tokens), _BLOCK_WORDS):
            words = tokens[start : start + _BLOCK_WORDS]
            places_W1 = offsets_V1[start : start + len(words) + 1]
            own = np.zeros(places_W1[-1] - places_W1[0], np.bool_)
            own[places_W1[:-1] - places_W1[0]] = True
            block = rows[places_W1[0] : places_W1[-1]]
            block[own] = np.arange(start, start + len(words))
            block[~own] = self._hash(words) + np.int32(len(tokens))
        return Parts(offsets_V1, rows)

    def unseen(self, word: str, rows: int) -> Ids:
        """The rows of a word that is not in a vocabulary of so many rows; none where it has no n-gram."""
        try:
            return self._hash([word]) + np.int32(rows)
        except UnicodeEncodeError:  # a command line's bytes that are no UTF-8
            return np.empty(0, np.int32)

    def _count(self, lengths_W: Longs) -> Longs:
        """How many n-grams words of so many characters have."""
        counts_W = np.zeros_like(lengths_W)
        for n in range(self.shortest, self.longest + 1):
            counts_W += np.maximum(lengths_W if n == 1 else lengths_W + (3 - n), 0)  # not "<" and ">" alone
        return counts_W

    def _hash(self, words: Sequence[str]) -> Ids:
        """The buckets of all n-grams of all words: by where they begin, the shorter ones first."""
        text = np.frombuffer("".join(f"<{word}>" for word in words).encode(), np.int8)
        begins_C = np.flatnonzero((text & np.int8(-64)) != -128)  # no byte 10xxxxxx: a character's first
        sizes_C = np.diff(begins_C, append=len(text))
        chars_W = np.fromiter(map(len, words), np.int64, len(words)) + 2
        ends_W = np.cumsum(chars_W)
        left_C = np.repeat(ends_W, chars_W) - np.arange(len(begins_C))  # characters to the word's end
        inner_C = np.ones(len(begins_C), np.bool_)
        inner_C[ends_W - 1] = inner_C[ends_W - chars_W] = False
        left_C[np.repeat([word == END_OF_SENTENCE for word in words], chars_W)] = 0
        buckets_CN = np.empty((len(begins_C), self.longest - self.shortest + 1), np.int32)
        is_one_CN = np.zeros(buckets_CN.shape, np.bool_)
        hashes_C = np.full(len(begins_C), _BASIS)
        for n in range(1, min(self.longest, len(begins_C)) + 1):
            # The n-gram from character c on ends with character c + n − 1; what runs over a word's end is not taken.
            hashes_C = _append(hashes_C[: len(begins_C) - n + 1], text, begins_C[n - 1 :], sizes_C[n - 1 :])
            if n >= self.shortest:
                place = (slice(len(hashes_C)), n - self.shortest)
                buckets_CN[place] = hashes_C % np.uint32(self.buckets)
                is_one_CN[place] = left_C[: len(hashes_C)] >= n
                is_one_CN[place] &= inner_C[: len(hashes_C)] if n == 1 else True
        return buckets_CN[is_one_CN]


def compose(input_RD: Floats, offsets_V1: Longs, rows: Ids) -> Floats:
    """The mean of each word's rows, as `Subwords.parts` gives them, summed in their order: float32 [V, D]."""
    composed_VD = np.empty((len(offsets_V1) - 1, input_RD.shape[1]), np.float32)
    for first, last in _blocks(offsets_V1, _BLOCK_NUMBERS // input_RD.shape[1]):
        begin, end = offsets_V1[first], offsets_V1[last]
        block_VD = composed_VD[first:last]
        np.add.reduceat(input_RD[rows[begin:end]], offsets_V1[first:last] - begin, axis=0, out=block_VD)
        block_VD /= np.diff(offsets_V1[first : last + 1])[:, None].astype(np.float32)
    return composed_VD


def _append(hashes_C: npt.NDArray[np.uint32], text: npt.NDArray[np.int8], begins_C: Longs, sizes_C: Longs
            ) -> npt.NDArray[np.uint32]:  # fmt: skip
    """FNV-1a of one more character each; bytes are sign-extended, as fastText's are."""
    hashes_C = (hashes_C ^ text[begins_C].astype(np.uint32)) * _PRIME
    for size in range(1, int(sizes_C.max(initial=1))):
        longer = np.flatnonzero(sizes_C > size)
        hashes_C[longer] = (hashes_C[longer] ^ text[begins_C[longer] + size].astype(np.uint32)) * _PRIME
    return hashes_C


def _blocks(offsets_V1: Longs, rows: int) -> Iterator[tuple[int, int]]:
    """Cut words into blocks of about so many rows, each of one word at least."""
    first, words = 0, len(offsets_V1) - 1
    while first < words:
        last = int(np.searchsorted(offsets_V1, offsets_V1[first] + max(rows, 1), "right")) - 1
        last = min(max(last, first + 1), words)
        yield first, last
        first = last
