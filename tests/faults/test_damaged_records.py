"""Damaged files of records: an error of one line, never other text."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import Config
from pipeline.errors import InputError
from pipeline.inputs import read as reading
from pipeline.inputs.discover import InputFile
from pipeline.inputs.parquet_rows import read_parquet
from pipeline.inputs.records import RecordRules
from pipeline.inputs.splits import Part
from pipeline.storage import storage
from pipeline.text.normalize import DeadLetter
from tests.faults.test_compression import FORMATS, every_format

LINES = [f"line number {number} of the text, naïve" for number in range(3000)]
TEXT = "".join(line + "\n" for line in LINES).encode()
JSONL = "".join(json.dumps({"id": number, "text": line}) + "\n" for number, line in enumerate(LINES)).encode()


def make_parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=1000, write_page_checksum=True)
    return sink.getvalue()


PARQUET = make_parquet(pa.table({"id": list(range(len(LINES))), "text": LINES}))


def read(path: Path, kind: str, data: bytes) -> tuple[bytes, list[DeadLetter]]:
    path.write_bytes(data)
    letters: list[DeadLetter] = []
    config = Config((str(path),), "out", input_format=kind, read_block_bytes=4096)
    file = InputFile(0, str(path), path.name, len(data))
    return b"".join(chunk.data for chunk in reading.read_chunks(Part(file), config, letters.append)), letters


@every_format
@pytest.mark.parametrize(
    "kept", [lambda n: n // 2, lambda n: n * 99 // 100, lambda n: n - 1], ids=["half", "99 %", "last byte"]
)
def test_truncated_compressed_json_lines(ending: str, kept: Callable[[int], int], tmp_path: Path) -> None:
    path, data = tmp_path / f"corpus.jsonl{ending}", FORMATS[ending](JSONL)
    assert read(path, "jsonl", data) == (TEXT, [])
    with pytest.raises(InputError, match=r"corpus\.jsonl.*truncated"):
        read(path, "jsonl", data[: kept(len(data))])


def test_truncated_plain_json_lines_lose_the_torn_record_visibly(tmp_path: Path) -> None:
    text, letters = read(tmp_path / "a.jsonl", "jsonl", JSONL[:-5])
    last = JSONL[:-5].rfind(b"\n") + 1
    assert text == TEXT[: TEXT[:-1].rfind(b"\n") + 1]
    assert letters == [DeadLetter(last, "invalid-json", JSONL[last:-5])]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (gzip.compress(PARQUET), "gzip data"), (b"", "an empty file"), (TEXT, "text"), (JSONL, "JSON lines"),
        (bytes(100), "binary data"),
    ],
    ids=["gzip", "empty", "text", "jsonl", "zeros"],
)  # fmt: skip
def test_what_is_no_parquet(data: bytes, found: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"a\.parquet: found {found}, expected Parquet: .+") as error:
        read(tmp_path / "a.parquet", "parquet", data)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["text", "jsonl"])
def test_parquet_taken_for_something_else(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.parquet: found a Parquet file, expected .+: --input-format parquet "):
        read(tmp_path / "a.parquet", kind, PARQUET)


@pytest.mark.parametrize("kept", [4, 100, len(PARQUET) // 2, len(PARQUET) - 1])
def test_truncated_parquet(kept: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.parquet: found damaged Parquet"):
        read(tmp_path / "a.parquet", "parquet", PARQUET[:kept])


def test_a_flipped_bit_in_parquet_never_changes_the_text() -> None:
    refused = 0
    for position in range(0, len(PARQUET), 29):
        data, letters = bytearray(PARQUET), list[DeadLetter]()
        data[position] ^= 1 << position % 8
        try:
            text = b"".join(read_parquet(io.BytesIO(bytes(data)), RecordRules("f", "text", "fail", letters.append)))
        except InputError:
            refused += 1
        else:
            assert (text, letters) == (TEXT, [])
    assert refused > 100


def test_rows_that_the_footer_lost(tmp_path: Path) -> None:
    # 3000 as thrift's zigzag varint stands once, behind the schema: the file's own count of its rows.
    footer = PARQUET.rfind(b"\xf0\x2e")
    data = PARQUET[:footer] + b"\xf2\x2e" + PARQUET[footer + 2 :]
    with pytest.raises(InputError, match=r"found damaged Parquet \(3000 rows where the footer says 3001\)"):
        read(tmp_path / "a.parquet", "parquet", data)


@pytest.mark.parametrize(
    ("table", "columns", "advice"),
    [
        (pa.table({"body": ["a"]}), r"body: string", "--text-field"),
        (pa.table({"text": [1]}), r"text: int64", "--text-field"),
        (pa.table({"text": [["a"]]}), r"text: list<.*>", "--text-field; for lists --tokenizer items"),
        (pa.table([["a"], ["b"]], names=["text", "text"]), r"text: string, text: string", "--text-field"),
    ],
    ids=["missing", "number", "list", "twice"],
)
def test_a_column_that_is_no_text(table: pa.Table, columns: str, advice: str, tmp_path: Path) -> None:
    message = rf"a\.parquet: found the columns \({columns}\), expected text: string \({advice}\)$"
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.parquet", "parquet", make_parquet(table))


def test_the_stores_own_trouble_is_not_called_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(storage, "open_binary", lambda uri: Failing(PARQUET))
    with pytest.raises(InputError, match=r"a\.parquet: found Input/output error, expected a readable file"):
        read(tmp_path / "a.parquet", "parquet", PARQUET)
