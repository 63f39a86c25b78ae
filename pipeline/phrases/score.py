"""Which neighbours are phrases: exact counts of words and of pairs, brought together by hash partition, and scores.

Counts of a corpus' pairs do not fit into one machine's memory, and neither need those of its words. So a pair is
counted in the partition of its first word, which knows that word's count too; what is frequent enough goes on to the
partition of its second word, where it is scored. A payload is always two tables: words, and pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.dataset.schema import PHRASES_SCHEMA
from pipeline.phrases.join import JOINT
from pipeline.phrases.kernel import add_pairs, set_pairs
from pipeline.text.tokenize import Tokens
from pipeline.vocabulary.count import COUNTS_SCHEMA, TABLE_BYTES, TokenCounter, add_up, tables_to_bytes
from pipeline.vocabulary.partitions import FEWEST_PARTITIONS, order_by, partition_of, split_by_hash

#: Parts of the partial counts, by first word, for each partition of words: many, since a text has more pairs. (Those of
#: one first word are all in one part: it has as many at most as there are words.)
FIRST_PARTS = 2
#: Partitions of words for each part of the frequent pairs, by second word: pairs that are frequent are far fewer, and
#: each of the parts above feeds all of these.
SECOND_SHARE = 4

#: Partial counts leave a counter when it holds this many pairs, of 32 bytes each.
PAIR_LIMIT = 1 << 22

#: Pairs that are looked at together.
BATCH_BYTES = 64 << 20

PAIRS_SCHEMA = pa.schema([("first", pa.binary()), ("second", pa.binary()), ("count", pa.int64())])
SCORED_SCHEMA = pa.schema([*PAIRS_SCHEMA, ("score", pa.float64())])
_WITH_FIRST = pa.schema([*PAIRS_SCHEMA, ("first_count", pa.int64())])


class Counts(NamedTuple):
    """Counted words (COUNTS_SCHEMA) and counted pairs (PAIRS_SCHEMA, and more columns on the way)."""

    words: pa.Table
    pairs: pa.Table

    def to_bytes(self) -> bytes:
        """Encode as two Arrow IPC streams."""
        return tables_to_bytes(self)


def counts_from_bytes(data: bytes) -> Counts:
    """Decode what Counts.to_bytes made."""
    source = pa.BufferReader(data)
    return Counts(*(pa.ipc.open_stream(source).read_all() for _ in range(2)))


class PairCounter(TokenCounter):
    """Counts of the distinct tokens and pairs of neighbours seen since it was made; not for several threads at once."""

    def __init__(self) -> None:
        super().__init__()
        self._pairs = 0
        self._keys, self._pair_counts = np.full(1 << 16, -1, np.int64), np.empty(1 << 16, np.int64)

    def add(self, tokens: Tokens) -> NDArray[np.int32]:
        """Count every token, and every pair of neighbours in a sentence; return the row of each token."""
        rows = super().add(tokens)
        pairs, done = _neighbours(rows, tokens.ends_S), 0
        while True:
            done, self._pairs = add_pairs(pairs, done, self._keys, self._pair_counts, self._pairs)
            if done == len(pairs):
                return rows
            self._grow()

    @property
    def is_large(self) -> bool:
        """Whether it is time to emit what was counted and start again."""
        return self._pairs > PAIR_LIMIT or super().is_large

    def parts(self, partitions: int = FEWEST_PARTITIONS) -> Iterator[tuple[int, Counts]]:
        """Yield ``(part, counts)``: words by themselves, pairs by their first word."""
        words, number = self.counts(), partitions * FIRST_PARTS
        parts = partition_of(words["token"], number)
        rows, row_bounds = order_by(parts, number)
        slots = np.flatnonzero(self._keys >= 0)
        order, slot_bounds = order_by(parts[self._keys[slots] >> 32], number)
        slots = slots[order]
        step = max(1, number // FIRST_PARTS // FEWEST_PARTITIONS)  # taken at once, and cut
        for low in range(0, number, step):
            high = min(low + step, number)
            of_words, of_pairs = (
                some[ends[low] : ends[high]] for some, ends in ((rows, row_bounds), (slots, slot_bounds))
            )
            taken = self._counts_of(words, of_words, of_pairs)
            for part in range(low, high):
                cut = [
                    (int(ends[part] - ends[low]), int(ends[part + 1] - ends[part]))
                    for ends in (row_bounds, slot_bounds)
                ]
                if cut[0][1]:
                    yield part, Counts(taken.words.slice(*cut[0]), taken.pairs.slice(*cut[1]))

    def payloads(self, number: int) -> Iterator[tuple[int, bytes]]:
        """Yield what was counted by part, encoded."""
        return ((part, counts.to_bytes()) for part, counts in self.parts(number))

    def _counts_of(self, words: pa.Table, rows: NDArray[np.int64], slots: NDArray[np.int64]) -> Counts:
        keys, token = self._keys[slots], words["token"]
        pairs = [token.take(pa.array(keys >> 32)), token.take(pa.array(keys & 0xFFFFFFFF)), self._pair_counts[slots]]
        return Counts(words.take(pa.array(rows)), pa.table(pairs, schema=PAIRS_SCHEMA))

    def _grow(self) -> None:
        keys, counts = self._keys, self._pair_counts
        self._keys, self._pair_counts = np.full(2 * len(keys), -1, np.int64), np.empty(2 * len(keys), np.int64)
        set_pairs(keys, counts, self._keys, self._pair_counts)


def merge_pairs(
    parts: Iterable[Counts], min_count: int, partitions: int = FEWEST_PARTITIONS
) -> Iterator[tuple[int, Counts]]:
    """Add up the partial counts of one part by first word, and split them into the parts by second word.

    Words and pairs below ``min_count`` are dropped. A pair occurs nowhere without its two words, so those of a
    pair that is left are left too.
    """
    words, pairs = add_up([COUNTS_SCHEMA, PAIRS_SCHEMA], parts)
    words = words.filter(pc.greater_equal(words["count"], min_count))
    pairs = pairs.filter(pc.greater_equal(pairs["count"], min_count))
    pairs = pairs.append_column("first_count", _look_up(pairs["first"], words))
    number = max(1, partitions // SECOND_SHARE)
    by_word, by_second = (
        split_by_hash(table, column, number) for table, column in ((words, "token"), (pairs, "second"))
    )
    for part in range(number):
        if len(by_word[part]) or len(by_second[part]):
            yield part, Counts(by_word[part], by_second[part])


def score_pairs(
    parts: Iterable[Counts], tokens: int, min_count: int, threshold: float, max_token_bytes: int
) -> pa.Table:
    """Return the phrases among the pairs of one part by second word, columns of SCORED_SCHEMA.

    In memory are its words and its phrases, and BATCH_BYTES of the pairs.

    The score is that of word2phrase.c, (count − δ) / count(first) / count(second) · tokens with δ = ``min_count``, in
    IEEE double precision: each operation is rounded correctly, so that it is the same number everywhere. (The C code
    has single precision, counts pairs across the ends of lines too, and forgets rare ones when its table is full.)

    Args:
        parts: from merge_pairs; gone through twice, since a pair may come before its words.
        tokens: in the whole text.
        min_count: see above.
        threshold: a phrase scores more.
        max_token_bytes: a joined token may have.
    """
    # Copies: what was only cut out would hold on to the whole payload.
    words = pa.concat_tables([part.words.take(np.arange(len(part.words))) for part in parts]).combine_chunks()
    some = _batches(part.pairs for part in parts)
    found = [_choose(pairs, words, tokens, min_count, threshold, max_token_bytes) for pairs in some]
    return pa.concat_tables([SCORED_SCHEMA.empty_table(), *found])


def _batches(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Put tables together until they are some MB: each batch takes an index of all words."""
    held, size = list[pa.Table](), 0
    for table in tables:
        held.append(table)
        size += table.nbytes + TABLE_BYTES
        if size > BATCH_BYTES:
            yield pa.concat_tables(held)
            held, size = [], 0
    if held:
        yield pa.concat_tables(held)


