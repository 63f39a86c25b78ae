"""How exported vectors look on disk, format by format; tokens come in order of frequency.

Shapes: V tokens, D dimensions, R rows of a block.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.dataset.schema import FormatError
from trainer.models.store import Floats
from trainer.models.tensors import encode_header
from trainer.vectors.search import Ids

PROJECTOR = ("vectors.tsv", "metadata.tsv")

_BLOCK_VALUES = 1 << 22  # numbers formatted at once
# All of Unicode's white space and NUL: readers differ in which of them they split at.
WHITE_SPACE = r"[\x00\s\v\x1c-\x1f\x85\p{Z}]"
_LINE_OR_TAB = r"[\x00\t\n\v\f\r\x1c-\x1f\x85\x{2028}\x{2029}]"


@dataclass(frozen=True, eq=False)
class Export:
    """What is to be written.

    Attributes:
        table_VD: the vectors, rows in id order.
        column: the tokens, in id order.
        counts_V: int64, in id order.
        order_V: the ids, most frequent first.
    """

    table_VD: Floats
    column: pa.ChunkedArray
    counts_V: Ids
    order_V: Ids

    def blocks(self) -> Iterator[tuple[pa.Array, Ids, Floats]]:
        """Yield tokens, counts int64 [R] and vectors float32 [R, D], most frequent first."""
        size = max(1, _BLOCK_VALUES // self.table_VD.shape[1])
        tokens = pa.concat_arrays(self.column.chunks) if len(self.order_V) else pa.array([], pa.string())
        for start in range(0, len(self.order_V), size):
            ids_R = self.order_V[start : start + size]
            yield tokens.take(pa.array(ids_R)), self.counts_V[ids_R], np.ascontiguousarray(self.table_VD[ids_R])


def write_word2vec(export: Export, stream: IO[bytes]) -> None:
    """Write word2vec's text format: `V D`, then per line the token and its numbers, separated by single spaces.

    The numbers are the shortest decimals that read back as the same float32.
    """
    refuse_tokens(export.column, WHITE_SPACE, "white space", "word2vec")
    stream.write(_header(export))
    for tokens, _, vectors_RD in export.blocks():
        write_strings(pc.binary_join_element_wise(tokens, join_numbers(vectors_RD, " "), " "), stream)


def write_word2vec_bin(export: Export, stream: IO[bytes]) -> None:
    """Write word2vec.c's binary format: `V D`, then the token, a space, D little-endian float32, a line feed."""
    refuse_tokens(export.column, WHITE_SPACE, "white space", "word2vec-bin")
    stream.write(_header(export))
    for tokens, _, vectors_RD in export.blocks():
        write_strings(pc.binary_join_element_wise(tokens.cast(pa.binary()), join_bytes(vectors_RD), b" "), stream)


def write_parquet(export: Export, stream: IO[bytes]) -> None:
    """Write Parquet with the columns `token: string, count: int64, vector: list<float32>`."""
    schema = pa.schema({"token": pa.string(), "count": pa.int64(), "vector": pa.list_(pa.float32())})
    with _parquet_writer(stream, schema) as writer:
        for tokens, counts_R, vectors_RD in export.blocks():
            writer.write_batch(pa.record_batch([tokens, pa.array(counts_R), _as_lists(vectors_RD)], schema=schema))


def write_feast(export: Export, stream: IO[bytes], timestamp: datetime.datetime, version: str) -> None:
    """Write Parquet as feature stores read it.

    Columns: the entity key `token`, `event_timestamp` (UTC), and the features `vector: list<float32>`, `count: int64`
    and `version`.
    """
    kind, vector = pa.timestamp("us", tz="UTC"), pa.list_(pa.float32())
    names = ("token", "event_timestamp", "vector", "count", "version")
    schema = pa.schema(zip(names, (pa.string(), kind, vector, pa.int64(), pa.string()), strict=True))
    with _parquet_writer(stream, schema) as writer:
        for tokens, counts_R, vectors_RD in export.blocks():
            times = pa.repeat(pa.scalar(timestamp, kind), len(tokens))
            columns = [tokens, times, _as_lists(vectors_RD), pa.array(counts_R), pa.repeat(version, len(tokens))]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def write_safetensors(export: Export, stream: IO[bytes]) -> None:
    """Write one self-contained safetensors file.

    Tensors: `vectors` float32 [V, D], `counts` int64 [V], `token_bytes` uint8, all tokens in UTF-8 end to end, and
    `token_offsets` int64 [V + 1]: token i is token_bytes[token_offsets[i] : token_offsets[i + 1]].
    """
    lengths_V = pc.binary_length(export.column).to_numpy()[export.order_V]
    offsets = np.concatenate([[0], np.cumsum(lengths_V)]).astype("<i8")
    rows, dim = len(export.order_V), export.table_VD.shape[1]
    heads: dict[str, tuple[np.dtype[np.generic], tuple[int, ...]]] = {
        "counts": (np.dtype(np.int64), (rows,)),
        "token_offsets": (np.dtype(np.int64), (rows + 1,)),
        "vectors": (np.dtype(np.float32), (rows, dim)),
        "token_bytes": (np.dtype(np.uint8), (int(offsets[-1]),)),
    }
    stream.write(encode_header(heads))
    stream.write(export.counts_V[export.order_V].astype("<i8").data)
    stream.write(offsets.data)
    for _, _, vectors_RD in export.blocks():
        stream.write(vectors_RD.astype("<f4", copy=False).data)
    for tokens, _, _ in export.blocks():
        stream.write(b"".join(tokens.cast(pa.binary()).to_pylist()))


