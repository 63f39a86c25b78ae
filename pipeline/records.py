"""Text out of records: a field of JSON lines or a column of Parquet becomes the bytes that chunks are cut from.

Each record's text is followed by one line feed, so that a record reads as the same lines would in a text file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.chunks import BOM
from pipeline.dataset.retry import StoreError
from pipeline.errors import InputError
from pipeline.text import DeadLetter

INPUT_FORMATS = ("text", "jsonl", "parquet")

#: A longer line is taken for a file that is no JSON lines: a record has to lie in memory as a whole.
MAX_RECORD_BYTES = 64 << 20

_BATCH_ROWS = 1024
_PARQUET_BUFFER_BYTES = 1 << 20
_TEXT_TYPES = (
    pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view(), pa.null()
)  # fmt: skip
_SURROGATE = re.compile("[\ud800-\udfff]")
# Numbers are never looked at; as floats they have no limit of digits, as Python's integers from text do.
_parse_json = json.JSONDecoder(parse_int=float).decode

_FOUND = {
    "invalid-json": "found no JSON, expected one JSON object a line",
    "no-text-field": "found no string in the field {field!r}, expected one (see --text-field)",
    "invalid-utf-8": "found text that is no UTF-8, expected UTF-8 (see --encoding-errors)",
}


@dataclass(frozen=True)
class RecordRules:
    """Which text a file's records hold, and what becomes of records without it.

    Attributes:
        name: of the file, for errors.
        field: of the record, that holds the text.
        encoding_errors: "fail" ends the run at any bad record; "replace" puts U+FFFD for what is no UTF-8; else, and
            where there is nothing to replace, the record is set aside.
        set_aside: takes the bad records, in the file's order.
    """

    name: str
    field: str
    encoding_errors: str
    set_aside: Callable[[DeadLetter], None]


class _BadRecordError(Exception):
    """A record has no text; the message is the dead letter's reason."""


def read_jsonl(blocks: Iterable[bytes], rules: RecordRules) -> Iterator[bytes]:
    """Yield the text of JSON lines, in blocks of any size; lines of white space alone are no records.

    A dead letter's offset is that of its line in ``blocks``.

    Raises:
        InputError: a bad record under "fail", or a line that is too long for a record.
    """
    for offset, lines in _whole_lines(blocks, rules.name):
        text = _read_good_lines(lines, rules.field)
        yield _read_each_line(lines, offset, rules) if text is None else text


