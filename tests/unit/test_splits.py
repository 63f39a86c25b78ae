"""Spans of records, each read by itself, give the chunks and the dead letters of the whole file."""

from __future__ import annotations

import functools
import io
import json
import tempfile
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import chunks, reading, splits
from pipeline.chunks import BOM, Chunk
from pipeline.inputs import InputFile, Part
from pipeline.options import Config
from pipeline.splits import number_chunks, split_records
from pipeline.text import DeadLetter

VALUES = ["", "a", "one two", "né日😀", "x" * 70, "two\nlines", "\r", "\ufeff", "z z " * 60]
OTHERS = [b"", b" \t\r", b"{", b"[]", b'{"text": null}', b'{"text": "\xff"}', b'{"text": "\\ud800"}']


def make_config(path: Path, input_format: str, **options: object) -> Config:
    settings = {"read_block_bytes": 7, **options}
    return Config((str(path),), "out", input_format=input_format, **settings)  # type: ignore[arg-type]


def read(parts: list[Part], config: Config) -> tuple[list[Chunk], list[DeadLetter]]:
    """Read parts one after the other, each into a list of its own, as any worker might."""
    found, letters = list[Chunk](), list[DeadLetter]()
    for part in parts:
        found += reading.read_chunks(part, config, letters.append)
    return found, letters


def split(file: InputFile, config: Config, part_bytes: int) -> list[Part]:
    parts = split_records(file, config, part_bytes)
    if parts == [Part(file)]:
        return parts
    return number_chunks([reading.measure_span(part, config) for part in reversed(parts)], config)


def compare(data: bytes, input_format: str, part_bytes: int, size: int, **options: object) -> list[Part]:
    """Check a file read in spans against the same file read as a whole, in chunks of ``size`` bytes."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(reading, "cut_chunks", functools.partial(chunks.cut_chunks, size=size)),
        mock.patch.object(splits, "chunk_after", functools.partial(chunks.chunk_after, size=size)),
    ):
        path = Path(folder) / "a"
        path.write_bytes(data)
        file, config = InputFile(0, str(path), "a", len(data)), make_config(path, input_format, **options)
        parts = split(file, config, part_bytes)
        assert read(parts, config) == read([Part(file)], config)
        return parts


@settings(max_examples=300)
@given(
    lines=st.lists(
        st.sampled_from(OTHERS) | st.sampled_from(VALUES).map(lambda value: json.dumps({"text": value}).encode()),
        min_size=1, max_size=30,
    ),
    part_bytes=st.integers(1, 200),
    size=st.sampled_from([5, 16, 64, 1000]),
    ending=st.sampled_from([b"\n", b"\r\n"]),
    mark=st.booleans(),
    ended=st.booleans(),
    policy=st.sampled_from(["dead-letter", "replace"]),
    plain=st.booleans(),
)  # fmt: skip
def test_spans_of_json_lines(
    lines: list[bytes], part_bytes: int, size: int, ending: bytes, mark: bool, ended: bool, policy: str, plain: bool
) -> None:
    lines = [b'{"text": "begin"}', *(line if plain else line.replace(b"\\u00e9", "é".encode()) for line in lines)]
    data = BOM * mark + ending.join(lines) + ending * ended
    parts = compare(data, "jsonl", part_bytes, size, encoding_errors=policy)
    assert len(parts) == -(-len(data) // part_bytes)


@settings(max_examples=150, deadline=None)
@given(
    groups=st.lists(st.lists(st.none() | st.sampled_from(VALUES), max_size=6), min_size=1, max_size=12),
    kind=st.sampled_from(
        [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()]
    ),
    part_bytes=st.integers(1, 400),
    size=st.sampled_from([5, 16, 64, 1000]),
)
def test_spans_of_parquet(groups: list[list[str | None]], kind: pa.DataType, part_bytes: int, size: int) -> None:
    sink = io.BytesIO()
    tables = []
    for values in groups:
        column = pa.array(values, pa.string())
        column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)
        tables.append(pa.table({"id": pa.array(range(len(values)), pa.int64()), "text": column}))
    with pq.ParquetWriter(sink, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)  # a row group each, also without rows
    compare(sink.getvalue(), "parquet", part_bytes, size)
