"""What a run over a trillion tokens would meet, made instead of read: text, and what the stages tell each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.dataset.shard_index import GROUP
from pipeline.dataset.shards import shard_name
from pipeline.pairs import chunk_stats
from pipeline.pairs.chunk_stats import pack_rows
from pipeline.publishing import written
from pipeline.vocabulary.count import COUNTS_SCHEMA

_BLOCK = 1 << 20  # tokens made at once
_LINE = 20  # tokens of a line
_LETTERS = 9  # 26^9 > 2^40
_ROWS = 1 << 13  # chunks and shards made at once


def token_ids(tokens: int, distinct: int, seed: int = 1) -> Iterator[NDArray[np.int64]]:
    """Yield blocks of ids below ``distinct``: each once at its own place, all others by Zipf's law.

    Raises:
        ValueError: there are fewer tokens than distinct ones.
    """
    if not 0 < distinct <= tokens:
        raise ValueError(f"found {distinct} distinct ones of {tokens} tokens, expected 1 to {tokens}")
    for block, start in enumerate(range(0, tokens, _BLOCK)):
        place = np.arange(start, min(start + _BLOCK, tokens), dtype=np.int64)
        ids = zipf_ids(len(place), distinct, seed, block)
        turn = place * distinct // tokens  # goes up by one where the next id has its place
        first = turn != (place - 1) * distinct // tokens
        ids[first] = turn[first]
        yield ids


def zipf_ids(count: int, distinct: int, *seed: int) -> NDArray[np.int64]:
    """Draw ids below ``distinct``, k with a chance of about 1 / k."""
    random = np.random.default_rng(seed)
    return np.minimum(distinct ** random.random(count), distinct).astype(np.int64) - 1


def words_of(ids: NDArray[np.int64]) -> bytes:
    """Spell ids as words of up to nine letters, a different one for each id below 2^40, and white space behind each."""
    letters = np.full((len(ids), _LETTERS + 1), ord(" "), np.uint8)
    letters[:, :_LETTERS] = _spell(ids)
    letters[_LINE - 1 :: _LINE, -1] = ord("\n")
    flat = letters.ravel()
    return flat[flat > 0].tobytes()


def word_column(ids: NDArray[np.int64]) -> pa.Array:
    """Spell ids as words_of does, as a column of bytes."""
    letters = _spell(ids)
    ends = np.concatenate(([0], np.cumsum((letters > 0).sum(axis=1)))).astype(np.int32)
    flat = letters.ravel()
    return pa.Array.from_buffers(pa.binary(), len(ids), [None, pa.py_buffer(ends), pa.py_buffer(flat[flat > 0])])


def _spell(ids: NDArray[np.int64]) -> NDArray[np.uint8]:
    rest = ids * 0x9E3779B1 % (1 << 40)  # odd: no two ids become one
    letters = np.zeros((len(ids), _LETTERS), np.uint8)
    for column in range(_LETTERS):
        letters[:, column] = np.where((rest > 0) | (column == 0), ord("a") + rest % 26, 0)
        rest //= 26
    return letters


def write_text(path: Path, tokens: int, distinct: int) -> None:
    """Write text of so many tokens, in the memory of one block."""
    with path.open("wb") as file:
        for ids in token_ids(tokens, distinct):
            file.write(words_of(ids))


def write_line(path: Path, size: int, distinct: int) -> None:
    """Write so many bytes of words with spaces between them, and no line feed."""
    with path.open("wb") as file:
        for ids in token_ids(size, min(size, distinct)):  # words are longer than one byte: more than enough
            file.write(words_of(ids).replace(b"\n", b" ")[: size - file.tell()])
            if file.tell() == size:
                return


def stored_files(files: int) -> Iterator[tuple[str, int, float]]:
    """Yield what a store lists: URI, bytes, Unix time."""
    for number in range(files):
        yield (
            f"s3://bucket/crawl/segment-{number // 1000:05d}/documents-{number:08d}.warc.txt.gz",
            2_400_000 + number % 1000,
            1.7e9 + number,
        )


def packed_chunks(kind: type[Any], chunks: int, files: int, together: int = 8) -> Iterator[bytes]:
    """Yield what packing.Pack makes of one record of each chunk, in small bundles, the last chunks first."""
    sums, row_type = pack_rows([], kind), chunk_stats._row_type(kind)
    for start in reversed(range(0, chunks, _ROWS)):
        number = np.arange(start, min(start + _ROWS, chunks), dtype=np.int64)
        random = np.random.default_rng(start)
        file = number * files // chunks
        made = {
            "file": file, "chunk": number + file * -chunks // files, "bytes": 1 << 20, "lines": 8000,
            "tokens": random.integers(150_000, 170_000, len(number)),
            "weight": random.integers(3_000_000, 4_000_000, len(number)),
        }  # fmt: skip
        rows = np.zeros(len(number), row_type)
        for name in rows.dtype.names or ():
            rows[name] = made[name] if name in made else _bytes(np.random.default_rng((start, 1)), len(rows), 16)
        data, step = memoryview(rows.tobytes()), together * rows.itemsize
        for place in range(0, len(data), step):
            yield sums + bytes(data[place : place + step])


def packed_shards(passes: int, shards: int, groups: int) -> Iterator[bytes]:
    """Yield what written.pack_shards makes of shards of so many row groups each, one by one."""
    for index in range(passes):
        for start in range(0, shards, _ROWS):
            count = min(_ROWS, shards - start)
            random = np.random.default_rng((index, start))
            listed = np.zeros(count * groups, GROUP)
            listed["bytes"] = random.integers(1_400_000, 1_500_000, len(listed))
            listed["rows"], listed["xxh3"] = 1 << 20, _bytes(random, len(listed), 8)
            rows = np.zeros(count, written._SHARD)
            rows["shard"] = [shard_name(index, start + number, shards) for number in range(count)]
            for name, value in (("pass", index), ("rows", groups << 20), ("kept", 1000), ("groups", groups)):
                rows[name] = value
            rows["bytes"] = listed["bytes"].reshape(count, groups).sum(axis=1, dtype=np.int64) + 31_000
            for name, size in (("sha256", 32), ("digest", 32), ("footer_xxh3", 8)):
                rows[name] = _bytes(random, count, size)
            one = (1).to_bytes(8, "little")
            for number in range(count):
                ours = listed[number * groups : (number + 1) * groups]
                yield one + rows[number : number + 1].tobytes() + ours.tobytes()


def _bytes(random: np.random.Generator, rows: int, size: int) -> NDArray[np.void]:
    return np.frombuffer(random.bytes(rows * size), f"V{size}")


def counted_words(rows: int, distinct: int, *seed: int) -> pa.Table:
    """Partial counts of about so many words, columns of COUNTS_SCHEMA, as a thread hands them on."""
    return counts_of(*np.unique(zipf_ids(rows, distinct, *seed), return_counts=True))


def counts_of(ids: NDArray[np.int64], counts: NDArray[np.int64]) -> pa.Table:
    """Words and their counts, columns of COUNTS_SCHEMA."""
    return pa.table([word_column(ids), counts], schema=COUNTS_SCHEMA)


def table_of(columns: Sequence[Any], names: Sequence[str]) -> pa.Table:
    """A table of columns."""
    return pa.table([pa.array(column) for column in columns], names=list(names))
