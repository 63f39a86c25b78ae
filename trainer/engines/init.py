"""The two tables before training: equal bytes for equal seeds, whatever the engine or device.

Shapes: V vocabulary rows, D dimensions.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pipeline.dataset.vocabulary import Vocabulary
from trainer.config import TrainConfig
from trainer.engines.lines import LINE_BYTES, aligned
from trainer.errors import UserError
from trainer.models.store import Model
from trainer.subwords.ngrams import Parts, Subwords

Floats = npt.NDArray[np.float32]
Tables = tuple[Floats, Floats]

_PURPOSE = int.from_bytes(b"tables", "big")
_BLOCK_NUMBERS = 1 << 22
_LINE_NUMBERS = LINE_BYTES // np.dtype(np.float32).itemsize


def initial_tables(init: str, rows: int, dim: int, seed: int, buckets: int = 0) -> Tables:
    """Input table, float32 [V + buckets, D], and output table [V, D], each row on cache lines of its own.

    Args:
        init: word2vec (input uniform(±0.5/D), output zero), uniform (both so) or normal (both from N(0, 1)).
        rows: V.
        dim: D.
        seed: from 0.
        buckets: rows of n-grams, after the words' own.

    Raises:
        UserError: they take more memory than there is.
    """
    draw = _normal if init == "normal" else _uniform
    needed, memory = (2 * rows + buckets) * _row_numbers(dim) * 4 >> 20, memory_bytes() >> 20
    try:
        if needed > memory:
            raise MemoryError
        input_VD = draw(rows + buckets, dim, seed, stream=0)
        output_VD = empty_table(rows, dim) if init == "word2vec" else draw(rows, dim, seed, stream=1)
    except MemoryError:
        flags = f"--buckets {buckets} and --dim {dim}" if buckets else f"--dim {dim}"
        raise UserError(
            f"{flags}: found {memory} MiB of memory, expected {needed} MiB for the tables of {rows} words; lower "
            f"{'them' if buckets else 'it'}, or raise the pipeline's --min-count"
        ) from None
    return input_VD, output_VD


def memory_bytes() -> int:
    """Memory of this machine, or what a container may use of it."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError), open("/sys/fs/cgroup/memory.max") as file:
        return min(total, int(file.read()))
    return total


def empty_table(rows: int, dim: int) -> Floats:
    """Zeros, float32 [V, D], a row longer than a cache line beginning with one: then no vector straddles two.

    The kernel trains a sixth more pairs a second on such rows. The gap between two rows is at most 15 numbers.
    """
    table_VD: Floats = aligned((rows, _row_numbers(dim)), np.float32)[:, :dim]
    return table_VD


def _row_numbers(dim: int) -> int:
    return -(-dim // _LINE_NUMBERS) * _LINE_NUMBERS if dim > _LINE_NUMBERS else dim


def word_parts(config: TrainConfig, vocabulary: Vocabulary) -> Parts | None:
    """The rows of the input table that words are made of, None where each has its own alone."""
    rule = config.subword_rule()
    return rule.parts(vocabulary.tokens) if rule else None


def row_counts(parts: Parts, counts_V: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How often the rows of the input table that are part of a word occur."""
    of_parts = np.repeat(counts_V, np.diff(parts.offsets))
    return np.bincount(parts.rows, of_parts).astype(np.int64)


def warm_tables(tables: Tables, vocabulary: Vocabulary, model: Model, rule: Subwords | None = None) -> Tables:
    """Overwrite the rows of the words that a trained model knows; returns the same arrays.

    Where both have n-grams by the same rule, their rows are taken too. Otherwise words' own rows get the trained words'
    vectors, and n-grams start from scratch. An output table without rows is none.
    """
    found, wanted = model.input_VD.shape[1], tables[0].shape[1]
    if found != wanted:
        raise UserError(f"--init-from: found vectors of {found} dimensions, expected {wanted} as in --dim")
    rows_V = model.vocabulary.encode(vocabulary.tokens)
    known_V = np.flatnonzero(rows_V >= 0)
    input_VD = model.input_VD
    if rule is not None and model.subwords is not None and model.subwords.rule == rule:
        input_VD = model.subwords.rows_RD[: len(input_VD)]
        tables[0][len(vocabulary) :] = model.subwords.rows_RD[len(input_VD) :]
    for table_VD, trained_VD in zip(tables, (input_VD, model.output_VD), strict=True):
        if len(trained_VD):
            table_VD[known_V] = trained_VD[rows_V[known_V]]
    return tables


def _fractions(numbers: int, seed: int, stream: int, start: int) -> npt.NDArray[np.float32]:
    """Odd multiples of 2⁻²⁴ between 0 and 1; `start` (a multiple of 8) is the first one's place in the stream."""
    # Philox makes 4 words of 64 bits for each step of its counter, each of them two numbers here.
    counter = np.array([start // 8, 0, stream, 0], np.uint64)
    generator = np.random.Philox(key=np.array([seed, _PURPOSE], np.uint64), counter=counter)
    words = np.asarray(generator.random_raw(-(-numbers // 2)), "<u8").view("<u4")[:numbers]
    return ((words >> np.uint32(9)).astype(np.float32) + np.float32(0.5)) * np.float32(2**-23)


def _uniform(rows: int, dim: int, seed: int, stream: int) -> Floats:
    table_VD = empty_table(rows, dim)
    for start, block_RD in _blocks(table_VD):
        fractions = _fractions(block_RD.size, seed, stream, start) - np.float32(0.5)
        block_RD[:] = (fractions / np.float32(dim)).reshape(block_RD.shape)
    return table_VD


def _normal(rows: int, dim: int, seed: int, stream: int) -> Floats:
    """Box and Muller's transform (1958) of two uniform numbers each."""
    table_VD = empty_table(rows, dim)
    for start, block_RD in _blocks(table_VD):
        first = _fractions(block_RD.size, seed, 2 * stream + 2, start).astype(np.float64)
        second = _fractions(block_RD.size, seed, 2 * stream + 3, start)
        block_RD[:] = (np.sqrt(-2.0 * np.log(first)) * np.cos(2.0 * np.pi * second)).reshape(block_RD.shape)
    return table_VD


def _blocks(table_VD: Floats) -> Iterator[tuple[int, Floats]]:
    """Rows in blocks, each with how many numbers of the table, a multiple of 8, come before it."""
    rows, dim = table_VD.shape
    height = max(_BLOCK_NUMBERS // dim // 8, 1) * 8
    for row in range(0, rows, height):
        yield row * dim, table_VD[row : row + height]