def _choose(
    pairs: pa.Table, words: pa.Table, tokens: int, min_count: int, threshold: float, max_token_bytes: int
) -> pa.Table:
    count, first = (pairs[name].to_numpy().astype(np.float64) for name in ("count", "first_count"))
    second = _look_up(pairs["second"], words).to_numpy().astype(np.float64)
    score = (count - min_count) / first / second * tokens
    lengths = [pc.binary_length(pairs[name]).to_numpy() for name in ("first", "second")]
    chosen = (score > threshold) & (lengths[0] + lengths[1] + len(JOINT) <= max_token_bytes)
    return pairs.drop_columns(["first_count"]).append_column("score", pa.array(score)).filter(pa.array(chosen))


def as_phrases(tables: Sequence[pa.Table]) -> pa.Table:
    """Join the phrases of all partitions into one table, columns of PHRASES_SCHEMA, in no particular order."""
    return pa.concat_tables([SCORED_SCHEMA.empty_table(), *tables]).cast(PHRASES_SCHEMA)


def _neighbours(rows: NDArray[np.int32], ends_S: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the keys of all pairs of neighbours in one sentence."""
    inside = np.ones(len(rows), np.bool_)
    inside[ends_S - 1] = False  # the last word of a sentence has no next neighbour
    wide = rows.astype(np.int64)
    keys: NDArray[np.int64] = (wide[:-1] << 32 | wide[1:])[inside[:-1]]
    return keys


def _look_up(wanted: pa.ChunkedArray, words: pa.Table) -> pa.ChunkedArray:
    """Return the counts of words that are all in the table."""
    rows = pc.index_in(wanted, words["token"])
    assert not rows.null_count, "a pair is counted where its words are"
    return words["count"].take(rows)