def write_projector(export: Export, vectors: IO[bytes], metadata: IO[bytes]) -> None:
    """Write the Embedding Projector's two files: numbers separated by tabs; token and count under a heading.

    Raises:
        FormatError: a token is empty or holds a tab or a line break.
    """
    refuse_tokens(export.column, _LINE_OR_TAB, "a tab or a line break", "projector")
    metadata.write(b"token\tcount\n")
    for tokens, counts_R, vectors_RD in export.blocks():
        write_strings(join_numbers(vectors_RD, "\t"), vectors)
        write_strings(pc.binary_join_element_wise(tokens, pa.array(counts_R).cast(pa.string()), "\t"), metadata)


def _header(export: Export) -> bytes:
    return f"{len(export.order_V)} {export.table_VD.shape[1]}\n".encode("ascii")


def join_numbers(vectors_RD: Floats, separator: str) -> pa.Array:
    """Join each row's numbers to one string; Arrow's cast writes the shortest decimals that round-trip."""
    return pc.binary_join(_as_lists(vectors_RD).cast(pa.list_(pa.string())), separator)


def join_bytes(vectors_RD: Floats) -> pa.Array:
    """Each row's numbers as little-endian bytes."""
    raw = vectors_RD.astype("<f4")
    offsets = pa.py_buffer(np.arange(len(raw) + 1, dtype=np.int32) * np.int32(raw.shape[1] * 4))
    return pa.Array.from_buffers(pa.binary(), len(raw), [None, offsets, pa.py_buffer(raw)])


def write_strings(rows: pa.Array, stream: IO[bytes], end: str = "\n") -> None:
    """Write each row and an end: once the ends are joined on, the column's buffer is the file's content."""
    ended = pc.binary_join_element_wise(rows, pa.scalar("", rows.type), pa.scalar(end, rows.type))
    offsets = np.frombuffer(ended.buffers()[1], np.int32)
    stream.write(memoryview(ended.buffers()[2])[offsets[ended.offset] : offsets[ended.offset + len(ended)]])


def _offsets(vectors_RD: Floats) -> pa.Array:
    return pa.array(np.arange(len(vectors_RD) + 1, dtype=np.int32) * np.int32(vectors_RD.shape[1]))


def _as_lists(vectors_RD: Floats) -> pa.Array:
    return pa.ListArray.from_arrays(_offsets(vectors_RD), pa.array(vectors_RD.ravel()))


def _parquet_writer(stream: IO[bytes], schema: pa.Schema) -> pq.ParquetWriter:
    # Float mantissas do not compress; everything else does.
    compression = dict.fromkeys(schema.names, "zstd") | {"vector.list.element": "none"}
    options = {"use_dictionary": ["event_timestamp", "version"], "write_page_checksum": True}
    # By the times' least and greatest, readers of a whole folder skip other versions' files.
    return pq.ParquetWriter(stream, schema, compression=compression, write_statistics=["event_timestamp"], **options)


def refuse_tokens(column: pa.ChunkedArray, pattern: str, what: str, name: str) -> None:
    """Refuse empty tokens, and those that a pattern is found in.

    Raises:
        FormatError: with the token, and what the format cannot hold.
    """
    bad = pc.or_(pc.match_substring_regex(column, pattern), pc.equal(column, ""))
    row = pc.index(bad, True).as_py()
    if row >= 0:
        token = column[row].as_py()
        raise FormatError(
            f"--format {name}: found the token {token!r} (id {row}), expected none empty or with {what}; "
            "parquet, safetensors and feast hold any token"
        )
