"""Assigning chunks to shards: seeded order, even shards whatever the lengths of lines, files and chunks.

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

from pipeline.dataset.schema import ROW_GROUP_PAIRS, FormatError, sha256_hex
from pipeline.native.process import once_a_process
from pipeline.pairs.chunk_stats import ChunkTable
from pipeline.pairs.draws import order_keys
from pipeline.storage import storage
from pipeline.storage.folders import remove_files

#: A dataset of few pairs is cut into so many shards, of a row group at least, that several threads can work on it.
FEW_SHARDS = 8

_NAME = "tmp/plan"

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
    """Where each chunk starts on the line of all chunks: 16 bytes a chunk, in each process that encodes.

    Attributes:
        places_2C: int64; of each chunk file · 2³² + number, ascending, and below it where it starts.
        total: the line's length.
        shards: equal parts that it is cut into.
    """

    places_2C: NDArray[np.int64]
    total: int
    shards: int

    def start_of(self, file: int, chunk: int) -> int | None:
        """Return where a chunk starts; None for one that the counting pass did not see."""
        keys_C, starts_C = self.places_2C
        key = (file << 32) + chunk
        place = int(np.searchsorted(keys_C, key))
        return int(starts_C[place]) if place < len(keys_C) and keys_C[place] == key else None

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


class PlanFile(NamedTuple):
    """The file of a plan. This goes to the workers; each of their processes reads the file once.

    Attributes:
        total, shards: as those of Plan.
    """

    uri: str
    sha256: str
    total: int
    shards: int


@functools.lru_cache(maxsize=4)
def weight_table(max_tokens: int, window: int, fixed: bool) -> NDArray[np.int64]:
    """Return expected pairs × window of a sentence of n tokens, int64 [max_tokens + 1]; a window of 0 counts as 1.

    A pair at distance d is in both words' windows, each with the chance (W − d + 1) / W, or 1 if ``fixed``. With a
    window of 0, which is the whole sentence, each of the n (n − 1) is one.
    """
    tokens = np.arange(max_tokens + 1, dtype=np.int64)
    if not window:
        return tokens * np.maximum(0, tokens - 1)
    table = np.zeros(max_tokens + 1, np.int64)
    for distance in range(1, min(window, max_tokens) + 1):
        table += 2 * np.maximum(0, tokens - distance) * (window if fixed else window - distance + 1)
    return table


def make_plan(stats: ChunkTable, *, kept_share: float, window: int, shard_pairs: int, seed: int) -> Plan:
    """Lay out the chunks and choose the number of shards, from totals alone.

    Args:
        stats: of every chunk.
        kept_share: expected share of the tokens that vocabulary and subsampling leave.
        window: largest radius, which the weights are multiplied by; 0 for whole sentences.
        shard_pairs: expected pairs that a shard may have; small datasets have smaller ones.
        seed: of the order.
    """
    rows_C = stats.rows
    # Rows are in order of file and chunk; a stable sort leaves those of equal keys, which are few, in that order.
    order_C = np.argsort(order_keys(seed, "deal", rows_C["file"], rows_C["chunk"]), kind="stable")
    places_2C = np.zeros((2, len(rows_C)), np.int64)
    places_2C[0] = rows_C["file"].astype(np.int64) << 32 | rows_C["chunk"]
    places_2C[1, order_C[1:]] = np.cumsum(rows_C["weight"][order_C])[:-1]
    total, paired = stats.total("weight"), stats.total("paired")
    # Words that close up find others in a window; of a whole sentence, both words of a pair must be kept.
    expected = total / window * kept_share if window else total * kept_share**2
    wanted = max(math.ceil(expected / shard_pairs), min(FEW_SHARDS, int(expected / ROW_GROUP_PAIRS)), 1)
    return Plan(places_2C, total, min(wanted, max(1, paired)))


def save_plan(plan: Plan, folder: str) -> PlanFile:
    """Write a plan among the temporary files of the run whose folder is given."""
    uri, data = storage.join(folder, _NAME), plan.places_2C.astype("<i8", copy=False).data.cast("B")
    storage.write_bytes(uri, data)
    return PlanFile(uri, sha256_hex(data), plan.total, plan.shards)


def remove_plan(folder: str) -> None:
    """Remove it: what is published has no temporary files."""
    remove_files(folder, [_NAME])


@once_a_process(held=1)
def load_plan(file: PlanFile) -> Plan:
    """Read a plan, once a process.

    Raises:
        FormatError: it is not the one that was written.
    """
    data = storage.read_bytes(file.uri)
    if sha256_hex(data) != file.sha256:
        raise FormatError(f"{storage.redact(file.uri)}: found another file, expected the plan of this run")
    return Plan(np.frombuffer(data, "<i8").reshape(2, -1), file.total, file.shards)


def sentence_lengths(stats: ChunkTable) -> list[int]:
    """Return how many sentences of all chunks have from 2^b to 2^(b + 1) − 1 tokens, for each b from 0."""
    return [int(number) for number in np.trim_zeros(stats.sums["lengths"], "b")]
