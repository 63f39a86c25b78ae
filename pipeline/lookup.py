"""From token bytes to vocabulary ids."""

from __future__ import annotations

import functools

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.dataset.vocab import Vocabulary, load_vocab
from pipeline.kernels.machine import PADDING
from pipeline.kernels.table import empty_slots, fill_slots, look_up
from pipeline.tokenize import Tokens


class TokenLookup:
    """Ids by token bytes; read-only once made, so any number of threads may share it.

    It takes the tokens' own bytes and 51 to 94 bytes a row, where a Python dict takes more than 150.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        """Build the table.

        Args:
            column: tokens (string or binary), by id.
        """
        self._arena, self._ends = unpack_tokens(column)
        self._slots = empty_slots(len(column))
        fill_slots(self._slots, self._arena, self._ends, len(column))

    def encode(self, tokens: Tokens) -> NDArray[np.int32]:
        """Return one id a token, int32, −1 outside the vocabulary."""
        ids = np.empty(len(tokens.starts_T), np.int32)
        spans = (tokens.text, tokens.starts_T, tokens.lengths_T)
        look_up(*spans, 0, self._slots, self._ends, self._arena, len(self._ends) - 1, False, ids)
        return ids

    def rows_of(self, column: pa.ChunkedArray) -> NDArray[np.int32]:
        """Return the ids of a column of tokens, less than 2 GiB of them, int32, −1 outside the vocabulary."""
        text, ends = unpack_tokens(column)
        none = np.empty(0, np.int32)
        return self.encode(Tokens(text, ends[:-1].astype(np.int32), np.diff(ends).astype(np.int32), none, []))


@functools.lru_cache(maxsize=2)  # a run's own, and the one that it extends
def load_lookup(uri: str, sha256: str) -> tuple[Vocabulary, TokenLookup]:
    """Load the vocabulary once per process; ``sha256`` tells one file of a URI from the next."""
    vocabulary = load_vocab(uri)
    return vocabulary, TokenLookup(vocabulary.column)


def unpack_tokens(column: pa.ChunkedArray) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return a column's bytes end to end, with padding as the kernels need it, and where each token ends, after a 0."""
    joined = pa.concat_arrays(column.cast(pa.large_binary()).chunks or [pa.array([], pa.large_binary())])
    ends = np.frombuffer(joined.buffers()[1], np.int64)[joined.offset : joined.offset + len(joined) + 1]
    size = int(ends[-1] - ends[0])
    arena = np.zeros(size + PADDING, np.uint8)
    if size:
        arena[:size] = np.frombuffer(joined.buffers()[2], np.uint8)[ends[0] : ends[-1]]
    return arena, ends - ends[0]
