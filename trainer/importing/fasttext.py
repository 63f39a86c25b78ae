"""fastText's binary file; what it looks like is said in `trainer.exporting.fasttext`.

Shapes: V words, R rows of the input table (V and the buckets), D dimensions.
"""

from __future__ import annotations

import struct

import numpy as np

from pipeline.dataset.schema import FormatError
from pipeline.dataset.vocabulary import Vocabulary, make_vocabulary
from trainer.exporting.fasttext import HEADER, MAGIC, NEGATIVE_SAMPLING, SHAPE, VERSION, VOCABULARY
from trainer.importing.scan import Scan
from trainer.models.store import Floats, Model
from trainer.subwords.ngrams import Subwords, compose
from trainer.subwords.table import SubwordTable

START = struct.pack("<i", MAGIC)

_WORD_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 22
_SUPERVISED, _OLDER = 3, 11  # whose words have no n-grams then
_WORD = 0
_ENTRY = struct.Struct("<qb")


def read_fasttext(scan: Scan) -> Model:
    """Read all of a model; the output table has no rows where the file has none for words.

    Raises:
        FormatError: a quantized or damaged file.
    """
    _, version = struct.unpack("<2i", scan.take(8, "the header"))
    if not 0 < version <= VERSION:
        raise FormatError(f"{scan.path}: found version {version} of fastText's format, expected {VERSION} or earlier")
    dim, _, _, _, _, _, loss, kind, buckets, shortest, longest, _, _ = HEADER.unpack(
        scan.take(HEADER.size, "the header")
    )
    if (kind, version) == (_SUPERVISED, _OLDER):
        longest = 0
    vocabulary = _read_vocabulary(scan)
    rows = len(vocabulary)
    rule = _rule(scan.path, shortest, longest, buckets)
    input_RD = _read_matrix(scan, "the input table")
    if input_RD.shape[1] != dim or (len(input_RD) != rows + buckets if rule else len(input_RD) < rows):
        raise FormatError(f"{scan.path}: found an input table of {input_RD.shape}, expected {(rows + buckets, dim)}")
    output_VD = _read_matrix(scan, "the output table")
    if scan.peek(1):
        raise FormatError(f"{scan.path}: found more after the output table, expected the end of the file")
    if kind == _SUPERVISED or loss != NEGATIVE_SAMPLING or output_VD.shape != (rows, dim):
        output_VD = output_VD[:0, :dim]  # of labels, or of a tree's nodes
    if rule is None:
        return Model(input_RD[:rows], output_VD, vocabulary, {})
    composed_VD = compose(input_RD, *rule.parts(vocabulary.tokens))
    return Model(composed_VD, output_VD, vocabulary, {}, SubwordTable(rule, input_RD))


def _rule(path: str, shortest: int, longest: int, buckets: int) -> Subwords | None:
    """What words are made of: fastText's n-grams begin with one character, and there may be none."""
    shortest = max(shortest, 1)
    if longest < shortest or not buckets:
        return None
    try:
        return Subwords(shortest, longest, buckets)
    except ValueError as error:
        raise FormatError(f"{path}: subwords: {error}") from None


def _read_vocabulary(scan: Scan) -> Vocabulary:
    """Read the words; labels come after them, and are passed over."""
    size, words, labels, _, pruned = VOCABULARY.unpack(scan.take(VOCABULARY.size, "the vocabulary"))
    if pruned > 0:
        raise FormatError(f"{scan.path}: found a quantized model, expected one that is not")
    if min(words, labels) < 0 or size != words + labels:
        raise FormatError(f"{scan.path}: found {size} entries, expected {words} words and {labels} labels")
    tokens, counts = list[str](), list[int]()
    for number in range(size):
        token = scan.until(b"\0", _WORD_BYTES, f"word {number + 1}")
        count, kind = _ENTRY.unpack(scan.take(_ENTRY.size, f"word {number + 1}"))
        if (kind == _WORD) != (number < words) or count < 0:
            raise FormatError(f"{scan.path}: found word {number + 1} of kind {kind} and count {count}")
        if kind == _WORD:
            tokens.append(token.decode("utf-8", "replace"))
            counts.append(count)
    return make_vocabulary(tokens, counts)


def _read_matrix(scan: Scan, what: str) -> Floats:
    if scan.take(1, what) != b"\0":
        raise FormatError(f"{scan.path}: found a quantized model, expected one that is not")
    rows, dim = SHAPE.unpack(scan.take(SHAPE.size, what))
    try:
        table_RD = np.empty((rows, dim), np.float32)
    except (MemoryError, ValueError):
        raise FormatError(f"{scan.path}: found {what} of {rows} rows and {dim} dimensions, too large") from None
    flat = table_RD.reshape(-1)
    for start in range(0, len(flat), _BLOCK_BYTES // 4):
        part = flat[start : start + _BLOCK_BYTES // 4]
        part[:] = np.frombuffer(scan.take(4 * len(part), what), "<f4")
    return table_RD
