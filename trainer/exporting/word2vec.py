"""gensim's `save_word2vec_format`: word2vec's text and binary files, with gensim's options.

Shapes: V tokens, R rows of a block.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.common.outputs import open_output
from pipeline.dataset.schema import FormatError
from pipeline.dataset.vocabulary import Vocabulary
from pipeline.storage import storage
from trainer.models.store import Floats
from trainer.vectors.search import Ids

_BLOCK_NUMBERS = 1 << 20
_WHITE_SPACE = r"^$|[\x00\s\v\x1c-\x1f\x85\p{Z}]"


def write_vectors(
    table_VD: Floats, vocabulary: Vocabulary, order_V: Ids, uri: str, first_line: str, prefix: str, binary: bool,
    append: bool,
) -> None:  # fmt: skip
    """Write tokens and their vectors in the order of some ids.

    Raises:
        FormatError: a token is empty or has white space in it.
    """
    require_plain_tokens(vocabulary)
    size = max(1, _BLOCK_NUMBERS // table_VD.shape[1])
    with _opened(uri, append) as stream:
        stream.write(first_line.encode())
        for start in range(0, len(order_V), size):
            ids_R = order_V[start : start + size]
            rows = np.ascontiguousarray(table_VD[ids_R]).astype("<f4", copy=False)
            parts = [row.tobytes() for row in rows] if binary else _lines(rows)
            for token, part in zip(_tokens(vocabulary, ids_R), parts, strict=True):
                stream.write(f"{prefix}{token} ".encode() + part)


def write_vocabulary(vocabulary: Vocabulary, order_V: Ids, uri: str, prefix: str, append: bool) -> None:
    """Write lines of a token and its count in the order of some ids."""
    require_plain_tokens(vocabulary)
    with _opened(uri, append) as stream:
        for token, count in zip(_tokens(vocabulary, order_V), vocabulary.counts[order_V].tolist(), strict=True):
            stream.write(f"{prefix}{token} {count}\n".encode())


def require_plain_tokens(vocabulary: Vocabulary) -> None:
    """Refuse tokens that no reader of the format would find again.

    Raises:
        FormatError: a token is empty or has white space in it.
    """
    found = pc.index(pc.match_substring_regex(vocabulary.column, _WHITE_SPACE), True).as_py()
    if found >= 0:
        raise FormatError(f"found the token {vocabulary.token(found)!r}, expected no white space for word2vec's format")


def _tokens(vocabulary: Vocabulary, ids_R: Ids) -> list[str]:
    return vocabulary.column.take(pa.array(ids_R)).to_pylist()  # type: ignore[no-any-return]


def _lines(rows: Floats) -> list[bytes]:
    """Format each row: the shortest decimals that read back as the same float32."""
    count, dim = rows.shape
    numbers = pa.array(rows.ravel()).cast(pa.string())
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * np.int32(dim))
    joined = pc.binary_join(pa.ListArray.from_arrays(offsets, numbers), " ")
    return [f"{line}\n".encode() for line in joined.to_pylist()]


@contextlib.contextmanager
def _opened(uri: str, append: bool) -> Iterator[IO[bytes]]:
    """Open a file to add to, or a new one that takes the place of ``uri`` at the end."""
    if append:
        if not storage.is_local(uri):
            raise ValueError(f"{storage.redact(uri)}: found append=True, expected it with local files only")
        with open(storage.local_path(uri), "ab") as stream:
            yield stream
        return
    with open_output(uri) as stream:
        yield stream
