"""Files that are not the text they were taken for: one line names the file, what it is, and what to do."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import sqlite3
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import orc

from pipeline.cli import main
from pipeline.config import Config, parse_arguments
from pipeline.dataset.reader import open_dataset
from pipeline.errors import InputError
from pipeline.inputs import read as reading
from pipeline.inputs.chunks import CHUNK_BYTES
from pipeline.inputs.content import HEAD_BYTES
from pipeline.inputs.discover import InputFile
from pipeline.inputs.splits import Part, split_text
from pipeline.text.encodings import UTF_8, canonical_name
from pipeline.text.normalize import DeadLetter
from pipeline.transforms.read import make_batches
from tests.faults.test_compression import FORMATS
from tests.support.commands import TEXT, expect_failure, in_process, make_old, words_of

RUSSIAN = "Широкая электрификация южных губерний\nдаст мощный толчок\n" * 30
HINDI = "ऋषियों को सताने वाले दुष्ट\nराक्षसों के राजा\n" * 30
JAPANESE = "いろはにほへと\nちりぬるを我が世誰ぞ\n常ならむ\n" * 30
NOISE = random.Random(7).randbytes(5000)
JSONL = "".join(json.dumps({"id": number, "text": "the fox"}) + "\n" for number in range(50)).encode()
TABLE = pa.table({"text": ["the fox", "the dog"]})


def tar_of(kind: int, name: str = "a.txt") -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=kind) as archive:
        info = tarfile.TarInfo(name)
        info.size = len(TEXT)
        archive.addfile(info, io.BytesIO(TEXT.encode()))
    return sink.getvalue()


def old_tar() -> bytes:
    """A tar of before POSIX, which has no magic."""
    data = bytearray(tar_of(tarfile.USTAR_FORMAT))
    data[257:512] = bytes(255)
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


def zip_of(*names: str, stored: bool = True) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, "application/epub+zip" if name == "mimetype" else TEXT)
    return sink.getvalue()


def sink_of(write: object) -> bytes:
    sink = io.BytesIO()
    write(sink)  # type: ignore[operator]
    return sink.getvalue()


def sqlite_file() -> bytes:
    with sqlite3.connect(":memory:") as database:
        database.execute("create table texts (text)")
        return database.serialize() if hasattr(database, "serialize") else b"SQLite format 3\0" + bytes(100)


def arrow_file(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


PARQUET = sink_of(lambda sink: pq.write_table(TABLE, sink))
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"

#: Content, and what the line says of it.
NOT_TEXT: dict[str, tuple[bytes, str]] = {
    "UTF-16 with a mark": (RUSSIAN.encode("utf-16"), "text in utf-16, expected utf-8: --encoding utf-16"),
    "UTF-16 BE with a mark": (b"\xfe\xff" + TEXT.encode("utf-16-be"), "text in utf-16, expected utf-8"),
    "UTF-32 with a mark": (TEXT.encode("utf-32"), "text in utf-32, expected utf-8: --encoding utf-32 decodes it"),
    **{f"{language} in {encoding}": (text.encode(encoding), f"text in {encoding}, expected utf-8: --encoding")
       for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
       for language, text in (("English", TEXT), ("Russian", RUSSIAN), ("Hindi", HINDI), ("Japanese", JAPANESE))},
    "two letters of UTF-16": ("hi\n".encode("utf-16-le"), "text in utf-16-le"),
    "ISO-2022-JP": (JAPANESE.encode("iso-2022-jp"), "text in iso-2022-jp, expected utf-8: --encoding iso-2022-jp"),
    "EBCDIC": (TEXT.replace("ï", "i").encode("cp037"), "text in cp037, expected utf-8: --encoding cp037 decodes it"),
    "tar": (tar_of(tarfile.GNU_FORMAT), "a tar archive, expected text: unpack it first"),
    "tar, POSIX": (tar_of(tarfile.PAX_FORMAT, "naïve.txt"), "a tar archive"),
    "tar, old": (old_tar(), "a tar archive"),
    "zip": (zip_of("a.txt"), "a zip archive, expected text: unpack it first"),
    "empty zip": (zip_of(), "a zip archive"),
    "docx": (zip_of("[Content_Types].xml", "word/document.xml"), "a Word document (docx), expected text: extract"),
    "xlsx": (zip_of("xl/workbook.xml"), "an Excel workbook (xlsx)"),
    "odt": (b"PK\x03\x04mimetypeapplication/vnd.oasis.opendocument.textPK", "an OpenDocument file"),
    "epub": (zip_of("mimetype", "content.opf"), "an EPUB book"),
    "jar": (zip_of("META-INF/MANIFEST.MF"), "a jar archive"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + NOISE, "a 7z archive"),
    "rar": (b"Rar!\x1a\x07\x01\0" + NOISE, "a rar archive"),
    "ar": (b"!<arch>\na.o/", "an ar archive"),
    "deb": (b"!<arch>\ndebian-binary   1342943816", "a deb package"),
    "cpio": (b"070701" + b"0" * 104 + b"a.txt\0\0\0" + b"\0" * 20, "a cpio archive"),
    "lz4": (b"\x04\x22\x4d\x18" + NOISE, "lz4 data, expected text: decompress it first"),
    "snappy": (b"\xff\x06\0\0sNaPpY" + NOISE, "snappy data"),
    "compress": (b"\x1f\x9d\x90" + NOISE, "compress (.Z) data"),
    "lzma alone": (b"]\0\0\x80\0" + NOISE, "lzma data"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", "a PDF document, expected text: extract its text first"),
    "RTF": (b"{\\rtf1\\ansi the fox\\par}", "an RTF document"),
    "PostScript": (b"%!PS-Adobe-3.0\n(the fox) show\n", "a PostScript document"),
    "Office": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + NOISE, "a Microsoft Office document"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + NOISE, "a PNG image, expected text: leave it out of --input"),
    "JPEG": (b"\xff\xd8\xff\xe0\0\x10JFIF" + NOISE, "a JPEG image"),
    "GIF": (b"GIF89a" + NOISE, "a GIF image"),
    "BMP": (b"BM" + NOISE, "a BMP image"),
    "WAV": (b"RIFF\x24\x08\0\0WAVEfmt " + NOISE, "a WAV recording"),
    "MP3": (b"ID3\x03\0" + NOISE, "an MP3 recording"),
    "MP4": (b"\0\0\0\x18ftypmp42" + NOISE, "an MP4 video"),
    "ELF": (b"\x7fELF\x02\x01\x01\0" + NOISE, "a program"),
    "DOS program": (b"MZ\x90\0\x03\0\0\0" + NOISE, "a program"),
    "SQLite": (sqlite_file(), "an SQLite database, expected text: convert it"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + NOISE, "an HDF5 file"),
    "NumPy": (sink_of(lambda sink: np.save(sink, np.arange(99))), "a NumPy array"),
    "pickle": (pickle.dumps(["the fox"] * 9), "a pickle"),
    "safetensors": (b"\x40\0\0\0\0\0\0\0" + b'{"x":{"dtype":"F32","shape":[9]}}' + bytes(50), "a safetensors file"),
    "Parquet": (PARQUET, "a Parquet file, expected text: --input-format parquet --text-field NAME reads a column"),
    "ORC": (sink_of(lambda sink: orc.write_table(TABLE, sink)), "an ORC file, expected text: convert it to Parquet"),
    "Avro": (b"Obj\x01\x04\x14avro.codec\x08null" + NOISE, "an Avro file"),
    "Arrow": (arrow_file(TABLE), "an Arrow IPC file"),
    "Feather": (b"FEA1" + NOISE, "a Feather file"),
    "SequenceFile": (b"SEQ\x06\x19org.apache.hadoop.io.Text" + NOISE, "a Hadoop SequenceFile"),
    "Git LFS": (LFS, "a Git LFS pointer, expected text: fetch the file: git lfs pull"),
    "PGP": (b"-----BEGIN PGP MESSAGE-----\n\nhQEMA\n", "a PGP message"),
    "zeros": (bytes(5000), "binary data, expected text: leave it out of --input"),
    "zeros between words": (b"the\0fox\0saw\0the\0dog\0" * 99, "binary data"),
    "noise": (NOISE, "binary data"),
    "JSON lines": (JSONL, "JSON lines, expected text: --input-format jsonl --text-field NAME reads a field of it"),
    "one line of JSON": (b'{"text": "the fox"}', "JSON lines"),
}  # fmt: skip


def read(folder: Path, data: bytes, name: str = "a.txt", **options: object) -> tuple[bytes, list[DeadLetter]]:
    """Read a file as a worker does: its text, and what was set aside."""
    path, letters = folder / name, list[DeadLetter]()
    path.write_bytes(data)
    config = Config((str(path),), "out", **{"read_block_bytes": 4096, **options})  # type: ignore[arg-type]
    file = InputFile(0, str(path), name, len(data))
    text = b"".join(chunk.data for chunk in reading.read_chunks(Part(file), config, letters.append))
    return text, letters


def refusal(folder: Path, data: bytes, name: str = "a.txt", **options: object) -> str:
    with pytest.raises(InputError) as error:
        read(folder, data, name, **options)
    line = str(error.value)
    assert line.startswith(f"{folder}/{name}: found ")
    assert "\n" not in line
    return line


@pytest.mark.parametrize("kind", NOT_TEXT)
def test_what_is_not_text_is_named(kind: str, tmp_path: Path) -> None:
    data, said = NOT_TEXT[kind]
    assert f"found {said}" in refusal(tmp_path, data)
    for ending, compress in FORMATS.items():
        assert f"found {said}" in refusal(tmp_path, compress(data), f"a.txt{ending}")
    # A large file is not read in parts without that look.
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    with pytest.raises(InputError, match="found "):
        list(split_text(InputFile(0, str(path), "a.txt", 1 << 30)))


@pytest.mark.parametrize("kind", ["UTF-16 with a mark", "tar", "zip", "zeros", "JSON lines"])
def test_one_such_file_among_good_ones_ends_the_run(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_old(tmp_path)
    for number in range(3):
        (tmp_path / "in" / f"{number}.txt").write_text(TEXT)
    (tmp_path / "in" / "2b.txt.gz").write_bytes(gzip.compress(NOT_TEXT[kind][0]))
    expect_failure(tmp_path, in_process(words_of(tmp_path), capsys), "/in/2b.txt.gz: found ", NOT_TEXT[kind][1])


TEXT_AFTER_ALL = {
    "begins like a magic": b"BM, MZ and PAR1 are how some files begin\n",
    "SEQ": b"SEQ RCF ORC CDF\n", "PACK": b"PACK your bags\n", "GIF": b"GIF89a is a format\n", "PARE": b"PARENTS come\n",
    "a few odd signs": TEXT.encode() + b"\0\0 \x01\n", "colours": b"\x1b[31mred\x1b[0m words\n" * 9,
    "csv": b"id,text\n1,fox\n",
    "html": b"<!DOCTYPE html>\n<p>the fox</p>\n", "xml": b"<?xml version='1.0'?>\n<a>fox</a>\n",
    "braces": b"{the fox}\n{the dog}\n", "JSON later": b"the records:\n" + JSONL, "empty": b"", "one letter": b"a",
    "Cyrillic": RUSSIAN.encode(), "Hindi": HINDI.encode(), "cut off": ("é" * HEAD_BYTES).encode()[1:-1] + b"\n",
    "e-mail": b"From a@b.c Mon Jan  1\nTo: d@e.f\n\nthe fox\n", "at signs": b"@a @b @c @d\n" * 20,
}  # fmt: skip


@pytest.mark.parametrize("kind", TEXT_AFTER_ALL)
def test_text_is_not_mistaken_for_something_else(kind: str, tmp_path: Path) -> None:
    assert read(tmp_path, TEXT_AFTER_ALL[kind]) == (TEXT_AFTER_ALL[kind], [])


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "A.JSONL", "a.jsonl.gz", "a.json.zst"])
def test_names_of_json_lines(name: str, tmp_path: Path) -> None:
    assert "found JSON lines, expected text" in refusal(tmp_path, b"bad\n" + JSONL, name)
    assert read(tmp_path, JSONL, name, input_format="jsonl")[1] == []


@pytest.mark.parametrize(
    ("name", "what"), [("a.br", "brotli data"), ("a.snappy", "snappy data"), ("a.gpg", "an encrypted file")]
)
def test_formats_that_only_the_name_tells(name: str, what: str, tmp_path: Path) -> None:
    assert f"found {what}, expected text" in refusal(tmp_path, b"\x8b\x02\x80hello\x03", name)
    assert read(tmp_path, TEXT.encode(), name) == (TEXT.encode(), [])


def test_data_that_is_compressed_twice(tmp_path: Path) -> None:
    assert "found data that is compressed twice" in refusal(tmp_path, gzip.compress(gzip.compress(TEXT.encode())))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (TEXT.encode(), "text, expected JSON lines: --input-format text"),
        (b"id,text\n1,the fox\n2,the dog\n", "text, expected JSON lines"),
        (b'[{"text": "a"},\n {"text": "b"}]\n', "a JSON document, expected JSON lines: write each object"),
        (b'[{"text": "a"}, {"text": "b"}]', "a JSON document"),
        (b'{\n "text": "a"\n}\n', "a JSON document"),
        (b"word " * HEAD_BYTES, "text, expected JSON lines"),
        (PARQUET, "a Parquet file, expected JSON lines"),
        (zip_of("a.jsonl"), "a zip archive, expected JSON lines"),
        (JSONL.decode().encode("utf-16"), "text in utf-16, expected utf-8"),
    ],
    ids=["text", "csv", "array", "array of one line", "indented", "long line", "parquet", "zip", "utf-16"],
)
def test_what_is_not_json_lines(data: bytes, what: str, tmp_path: Path) -> None:
    assert f"found {what}" in refusal(tmp_path, data, "a.jsonl", input_format="jsonl")


@pytest.mark.parametrize("data", [b"[]\n[]\n", b"{\n", b'{"text": "a"}\nbad\n', b'bad\n{"text": "a"}\n', b"1\n", b"\n"])
def test_bad_records_are_still_records(data: bytes, tmp_path: Path) -> None:
    read(tmp_path, data, "a.jsonl", input_format="jsonl")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "cp1251", "koi8-r", "utf-7", "iso-8859-5"])
@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_other_encodings_are_decoded(encoding: str, block: int, tmp_path: Path) -> None:
    data, expected = RUSSIAN.encode(encoding), (RUSSIAN.encode(), [])
    assert read(tmp_path, data, encoding=encoding, read_block_bytes=block) == expected
    assert read(tmp_path, gzip.compress(data), encoding=encoding, read_block_bytes=block) == expected


@pytest.mark.parametrize("encoding", ["shift_jis", "euc-jp", "iso-2022-jp", "gb18030"])
def test_east_asian_encodings(encoding: str, tmp_path: Path) -> None:
    assert read(tmp_path, JAPANESE.encode(encoding), encoding=encoding) == (JAPANESE.encode(), [])


def test_json_lines_in_another_encoding(tmp_path: Path) -> None:
    data = json.dumps({"text": "naïve"}, ensure_ascii=False).encode("utf-16")
    assert read(tmp_path, data, "a.jsonl", input_format="jsonl", encoding="utf-16") == ("naïve\n".encode(), [])


@pytest.mark.parametrize(
    ("data", "encoding", "what"),
    [
        (RUSSIAN.encode("utf-16-le"), "utf-16", "no byte-order mark, expected utf-16: --encoding utf-16-le or"),
        (TEXT.encode("utf-16-be"), "utf-16-le", "text in utf-16-be, expected utf-16-le"),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), "utf-16-le", "text in utf-16, expected utf-16-le"),
        (TEXT.encode(), "utf-16-le", "text in utf-8, expected utf-16-le: without --encoding it is read as such"),
        (RUSSIAN.encode(), "latin-1", "text in utf-8, expected iso8859-1"),
        (b"\xef\xbb\xbfthe fox\n", "cp1252", "text in utf-8, expected cp1252"),
        (TEXT.encode("utf-16"), "cp1252", "text in utf-16, expected cp1252"),
        (TEXT.encode("utf-16-le"), "cp1252", "text in utf-16-le, expected cp1252"),
        (zip_of("a.txt"), "cp1252", "a zip archive, expected text"),
        (NOISE, "cp1252", "binary data, expected text"),
    ],
)
def test_text_in_another_encoding_than_named(data: bytes, encoding: str, what: str, tmp_path: Path) -> None:
    assert f"found {what}" in refusal(tmp_path, data, encoding=encoding)


def test_what_an_encoding_does_not_have_is_set_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_old(tmp_path)
    bad = (
        TEXT.encode("utf-16-le") + b"\x00\xd8" + "a bad line\n".encode("utf-16-le") + "a good one\n".encode("utf-16-le")
    )
    (tmp_path / "in" / "a.txt").write_bytes(bad)
    words = words_of(tmp_path, "--encoding", "UTF-16LE", "--max-dead-letter-fraction", "0.01")
    assert main(words) == 0
    manifest = open_dataset(str(tmp_path / "out")).manifest
    assert manifest.corpus.dead_letters == {"invalid-utf-8": 1}
    assert manifest.corpus.lines == 602
    assert manifest.options["encoding"] == "utf-16-le"
    said = capsys.readouterr().out
    assert f"set aside   1 invalid-utf-8, first in a.txt at byte {len(TEXT.encode()):,}\n" in said
    expect_failure(
        tmp_path, in_process([*words, "--encoding-errors", "fail"], capsys), "bytes that are not utf-16-le", "a.txt"
    )


def test_large_files_in_other_encodings_are_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    file = InputFile(0, f"{tmp_path}/a.txt", "a.txt", 9 * CHUNK_BYTES)
    for encoding, parts in ((UTF_8, 9), ("cp1252", 1)):
        batches = make_batches([file], Config((), "", encoding=encoding), CHUNK_BYTES)
        assert sum(map(len, batches)) == parts


@pytest.mark.parametrize("block", [1, 3, 4096])
def test_carriage_returns_alone_end_lines(block: int, tmp_path: Path) -> None:
    lines = [f"line {number} of an old Mac" for number in range(5000)]
    data, expected = "\r".join(lines).encode(), "\n".join(lines).encode()
    assert read(tmp_path, data, read_block_bytes=block) == (expected, [])
    assert read(tmp_path, gzip.compress(data), read_block_bytes=block) == (expected, [])
    # Later line feeds stay one line end with the carriage return before them.
    assert read(tmp_path, data + b"\r\nand\r\r\n", read_block_bytes=block) == (expected + b"\r\nand\n\r\n", [])


def test_carriage_returns_beside_line_feeds_stay(tmp_path: Path) -> None:
    data = b"a\rb\r\nc\rd\n"
    assert read(tmp_path, data) == (data, [])


def test_a_large_file_of_an_old_mac_is_not_split(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a line\r" * 20_000)
    file = InputFile(0, f"{tmp_path}/a.txt", "a.txt", 9 * CHUNK_BYTES)
    assert list(split_text(file, CHUNK_BYTES)) == [Part(file)]


LATIN = "".join(f"a naïve café number {number}\n" for number in range(200)).encode("latin-1")
ALL_SET_ASIDE = {
    "Latin-1": (LATIN, [], ": 200 invalid-utf-8, first in a.txt at byte 0)", "; see --encoding"),
    "a wrong field": (
        JSONL, ["--input-format", "jsonl", "--text-field", "body"],
        "set aside (100%: 50 no-text-field, first in a.txt at byte 0)", "; see --text-field",
    ),
    "rows without text": (
        sink_of(lambda sink: pq.write_table(pa.table({"text": [None] * 99 + ["the fox saw the dog"]}), sink)),
        ["--input-format", "parquet"], "99 no-text-field, first in a.txt at row 0)", "; see --text-field",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ALL_SET_ASIDE)
def test_text_that_is_all_set_aside(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, flags, *said = ALL_SET_ASIDE[kind]
    make_old(tmp_path)
    (tmp_path / "in" / "a.txt").write_bytes(data)
    run = in_process(words_of(tmp_path, *flags, "--run-id", "r", "--min-count", "5"), capsys)
    status, error = run()
    assert status == 1
    assert all(part in error for part in said), error
    assert f"{tmp_path}/out/runs/r/dead-letters: found " in error
    assert "token that frequent" not in error
    assert "expected at most --max-dead-letter-fraction 0.001" in error


def test_if_all_may_be_set_aside_the_error_still_says_that_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_old(tmp_path)
    (tmp_path / "in" / "a.txt").write_bytes(LATIN)
    _, error = in_process(words_of(tmp_path, "--max-dead-letter-fraction", "1"), capsys)()
    assert "no token in the input is that frequent" in error
    assert "(set aside: 200 invalid-utf-8, first in a.txt at byte 0)" in error


def test_a_text_without_tokens_beside_an_earlier_vocabulary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_old(tmp_path)
    (tmp_path / "in" / "a.txt").write_bytes(b"... --- ...\n" * 9)
    words = words_of(tmp_path, "--vocab", f"{tmp_path}/out")
    expect_failure(tmp_path, in_process(words, capsys), "--input: found no token in the text of its files")


def test_the_flags_are_known_to_the_parser() -> None:
    """Advice that names a flag which does not exist helps nobody."""
    for _, said in NOT_TEXT.values():
        if "--encoding" in said:
            encoding = said.removeprefix("text in ").partition(",")[0]
            config, _ = parse_arguments(["--input", "a", "--output", "b", "--encoding", encoding])
            assert config.encoding == canonical_name(encoding)
