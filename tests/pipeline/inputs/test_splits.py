"""Spans of records, each read by itself, give the chunks and the dead letters of the whole file."""

from __future__ import annotations

import base64
import functools
import gzip
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as encryption
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import Config
from pipeline.errors import InputError
from pipeline.inputs import chunks, parquet_rows, records, splits
from pipeline.inputs import read as reading
from pipeline.inputs.chunks import BOM, Chunk
from pipeline.inputs.discover import InputFile
from pipeline.inputs.splits import Part, number_chunks, split_records
from pipeline.storage import storage
from pipeline.text.normalize import DeadLetter

pytestmark = pytest.mark.unit

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


@settings(max_examples=150)
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


@settings(max_examples=80, deadline=None)
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


def write(path: Path, data: bytes) -> InputFile:
    path.write_bytes(data)
    return InputFile(0, str(path), path.name, len(data))


def parquet_of(groups: Sequence[Sequence[str | None]], **options: object) -> bytes:
    sink = io.BytesIO()
    schema = pa.schema([("text", pa.string())])
    with pq.ParquetWriter(sink, schema, write_page_checksum=True, **options) as writer:
        for values in groups:
            writer.write_table(pa.table({"text": values}, schema))
    return sink.getvalue()


def spans_of(parts: list[Part]) -> list[tuple[int, int | None]]:
    return [(part.span.begin, part.span.end) for part in parts if part.span is not None]


def test_row_groups_are_joined_up_to_a_part(tmp_path: Path) -> None:
    plain = {"compression": "none", "use_dictionary": False}
    data = parquet_of([["x" * 100]] * 50 + [["x" * 9000]] + [[]] * 3 + [["x" * 100]] * 50, **plain)
    parts = split_records(write(tmp_path / "a", data), make_config(tmp_path / "a", "parquet"), 4000)
    begins, ends = zip(*spans_of(parts), strict=True)
    assert begins == (0, *ends[:-1])
    assert ends[-1] is None
    assert (50, 51) in spans_of(parts)[1:-1] or (50, 54) in spans_of(parts)  # which nothing cuts: more than a part
    assert len(parts) < 12
    assert sum(part.bytes > 4000 for part in parts) == 1


@pytest.mark.parametrize(
    ("data", "input_format", "encoding"),
    [
        (parquet_of([["one two"] * 9999]), "parquet", "utf-8"),
        (gzip.compress(b'{"text": "one"}\n' * 9999, 0), "jsonl", "utf-8"),
        (b'{"text": "one"}\r' * 9999, "jsonl", "utf-8"),
        (('{"text": "one"}\n' * 9999).encode("utf-16"), "jsonl", "utf-16"),
    ],
    ids=["one row group", "compressed", "carriage returns", "UTF-16"],
)  # fmt: skip
def test_what_nothing_cuts_is_one_part(data: bytes, input_format: str, encoding: str, tmp_path: Path) -> None:
    file = write(tmp_path / "a", data)
    assert split_records(file, make_config(tmp_path / "a", input_format, encoding=encoding), 100) == [Part(file)]


@pytest.mark.parametrize("input_format", ["jsonl", "parquet"])
def test_a_bad_record_is_named_by_its_place_in_the_file(input_format: str, tmp_path: Path) -> None:
    lines = [b'{"text": "one"}\n'] * 300 + [b'{"text": null}\n'] + [b'{"text": "one"}\n'] * 300
    data, place = b"".join(lines), "byte 4800"
    if input_format == "parquet":
        data, place = parquet_of([["one"] * 100] * 3 + [[None]] + [["one"] * 100] * 3), "row 300"
    file, config = write(tmp_path / "a", data), make_config(tmp_path / "a", input_format, encoding_errors="fail")
    with pytest.raises(InputError, match=rf"/a: record at {place}: found no string in the field 'text'"):
        split(file, config, 500)


def test_a_line_that_is_too_long_is_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", 1000)
    data = b'{"text": "one"}\n' * 10 + b'{"text": "' + b"x" * 3000 + b'"}\n' + b'{"text": "one"}\n' * 10
    file, config = write(tmp_path / "a", data), make_config(tmp_path / "a", "jsonl")
    found = list[str]()
    for part in split_records(file, config, 500):
        try:
            reading.measure_span(part, config)
        except InputError as error:
            found.append(str(error))
    assert len(found) == 1
    assert "record at byte 160: found more than" in found[0]


