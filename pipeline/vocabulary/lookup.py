"""From token bytes to vocabulary ids."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.dataset.vocabulary import load_vocab
from pipeline.native.machine import PADDING
from pipeline.native.process import once_a_process
from pipeline.pairs.subsample import keep_thresholds
from pipeline.text.tokenize import Tokens
from pipeline.vocabulary.hash_table import KEY_BYTES, empty_slots, fill_slots, look_up

#: A column of more bytes is looked up so many rows at a time: places in a text are int32, a token is 1 MiB at most.
_LARGE_BYTES, _ROWS = 1 << 30, 1 << 10

_BLOCK = 1 << 20


class TokenLookup:
    """Ids by token bytes; read-only once made, so any number of threads may share it.

    It takes 51 to 94 bytes a row and the bytes of tokens of more than 16, where a Python dict takes more than 150.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        """Build the table of tokens, string or binary, by id."""
        self._fill(*unpack_tokens(column))

    def _fill(self, arena: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self._slots = empty_slots(len(ends) - 1)
        fill_slots(self._slots, arena, ends, len(ends) - 1)
        self._arena, self._ends = _keep_long(arena, ends)

    def encode(self, tokens: Tokens) -> NDArray[np.int32]:
        """Return one id a token, int32, −1 outside the vocabulary."""
        ids = np.empty(len(tokens.starts_T), np.int32)
        spans = (tokens.text, tokens.starts_T, tokens.lengths_T)
        look_up(*spans, 0, self._slots, self._ends, self._arena, len(self._ends) - 1, False, ids)
        return ids

    def rows_of(self, column: pa.ChunkedArray) -> NDArray[np.int32]:
        """Return the ids of a column of tokens, int32, −1 outside the vocabulary."""
        ids, none = np.empty(len(column), np.int32), np.empty(0, np.int32)
        step = _ROWS if column.nbytes > _LARGE_BYTES else max(1, len(column))
        for start in range(0, len(column), step):
            text, ends = unpack_tokens(column.slice(start, step))
            tokens = Tokens(text, ends[:-1].astype(np.int32), np.diff(ends).astype(np.int32), none, [])
            ids[start : start + step] = self.encode(tokens)
        return ids


@once_a_process(held=2)  # a run's own, and the one that it extends
def load_lookup(uri: str, sha256: str) -> TokenLookup:
    """Load a vocabulary's tokens once per process; ``sha256`` tells one file of a URI from the next."""
    arena, ends = unpack_tokens(load_vocab(uri).column)  # the file's columns are let go of before there is a table
    pa.default_memory_pool().release_unused()
    lookup = TokenLookup.__new__(TokenLookup)
    lookup._fill(arena, ends)
    return lookup


@once_a_process(held=2)
def load_thresholds(uri: str, sha256: str, sample: float) -> NDArray[np.uint64]:
    """Return keep_thresholds of a vocabulary, 8 bytes a word: all threads of a process read the same ones."""
    thresholds = keep_thresholds(load_vocab(uri).counts, sample)
    thresholds.flags.writeable = False
    return thresholds


def unpack_tokens(column: pa.ChunkedArray) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return a column's bytes end to end, with padding as the kernels need it, and where each token ends, after a 0.

    Chunk by chunk, so that the only copy of the column is the one returned.
    """
    ends, row = np.zeros(len(column) + 1, np.int64), 0
    for offsets, _ in map(_spans_of, column.chunks):
        ends[row + 1 : row + len(offsets)] = offsets[1:] - offsets[0] + ends[row]
        row += len(offsets) - 1
    arena, used = np.zeros(int(ends[-1]) + PADDING, np.uint8), 0
    for offsets, data in map(_spans_of, column.chunks):
        size = int(offsets[-1] - offsets[0])
        if size:
            arena[used : used + size] = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
            used += size
    return arena, ends


def _keep_long(arena: NDArray[np.uint8], ends: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the bytes of long tokens only, and where each token's end: short ones fit into the slots.

    ``ends`` is overwritten.
    """
    kept, used, begin = list[NDArray[np.uint8]](), 0, 0
    for start in range(1, len(ends), _BLOCK):
        some = ends[start : start + _BLOCK]
        stop, lengths = int(some[-1]), np.diff(some, prepend=begin)
        is_long = lengths > KEY_BYTES
        kept.append(arena[begin:stop][np.repeat(is_long, lengths)])
        some[:] = used + np.cumsum(np.where(is_long, lengths, 0))
        used, begin = int(some[-1]), stop
    return np.concatenate([*kept, np.zeros(PADDING, np.uint8)]), ends


def _spans_of(chunk: pa.Array) -> tuple[NDArray[np.int64], pa.Buffer]:
    """Return where the tokens of a chunk begin and the last one ends in a buffer, and the buffer."""
    some = chunk.cast(pa.large_binary())
    if not len(some):
        return np.zeros(1, np.int64), some.buffers()[2]
    return np.frombuffer(some.buffers()[1], np.int64)[some.offset : some.offset + len(some) + 1], some.buffers()[2]
