"""fastText's binary file (.bin): what `fasttext.load_model` and gensim's `load_facebook_model` read.

    magic, version        int32 each
    HEADER                how it was trained
    VOCABULARY            how many words; then for each its UTF-8, a zero byte, its count (int64), its kind (int8)
    quantized?            bool: no
    input rows            rows and dimensions (int64), float32: the words' own, then the buckets
    quantized?            bool: no
    output rows           the same, a row for each word

All numbers are little-endian. (`saveModel` of fastText 0.9.3; version 12 of the format.)

Shapes: V tokens, D dimensions, R rows of a block.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trainer.errors import UserError
from trainer.exporting.formats import Export, refuse_tokens, write_strings
from trainer.models.store import Model

MAGIC, VERSION = 793712314, 12
#: dim, window, epochs, min_count, negatives, word_ngrams, loss, model, buckets, minn, maxn, update rate, sample.
HEADER = struct.Struct("<12id")
#: rows, words, labels, tokens, pruned (−1: no bucket is).
VOCABULARY = struct.Struct("<3i2q")
SHAPE = struct.Struct("<2q")

_CBOW, _SKIPGRAM = 1, 2
NEGATIVE_SAMPLING = 2
# What our model.json does not say is fastText's default; every word that is there was frequent enough.
_WINDOW, _MIN_COUNT, _UPDATE_RATE, _SAMPLE = 5, 1, 100, 1e-4
_BLOCK_NUMBERS = 1 << 20
_AFTER_WORD = np.dtype([("end", "u1"), ("count", "<i8"), ("kind", "u1")])


def write_fasttext(export: Export, model: Model, vectors: str, stream: IO[bytes]) -> None:
    """Write the file; of a model without subwords it has no n-grams either (maxn is 0), and ``vectors`` as its words'.

    Raises:
        FormatError: a token is empty or has a zero byte in it.
        UserError: other vectors than the input ones, of a model with subwords.
    """
    if model.subwords is not None and vectors != "input":
        raise UserError(f"--vectors: found {vectors} with --format fasttext, expected input: n-grams have no other")
    refuse_tokens(export.column, r"\x00", "a zero byte", "fasttext")
    rows, dim = export.table_VD.shape
    buckets = 0 if model.subwords is None else model.subwords.rule.buckets
    stream.write(struct.pack("<2i", MAGIC, VERSION))
    stream.write(_header(model, dim))
    counts_V = np.maximum(export.counts_V, 1)  # gensim leaves out words that never occur
    stream.write(VOCABULARY.pack(rows, rows, 0, int(counts_V.sum()), -1))
    for tokens, counts_R, _ in replace(export, counts_V=counts_V).blocks():
        after_R = np.zeros(len(tokens), _AFTER_WORD)
        after_R["count"] = counts_R
        after = pa.Array.from_buffers(pa.binary(_AFTER_WORD.itemsize), len(tokens), [None, pa.py_buffer(after_R)])
        write_strings(pc.binary_join_element_wise(tokens.cast(pa.binary()), after.cast(pa.binary()), b""), stream, "")
    own = export if model.subwords is None else replace(export, table_VD=model.subwords.rows_RD[:rows])
    _start_matrix(stream, rows + buckets, dim)
    _write_rows(own, stream)
    if model.subwords is not None:
        for start in range(rows, rows + buckets, _BLOCK_NUMBERS // dim + 1):
            block_RD = model.subwords.rows_RD[start : start + _BLOCK_NUMBERS // dim + 1]
            stream.write(np.ascontiguousarray(block_RD, "<f4").data)
    _start_matrix(stream, rows, dim)
    _write_rows(replace(export, table_VD=model.output_VD), stream)


def _header(model: Model, dim: int) -> bytes:
    config: Mapping[str, Any] = model.info.get("config", {})
    rule = model.subwords.rule if model.subwords is not None else None
    return HEADER.pack(
        dim, _WINDOW, config.get("epochs", 1), _MIN_COUNT, config.get("negatives", 5), 1, NEGATIVE_SAMPLING,
        _CBOW if config.get("architecture") == "cbow" else _SKIPGRAM, rule.buckets if rule else 0,
        rule.shortest if rule else 0, rule.longest if rule else 0, _UPDATE_RATE, _SAMPLE,
    )  # fmt: skip


def _start_matrix(stream: IO[bytes], rows: int, dim: int) -> None:
    stream.write(b"\0" + SHAPE.pack(rows, dim))


def _write_rows(export: Export, stream: IO[bytes]) -> None:
    for _, _, vectors_RD in export.blocks():
        stream.write(vectors_RD.astype("<f4", copy=False).data)
