"""Text out of Parquet: a column's rows become the bytes that chunks are cut from, row group by row group if asked.

A column of lists becomes the lines that pipeline.text.items describes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.inputs.records import BadRecordError, RecordRules, line_of_list, reject
from pipeline.storage.retry import StoreError
from pipeline.text.items import MARK
from pipeline.text.normalize import DeadLetter

BATCH_ROWS = 1024
_BUFFER_BYTES = 1 << 20
_TEXT_TYPES = (
    pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view(), pa.null()
)  # fmt: skip
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view)


def read_parquet(stream: IO[bytes], rules: RecordRules) -> Iterator[bytes]:
    """Yield the text of a column, in file order, a few rows at a time; page checksums are verified where there are any.

    A dead letter's offset is the row's number.

    Raises:
        InputError: the file is damaged or has no such column of text, or a bad record under "fail".
    """
    yield from read_groups(open_parquet(stream, rules), rules)


def open_parquet(stream: IO[bytes], rules: RecordRules) -> pq.ParquetFile:
    """Read a file's footer.

    Raises:
        InputError: it is damaged, or there is no such column of text.
    """
    with _calling_it_damaged(rules, []):
        # Buffering ahead would hold the column's pages of all row groups that are asked for in memory.
        file = pq.ParquetFile(stream, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True)
        _require_text_column(file.schema_arrow, rules)
    return file


def count_rows(file: pq.ParquetFile) -> list[int]:
    return [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]


def column_bytes(file: pq.ParquetFile, rules: RecordRules) -> list[int]:
    """Return the bytes of the text column's pages in each row group, compressed or not, whichever is more.

    Raises:
        InputError: it is damaged, or encrypted.
    """
    metadata = file.metadata
    with _calling_it_damaged(rules, []):
        # An encrypted column's metadata ends the process, with no exception to catch; its pages raise one.
        next(file.iter_batches(1, columns=[rules.field], use_threads=False), None)
    places = range(metadata.num_columns)
    place = next((number for number in places if _is_of(file.schema.column(number).path, rules.field)), 0)
    columns = (metadata.row_group(number).column(place) for number in range(metadata.num_row_groups))
    return [max(column.total_compressed_size, column.total_uncompressed_size) for column in columns]


def read_groups(
    file: pq.ParquetFile, rules: RecordRules, begin: int = 0, end: int | None = None, rows_at_once: int = BATCH_ROWS
) -> Iterator[bytes]:
    """Yield the text of row groups from ``begin`` on, up to ``end`` or all; see read_parquet.

    A page is decompressed as a whole, and of it and its neighbours so many rows are text at a time: memory is
    bounded by the largest page, and by so many of the longest rows, not by the row group.
    """
    counts = count_rows(file)
    groups = range(begin, len(counts) if end is None else end)
    row = sum(counts[:begin])
    expected = file.metadata.num_rows if end is None else sum(counts[:end])
    with _calling_it_damaged(rules, counts) as place:
        place.row = row
        for batch in file.iter_batches(rows_at_once, list(groups), [rules.field], use_threads=False):
            rows = (_as_lists if rules.items else _as_binary)(batch.column(0))
            text = (_read_good_lists if rules.items else _read_good_rows)(rows)
            yield _read_each_row(rows, row, rules) if text is None else text
            row += len(rows)
            place.row = row
        place.row = None
        if row != expected:  # the footer, which has no checksum, must at least agree with itself
            raise pa.ArrowInvalid(f"{row} rows where the footer says {expected}")


class _Place:
    """The row that comes next, None where no row is to blame."""

    row: int | None = None


@contextlib.contextmanager
def _calling_it_damaged(rules: RecordRules, counts: list[int]) -> Iterator[_Place]:
    """Say in one line that a file is damaged, and where; the store's own trouble is none of the file's content."""
    place = _Place()
    try:
        yield place
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, StoreError) or (isinstance(error, OSError) and error.errno is not None):
            raise
        detail = " ".join(str(error).split())
        if "decrypt" in detail:
            raise InputError(
                f"{rules.name}: found an encrypted Parquet file, expected Parquet: decrypt it first"
            ) from None
        raise InputError(
            f"{rules.name}: found damaged Parquet ({_where(place.row, counts)}{detail}), expected a whole file"
        ) from None


def _where(row: int | None, counts: list[int]) -> str:
    if row is None:
        return ""
    ends = itertools.accumulate(counts)
    group = next((number for number, end in enumerate(ends) if row < end), None)
    return "" if group is None else f"row group {group}, row {row:,} or later: "


def _is_of(path: str, field: str) -> bool:
    """Tell whether a leaf of the schema is the column itself, or the values of its lists."""
    return path == field or path.startswith(field + ".")


def _require_text_column(schema: pa.Schema, rules: RecordRules) -> None:
    position = schema.get_field_index(rules.field)
    kind = None if position < 0 else schema.field(position).type
    if kind is None or not (_may_hold_items if rules.items else _may_hold_text)(kind):
        columns = ", ".join(" ".join(f"{column.name}: {column.type}".split()) for column in schema)
        wanted, advice = "list of strings or integers" if rules.items else "string", "--text-field"
        if kind is not None:
            other = "; for text another --tokenizer" if _may_hold_text(kind) else ""
            advice += "; for lists --tokenizer items" if _may_hold_items(kind) else other
        raise InputError(f"{rules.name}: found the columns ({columns}), expected {rules.field}: {wanted} ({advice})")


def _may_hold_items(kind: pa.DataType) -> bool:
    """Tell lists of text or integers; of dictionaries in lists, Arrow reads one row group alone."""
    if not any(is_kind(kind) for is_kind in _LISTS) or pa.types.is_dictionary(kind.value_type):
        return False
    return pa.types.is_integer(kind.value_type) or _may_hold_text(kind.value_type)


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


def _as_lists(column: pa.Array) -> pa.LargeListArray:
    """Return lists of binary; integers in decimal."""
    items = column.flatten()
    items = _as_binary(items.cast(pa.string()) if pa.types.is_integer(items.type) else items)
    ends = np.cumsum(pc.fill_null(pc.list_value_length(column), 0).to_numpy(), dtype=np.int64)
    return pa.LargeListArray.from_arrays(np.append(0, ends), items, mask=pc.is_null(column))


def _read_good_lists(rows: pa.LargeListArray) -> bytes | None:
    """Return the lines of lists that are all good, None where one is not: no item becomes a Python object."""
    items = rows.flatten()
    if rows.null_count or not _are_utf8(items) or pc.min(pc.binary_length(items)).as_py() == 0:
        return None
    text = _end_lines(pc.binary_join(rows, pa.scalar(MARK, items.type)), MARK)
    return text if text.count(b"\n") == len(rows) else None  # else an item has one


def _read_good_rows(rows: pa.LargeBinaryArray) -> bytes | None:
    """Return the text of rows that are all UTF-8, None where one is not: no row becomes a Python object."""
    return _end_lines(rows, b"") if _are_utf8(rows) else None


def _are_utf8(values: pa.LargeBinaryArray) -> bool:
    """Tell whether there are no nulls, and only valid UTF-8."""
    try:
        values.cast(pa.large_string())  # which checks it
    except pa.ArrowInvalid:
        return False
    return not values.null_count


def _end_lines(rows: pa.LargeBinaryArray, begin: bytes) -> bytes:
    """Join rows, each of which becomes a line after ``begin``."""
    if not len(rows):
        return b""
    between = pa.scalar(b"\n" + begin, pa.large_binary())
    joined = pc.binary_join(pa.ListArray.from_arrays([0, len(rows)], rows), between)
    return b"".join((begin, joined[0].as_buffer(), b"\n"))


def _read_each_row(rows: pa.LargeBinaryArray | pa.LargeListArray, first: int, rules: RecordRules) -> bytes:
    texts = []
    for number, value in enumerate(rows.to_pylist(), first):
        try:
            texts.append(_line_of_value(value, rules) + b"\n")
        except BadRecordError as error:
            reject(DeadLetter(number, str(error), _content_of(value, rules.field)), "row", rules)
    return b"".join(texts)


def _content_of(value: bytes | list[bytes | None] | None, field: str) -> bytes:
    """Return a dead letter's bytes: a null and a list weigh what they would as JSON."""
    if isinstance(value, bytes):
        return value
    shown = None if value is None else [None if one is None else one.decode("utf-8", "replace") for one in value]
    return json.dumps({field: shown}, ensure_ascii=False).encode()


def _line_of_value(value: bytes | list[bytes | None] | None, rules: RecordRules) -> bytes:
    how = "replace" if rules.encoding_errors == "replace" else "strict"
    try:
        if isinstance(value, list):
            return line_of_list([None if one is None else one.decode("utf-8", how) for one in value], replace=False)
        if value is not None:
            return value.decode("utf-8", how).encode("utf-8")
    except UnicodeDecodeError:
        raise BadRecordError("invalid-utf-8") from None
    raise BadRecordError("no-list-field" if rules.items else "no-text-field")
