"""The vocabulary: tokens with their corpus counts; the row number is the id.

Shape suffix: V vocabulary rows.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.dataset.schema import MAX_VOCABULARY_ROWS, VOCAB_SCHEMA, FormatError
from pipeline.dataset.tables import read_table
from pipeline.storage import storage

_GROUP_ROWS = 1 << 20


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Tokens and counts in id order.

    Attributes:
        column: the tokens, a string column of V rows without nulls or repetitions.
        counts: int64 [V], how often each token occurs in the corpus.
    """

    column: pa.ChunkedArray
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.counts)

    @functools.cached_property
    def tokens(self) -> list[str]:
        """The tokens as Python strings, in id order; made once."""
        return self.column.to_pylist()  # type: ignore[no-any-return]

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {token: row for row, token in enumerate(self.tokens)}

    def token(self, row: int) -> str:
        return str(self.column[row].as_py())

    def id_of(self, token: str) -> int | None:
        """Return the id of ``token``, or None where it is not in the vocabulary."""
        return self._ids.get(token)

    def encode(self, tokens: Iterable[str]) -> NDArray[np.int32]:
        """Return the tokens' ids, int32, −1 for those outside the vocabulary."""
        return np.fromiter((self._ids.get(token, -1) for token in tokens), np.int32)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over token lengths (int32), token bytes (UTF-8) and counts (int64), all little-endian."""
        sha = hashlib.sha256()
        for chunk in self.column.chunks:
            sha.update(pc.binary_length(chunk).to_numpy(zero_copy_only=False).astype("<i4").data)
        for chunk in self.column.chunks:
            some = chunk.cast(pa.large_binary())
            offsets, data = np.frombuffer(some.buffers()[1], np.int64), some.buffers()[2]
            if len(some) and data is not None:
                sha.update(memoryview(data)[offsets[some.offset] : offsets[some.offset + len(some)]])
        sha.update(np.ascontiguousarray(self.counts, "<i8").data)
        return sha.hexdigest()


def make_vocabulary(tokens: Iterable[str], counts: Iterable[int]) -> Vocabulary:
    """Build a vocabulary from rows that are already in id order."""
    column = pa.chunked_array([pa.array(list(tokens), pa.string())])
    return Vocabulary(column, np.array(list(counts), np.int64))


def order_rows(table: pa.Table) -> pa.Table:
    """Put counted tokens into the order of a fresh vocabulary: count descending, then token bytes ascending."""
    # Binary columns compare bytewise, which for UTF-8 is code point order; no locale has a say.
    keys = pa.table({"token": table["token"].cast(pa.binary()), "count": table["count"]})
    return table.take(pc.sort_indices(keys, sort_keys=[("count", "descending"), ("token", "ascending")]))


def require_few_rows(rows: int) -> None:
    """Refuse what int32 ids cannot number.

    Raises:
        FormatError: there are more rows.
    """
    if rows > MAX_VOCABULARY_ROWS:
        raise FormatError(
            f"vocabulary: found {rows} tokens or more, expected at most {MAX_VOCABULARY_ROWS} (int32 ids); "
            "raise --min-count or set --max-vocab"
        )


def save_vocab(vocabulary: Vocabulary) -> pa.Buffer:
    """Encode the vocabulary as the bytes of ``vocab.parquet``."""
    sink = pa.BufferOutputStream()
    save_vocab_rows([pa.table([vocabulary.column, vocabulary.counts], names=VOCAB_SCHEMA.names)], sink)
    return sink.getvalue()


def save_vocab_rows(tables: Iterable[pa.Table], sink: IO[bytes] | pa.NativeFile) -> int:
    """Write ``vocab.parquet`` from tables of rows in id order, a row group at a time in memory; return how many.

    The bytes written do not depend on how the rows are divided into tables; tokens are string or binary UTF-8.

    Raises:
        FormatError: more rows than int32 ids can number.
    """
    held, rows = VOCAB_SCHEMA.empty_table(), 0
    with pq.ParquetWriter(sink, VOCAB_SCHEMA, compression="zstd", compression_level=1, use_dictionary=False,
                          write_page_checksum=True) as writer:  # fmt: skip
        for table in tables:
            rows += len(table)
            require_few_rows(rows)
            held = pa.concat_tables([held, table.cast(VOCAB_SCHEMA)])
            while len(held) >= _GROUP_ROWS:
                writer.write_table(held.slice(0, _GROUP_ROWS).combine_chunks())
                held = held.slice(_GROUP_ROWS)
        if len(held) or not rows:
            writer.write_table(held.combine_chunks())
    return rows


def load_vocab(uri: str) -> Vocabulary:
    """Read ``vocab.parquet``.

    Raises:
        FormatError: no such file, no Parquet, other columns, a failed page checksum, negative counts.
    """
    try:
        data = storage.read_bytes(uri)
    except FileNotFoundError:
        raise FormatError(f"{storage.redact(uri)}: found no file, expected the vocabulary") from None
    return parse_vocab(data, storage.redact(uri))


def parse_vocab(data: bytes | pa.Buffer, path: str) -> Vocabulary:
    """Decode the bytes of ``vocab.parquet``; ``path`` names them in errors.

    Raises:
        FormatError: no Parquet, other columns, a failed page checksum, negative counts.
    """
    table = read_table(data, VOCAB_SCHEMA, path)
    counts = table["count"].to_numpy()
    if len(counts) and counts.min() < 0:
        raise FormatError(f"{path}: found count {counts.min()}, expected none below 0")
    return Vocabulary(table["token"], counts)
