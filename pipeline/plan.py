"""Dealing chunks to shards: seeded order, even shards whatever the lengths of lines, files and chunks.

All chunks are laid end to end in a shuffled order, each as long as its sentences' expected pairs; the line is cut
into equal shards, and a sentence belongs to the shard in which it starts. A giant file or line spreads like any other.

Shape suffixes: C chunks of the corpus, S sentences of a chunk.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.chunk_tables import Table
from pipeline.dataset.schema import ROW_GROUP_PAIRS
from pipeline.draws import order_key

#: A dataset of few pairs is cut into so many shards, of a row group at least, that several threads can work on it.
FEW_SHARDS = 8

#: Sentences by ⌊log2⌋ of their tokens, uint32, little-endian: small, since there is one of these a chunk.
Lengths = bytes


class ChunkStats(NamedTuple):
    """What the counting pass learns of one chunk.

    Attributes:
        paired: sentences of two tokens or more.
        weight: sum of the sentences' weights.
        digest: XXH3-128 (hex) of the raw bytes.
        lengths: see Lengths.
    """

    file: int
    chunk: int
    bytes: int
    lines: int
    sentences: int
    paired: int
    tokens: int
    weight: int
    digest: str
    lengths: Lengths = b""


@dataclass(frozen=True, eq=False)
class Plan:
    """Where each chunk starts on the line of all chunks.

    Attributes:
        files_C, chunks_C: the chunks, by file and number, int64.
        starts_C: where each starts, int64.
        total: the line's length.
        shards: equal parts that it is cut into.
    """

    files_C: NDArray[np.int64]
    chunks_C: NDArray[np.int64]
    starts_C: NDArray[np.int64]
    total: int
    shards: int

    def start_of(self, file: int, chunk: int) -> int | None:
        """Return where a chunk starts; None for one that the counting pass did not see."""
        low, high = (int(np.searchsorted(self.files_C, file, side)) for side in ("left", "right"))
        place = low + int(np.searchsorted(self.chunks_C[low:high], chunk))
        return int(self.starts_C[place]) if place < high and self.chunks_C[place] == chunk else None

    def shard_of(self, position: int, weights_S: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the shard of each sentence of a chunk that starts at ``position``, ascending."""
        starts_S = np.concatenate(([0], np.cumsum(weights_S)[:-1]))
        first = self._shard_at(position)
        last = self._shard_at(position + int(starts_S[-1]))
        # Python's integers: position × shards may pass 64 bits.
        bounds = [-(-shard * self.total // self.shards) - position for shard in range(first + 1, last + 1)]
        return first + np.searchsorted(np.array(bounds, np.int64), starts_S, side="right")

    def _shard_at(self, position: int) -> int:
        return min(position * self.shards // self.total, self.shards - 1) if self.total else 0


@functools.lru_cache(maxsize=4)
def weight_table(max_tokens: int, window: int, fixed: bool) -> NDArray[np.int64]:
    """Return expected pairs × window of a sentence of n tokens, int64 [max_tokens + 1].

    A pair at distance d stands in both words' windows, each with the chance (W − d + 1) / W, or 1 if ``fixed``.
    """
    tokens = np.arange(max_tokens + 1, dtype=np.int64)
    table = np.zeros(max_tokens + 1, np.int64)
    for distance in range(1, min(window, max_tokens) + 1):
        table += 2 * np.maximum(0, tokens - distance) * (window if fixed else window - distance + 1)
    return table


def make_plan(stats: Table, *, kept_share: float, window: int, shard_pairs: int, seed: int) -> Plan:
    """Lay out the chunks and choose the number of shards, from totals alone.

    Args:
        stats: of every chunk, a row of ChunkStats each, by file and chunk.
        kept_share: expected share of the tokens that vocabulary and subsampling leave.
        window: largest radius, which the weights are multiplied by.
        shard_pairs: expected pairs that a shard may have; small datasets have smaller ones.
        seed: of the order.
    """
    files_C, chunks_C, weights_C = (np.ascontiguousarray(stats[name]) for name in ("file", "chunk", "weight"))
    keys = (order_key(seed, "deal", *place) for place in zip(files_C.tolist(), chunks_C.tolist(), strict=True))
    order_C = np.lexsort((chunks_C, files_C, np.fromiter(keys, np.uint64, len(stats))))
    starts_C = np.zeros(len(stats), np.int64)
    starts_C[order_C[1:]] = np.cumsum(weights_C[order_C])[:-1]
    total, paired = int(weights_C.sum()), int(stats["paired"].sum())
    expected = total / window * kept_share
    wanted = max(math.ceil(expected / shard_pairs), min(FEW_SHARDS, int(expected / ROW_GROUP_PAIRS)), 1)
    return Plan(files_C, chunks_C, starts_C, total, min(wanted, max(1, paired)))


def sentence_lengths(stats: Table) -> list[int]:
    """Add up over all chunks how many sentences have from 2^b to 2^(b + 1) − 1 tokens, for each b from 0."""
    return [int(number) for number in np.trim_zeros(stats["lengths"].sum(axis=0, dtype=np.int64), "b")]
