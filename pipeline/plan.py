"""Dealing chunks to shards: seeded order, even shards whatever the lengths of lines, files and chunks.

All chunks are laid end to end in a shuffled order, each as long as its sentences' expected pairs; the line is cut
into equal shards, and a sentence belongs to the shard in which it starts. A giant file or line spreads like any other.

Shape suffix: S sentences of a chunk.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset.schema import ROW_GROUP_PAIRS
from pipeline.draws import order_key

#: A dataset of few pairs is cut into so many shards, of a row group at least, that several threads can work on it.
FEW_SHARDS = 8

#: Counts as uint32, little-endian: small, since there is one of these a chunk.
Packed = bytes


class ChunkStats(NamedTuple):
    """What the counting pass learns of one chunk.

    Attributes:
        paired: sentences of two tokens or more.
        weight: sum of the sentences' weights.
        digest: XXH3-128 (hex) of the raw bytes.
        lengths: sentences by ⌊log2⌋ of their tokens.
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
    lengths: Packed = b""


@dataclass(frozen=True)
class Plan:
    """Where each chunk starts on the line of all chunks.

    Attributes:
        positions: by (file, chunk).
        total: the line's length.
        shards: equal parts that it is cut into.
    """

    positions: dict[tuple[int, int], int]
    total: int
    shards: int

    def shard_of(self, file: int, chunk: int, weights_S: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the shard of each sentence of a chunk, ascending."""
        position = self.positions[file, chunk]
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


def make_plan(stats: Iterable[ChunkStats], *, kept_share: float, window: int, shard_pairs: int, seed: int) -> Plan:
    """Lay out the chunks and choose the number of shards, from totals alone.

    Args:
        stats: of every chunk, in any order.
        kept_share: expected share of the tokens that vocabulary and subsampling leave.
        window: largest radius, which the weights are multiplied by.
        shard_pairs: expected pairs that a shard may have; small datasets have smaller ones.
        seed: of the order.
    """
    ordered = sorted(stats, key=lambda s: (order_key(seed, "deal", s.file, s.chunk), s.file, s.chunk))
    positions, total = {}, 0
    for chunk in ordered:
        positions[chunk.file, chunk.chunk] = total
        total += chunk.weight
    expected = total / window * kept_share
    paired = sum(chunk.paired for chunk in ordered)
    wanted = max(math.ceil(expected / shard_pairs), min(FEW_SHARDS, int(expected / ROW_GROUP_PAIRS)), 1)
    return Plan(positions, total, min(wanted, max(1, paired)))


def sentence_lengths(stats: Iterable[ChunkStats]) -> list[int]:
    """Add up over all chunks how many sentences have from 2^b to 2^(b + 1) − 1 tokens, for each b from 0."""
    totals = np.zeros(64, np.int64)
    for chunk in stats:
        found = np.frombuffer(chunk.lengths, "<u4")
        totals[: len(found)] += found
    return [int(number) for number in np.trim_zeros(totals, "b")]