def _whole_lines(blocks: Iterable[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """Yield ``(offset, whole lines)``, each line ended by a line feed; a byte-order mark is left out."""
    offset, size, pieces = 0, 0, list[bytes]()
    for block in blocks:
        cut = block.rfind(b"\n") + 1
        pieces.append(block[:cut] if cut else block)
        size += len(pieces[-1])
        if size > MAX_RECORD_BYTES:
            _require_short_lines(b"".join(pieces), offset, name)
        if cut:
            yield _without_mark(offset, b"".join(pieces))
            offset, pieces = offset + size, [block[cut:]]
            size = len(block) - cut
    if size > MAX_RECORD_BYTES:
        _require_short_lines(b"".join(pieces), offset, name)
    if size:
        yield _without_mark(offset, b"".join(pieces) + b"\n")


def _require_short_lines(lines: bytes, offset: int, name: str) -> None:
    for line in lines.split(b"\n"):
        if len(line) > MAX_RECORD_BYTES:
            raise InputError(
                f"{name}: record at byte {offset}: found more than {MAX_RECORD_BYTES >> 20} MiB, "
                "expected one JSON object a line"
            )
        offset += len(line) + 1


def _without_mark(offset: int, lines: bytes) -> tuple[int, bytes]:
    return (len(BOM), lines[len(BOM) :]) if offset == 0 and lines.startswith(BOM) else (offset, lines)


def _read_good_lines(lines: bytes, field: str) -> bytes | None:
    """Return the text of records that are all good, None where one is not: the way for nearly every block."""
    try:
        texts = [_parse_json(line)[field] for line in lines.decode("utf-8").split("\n")[:-1]]
        return "\n".join([*texts, ""]).encode("utf-8")
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def _read_each_line(lines: bytes, offset: int, rules: RecordRules) -> bytes:
    texts = []
    for line in lines.split(b"\n")[:-1]:
        try:
            if line.strip(b" \t\r"):
                texts.append(_text_of_line(line, rules) + b"\n")
        except _BadRecordError as error:
            _reject(DeadLetter(offset, str(error), line), "byte", rules)
        offset += len(line) + 1
    return b"".join(texts)


def _text_of_line(line: bytes, rules: RecordRules) -> bytes:
    replace = rules.encoding_errors == "replace"
    try:
        record = _parse_json(line.decode("utf-8", "replace" if replace else "strict"))
    except UnicodeDecodeError:
        raise _BadRecordError("invalid-utf-8") from None
    except (ValueError, RecursionError):
        raise _BadRecordError("invalid-json") from None
    text = record.get(rules.field) if isinstance(record, dict) else None
    if not isinstance(text, str):
        raise _BadRecordError("no-text-field")
    try:  # JSON can spell half of a surrogate pair, which is no character
        return (_SURROGATE.sub("\ufffd", text) if replace else text).encode("utf-8")
    except UnicodeEncodeError:
        raise _BadRecordError("invalid-utf-8") from None


def _reject(letter: DeadLetter, unit: str, rules: RecordRules) -> None:
    if rules.encoding_errors == "fail":
        message = _FOUND[letter.reason].format(field=rules.field)
        raise InputError(f"{rules.name}: record at {unit} {letter.offset}: {message}")
    rules.set_aside(letter)


def read_parquet(stream: IO[bytes], rules: RecordRules) -> Iterator[bytes]:
    """Yield the text of a column, in file order, a few rows at a time; page checksums are verified where there are any.

    A dead letter's offset is the row's number.

    Raises:
        InputError: the file is damaged or has no such column of text, or a bad record under "fail".
    """
    try:
        file = pq.ParquetFile(stream, buffer_size=_PARQUET_BUFFER_BYTES, page_checksum_verification=True)
        _require_text_column(file.schema_arrow, rules)
        row = 0
        for batch in file.iter_batches(_BATCH_ROWS, columns=[rules.field], use_threads=False):
            rows = _as_binary(batch.column(0))
            text = _read_good_rows(rows)
            yield _read_each_row(rows, row, rules) if text is None else text
            row += len(rows)
        if row != file.metadata.num_rows:  # the footer, which has no checksum, must at least agree with itself
            raise pa.ArrowInvalid(f"{row} rows where the footer says {file.metadata.num_rows}")
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, StoreError) or (isinstance(error, OSError) and error.errno is not None):
            raise  # the store's own trouble, not the file's content
        detail = " ".join(str(error).split())
        raise InputError(f"{rules.name}: found damaged Parquet ({detail}), expected a whole file") from None


def _require_text_column(schema: pa.Schema, rules: RecordRules) -> None:
    position = schema.get_field_index(rules.field)
    if position < 0 or not _may_hold_text(schema.field(position).type):
        columns = ", ".join(" ".join(f"{column.name}: {column.type}".split()) for column in schema)
        raise InputError(f"{rules.name}: found the columns ({columns}), expected {rules.field}: string (--text-field)")


def _may_hold_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return kind in _TEXT_TYPES or pa.types.is_fixed_size_binary(kind)


def _as_binary(column: pa.Array) -> pa.LargeBinaryArray:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type == pa.string_view():  # which cannot be cast to binary at once
        column = column.cast(pa.large_string())
    return column.cast(pa.large_binary())


def _read_good_rows(rows: pa.LargeBinaryArray) -> bytes | None:
    """Return the text of rows that are all UTF-8, None where one is not: no row becomes a Python object."""
    if rows.null_count or not len(rows):
        return None
    try:
        rows.cast(pa.large_string())  # which checks that it is UTF-8
    except pa.ArrowInvalid:
        return None
    joined = pc.binary_join(pa.ListArray.from_arrays([0, len(rows)], rows), pa.scalar(b"\n", pa.large_binary()))
    return bytes(joined[0].as_buffer()) + b"\n"


def _read_each_row(rows: pa.LargeBinaryArray, first: int, rules: RecordRules) -> bytes:
    texts = []
    for number, value in enumerate(rows.to_pylist(), first):
        try:
            texts.append(_text_of_value(value, rules) + b"\n")
        except _BadRecordError as error:
            # A null weighs what it would as JSON.
            content = json.dumps({rules.field: None}).encode() if value is None else value
            _reject(DeadLetter(number, str(error), content), "row", rules)
    return b"".join(texts)


def _text_of_value(value: bytes | None, rules: RecordRules) -> bytes:
    if value is None:
        raise _BadRecordError("no-text-field")
    try:
        return value.decode("utf-8", "replace" if rules.encoding_errors == "replace" else "strict").encode("utf-8")
    except UnicodeDecodeError:
        raise _BadRecordError("invalid-utf-8") from None