def test_a_damaged_row_group_is_named(tmp_path: Path) -> None:
    data = bytearray(parquet_of([[f"{group} one two"] * 3 + ["three"] for group in "abcdefgh"], compression="none"))
    data[data.index(b"f one two")] ^= 1
    file, config = write(tmp_path / "a", bytes(data)), make_config(tmp_path / "a", "parquet")
    parts = split_records(file, config, 100)
    assert len(parts) > 2
    with pytest.raises(InputError, match=r"/a: found damaged Parquet \(row group 5, row 20 or later: .*\), expected"):
        number_chunks([reading.measure_span(part, config) for part in parts], config)


@pytest.mark.parametrize("input_format", ["jsonl", "parquet"])
def test_a_file_that_changes_between_measuring_and_reading(input_format: str, tmp_path: Path) -> None:
    def content(word: str) -> bytes:
        return parquet_of([[word] * 99] * 5) if input_format == "parquet" else b'{"text": "%s"}\n' % word.encode() * 499

    file, config = write(tmp_path / "a", content("one")), make_config(tmp_path / "a", input_format)
    parts = split(file, config, 200)
    write(tmp_path / "a", content("four"))
    with pytest.raises(InputError, match=r"/a: changed while the run read it$"):
        read(parts, config)


def test_an_encrypted_column(tmp_path: Path) -> None:
    class Keys(encryption.KmsClient):  # type: ignore[misc]
        def wrap_key(self, key: bytes, _: str) -> bytes:
            return base64.b64encode(key)

    rules = encryption.EncryptionConfiguration("footer", column_keys={"text": ["text"]}, plaintext_footer=True)
    factory = encryption.CryptoFactory(lambda _: Keys())
    keys = factory.file_encryption_properties(encryption.KmsConnectionConfig(), rules)
    file = write(tmp_path / "a", parquet_of([["one two"] * 9] * 5, encryption_properties=keys))
    with pytest.raises(InputError, match=r"/a: found an encrypted Parquet file, expected Parquet: decrypt it first"):
        split_records(file, make_config(tmp_path / "a", "parquet"), 100)


@pytest.mark.parametrize("input_format", ["jsonl", "parquet"])
@pytest.mark.parametrize(("words", "size"), [(20, 1 << 13), (4000, 1 << 13), (4000, 1 << 22)])
def test_a_span_is_read_and_little_else(
    input_format: str, words: int, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [f"{number} " * words for number in range(24_000 // words * 40)]
    data = "".join(json.dumps({"text": value}) + "\n" for value in values).encode()
    if input_format == "parquet":
        rows = len(values) // 40
        groups = [values[i : i + rows] for i in range(0, len(values), rows)]
        data = parquet_of(groups, compression="none", use_dictionary=False)
    file = write(tmp_path / "a", data)
    config = make_config(tmp_path / "a", input_format, read_block_bytes=1 << 12)
    monkeypatch.setattr(reading, "cut_chunks", functools.partial(chunks.cut_chunks, size=size))
    monkeypatch.setattr(splits, "chunk_after", functools.partial(chunks.chunk_after, size=size))
    monkeypatch.setattr(parquet_rows, "_BUFFER_BYTES", 1 << 12)
    monkeypatch.setattr(reading, "_BEYOND_BYTES", 1 << 12)
    parts = split(file, config, len(data) // 10)
    read_bytes = count_bytes(monkeypatch)
    read(parts, config)
    assert len(parts) >= 10
    # One chunk of all that there is begins in the first span.
    assert sum(read_bytes) < (2 if size < len(data) else 3) * len(data)


def count_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list of the sizes of what is read."""
    sizes, opened = list[int](), storage.open_binary

    class Counting(io.RawIOBase):
        def __init__(self, uri: str) -> None:
            self._stream = opened(uri)

        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return True

        def close(self) -> None:
            self._stream.close()
            super().close()

        def seek(self, *place: int) -> int:
            return self._stream.seek(*place)

        def tell(self) -> int:
            return self._stream.tell()

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            data = self._stream.read(len(buffer))
            buffer[: len(data)] = data
            sizes.append(len(data))
            return len(data)

    monkeypatch.setattr(storage, "open_binary", Counting)
    return sizes


def test_row_groups_are_not_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = parquet_of([["word " * 1000] * 1024] * 8, compression="none", use_dictionary=False)
    file = write(tmp_path / "a", data)
    read_bytes = count_bytes(monkeypatch)
    found = reading.read_chunks(Part(file), make_config(tmp_path / "a", "parquet"), [].append)
    assert len(next(found).data) >= 1 << 20
    assert sum(read_bytes) < len(data) // 2
    assert sum(len(chunk.data) for chunk in found) > 38 << 20
