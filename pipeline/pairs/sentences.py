"""Encoding a chunk's tokens as vocabulary ids, and the runs of sentences that go to the shards.

Shape suffixes: T tokens in the vocabulary, S sentences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SentenceRun:
    """Consecutive sentences of one chunk, as ids.

    Attributes:
        file: ordinal of the input file.
        chunk: number of the chunk in the file.
        first: index in the chunk, counted over in-vocabulary tokens, of the first id: what draws count by.
        lengths_S: int32, ids of each sentence.
        ids_T: int32.
    """

    file: int
    chunk: int
    first: int
    lengths_S: NDArray[np.int32]
    ids_T: NDArray[np.int32]

    def to_bytes(self) -> bytes:
        """Encode as int64 [file, chunk, first, S], then the lengths and ids as int32, little-endian."""
        head = np.array([self.file, self.chunk, self.first, len(self.lengths_S)], "<i8")
        return head.tobytes() + self.lengths_S.astype("<i4").tobytes() + self.ids_T.astype("<i4").tobytes()


def run_from_bytes(data: bytes) -> SentenceRun:
    """Decode what SentenceRun.to_bytes made."""
    file, chunk, first, sentences = np.frombuffer(data, "<i8", 4).tolist()
    rest = np.frombuffer(data, "<i4", offset=32)
    return SentenceRun(file, chunk, first, rest[:sentences], rest[sentences:])


def split_runs(
    file: int, chunk: int, ids: NDArray[np.int32], ends_S: NDArray[np.int32], shard_S: NDArray[np.int64]
) -> list[tuple[int, SentenceRun]]:
    """Drop tokens outside the vocabulary and cut a chunk's sentences into one run per shard.

    Args:
        file: ordinal of the input file.
        chunk: number of the chunk in the file.
        ids: one id a token, −1 outside the vocabulary.
        ends_S: one past each sentence's last token.
        shard_S: the shard of each sentence, ascending.
    """
    known = ids >= 0
    seen = np.concatenate(([0], np.cumsum(known)))  # in-vocabulary tokens before each token
    bounds = seen[np.concatenate(([0], ends_S))]
    ids_T, lengths_S = ids[known], np.diff(bounds).astype(np.int32)
    shards, begins = np.unique(shard_S, return_index=True)
    stops = [*begins[1:].tolist(), len(shard_S)]
    return [
        (shard, SentenceRun(file, chunk, int(bounds[a]), lengths_S[a:b], ids_T[bounds[a] : bounds[b]]))
        for shard, a, b in zip(shards.tolist(), begins.tolist(), stops, strict=True)
    ]
