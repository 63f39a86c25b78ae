"""What a file of the format looks like, and the one error that says a file does not."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
import pyarrow as pa

FORMAT_VERSION = 1

#: Pairs a row group aims at: large enough for one ranged read to pay, small enough to hold many in memory.
ROW_GROUP_PAIRS = 1 << 20

#: Ids are int32; the largest one is kept free.
MAX_VOCABULARY_ROWS = 2**31 - 1


def _required(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


PAIR_SCHEMA = _required(center=pa.int32(), context=pa.int32())
VOCAB_SCHEMA = _required(token=pa.string(), count=pa.int64())
INPUTS_SCHEMA = _required(name=pa.string(), bytes=pa.int64(), digest=pa.string(), lines=pa.int64(), tokens=pa.int64())
_ROW_GROUP = _required(offset=pa.int64(), bytes=pa.int64(), rows=pa.int64(), xxh3=pa.string())
SHARDS_SCHEMA = _required(
    **{
        "pass": pa.int32(),
        "shard": pa.string(),
        "rows": pa.int64(),
        "bytes": pa.int64(),
        "sha256": pa.string(),
        "digest": pa.string(),
        "footer_xxh3": pa.string(),
        "row_groups": pa.list_(pa.field("element", pa.struct(list(_ROW_GROUP)), nullable=False)),
    }
)
PHRASES_SCHEMA = _required(first=pa.string(), second=pa.string(), count=pa.int64(), score=pa.float64())
DEAD_LETTERS_SCHEMA = _required(file=pa.string(), offset=pa.int64(), reason=pa.string(), content=pa.binary())


T = TypeVar("T")

_MISMATCH = re.compile(r"Expected (.*?)(?:, got (.*))?")


class FormatError(Exception):
    """A file is not what the format, the manifest or the pointer says; the message is one line."""


def sha256_hex(data: bytes | memoryview | pa.Buffer) -> str:
    """Return the SHA-256 of ``data`` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: Mapping[str, object]) -> bytes:
    """Encode ``value`` so that equal values are equal bytes: sorted keys, one space of indent, LF at the end."""
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8")


def require_sha256(found: str, expected: str, path: str) -> None:
    """Refuse a file of another SHA-256.

    Raises:
        FormatError: with the beginnings of both.
    """
    if found != expected:
        raise FormatError(f"{path}: found SHA-256 {found[:16]}…, expected {expected[:16]}…")


def parse_json_object(data: bytes, path: str) -> dict[str, Any]:
    """Decode one JSON object.

    Raises:
        FormatError: the bytes are no UTF-8 JSON object.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: found no valid JSON ({error}), expected a JSON object") from None
    if not isinstance(value, dict):
        raise FormatError(f"{path}: found a JSON {type(value).__name__}, expected an object")
    return value


def parse_struct(data: bytes, kind: type[T], path: str) -> T:
    """Decode one JSON object of this format version as a msgspec struct.

    Raises:
        FormatError: no such object, another version, a missing, unknown or mistyped field.
    """
    fields = parse_json_object(data, path)
    require_version(fields.get("format_version"), path)
    return to_struct(fields, kind, path)


def to_struct(value: object, kind: type[T], path: str) -> T:
    """Check what was decoded from JSON against a type, and make one of it.

    Raises:
        FormatError: a missing, unknown or mistyped field.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        text, _, place = str(error).replace("`", "").partition(" - at $")
        if mismatch := _MISMATCH.fullmatch(text):
            text = f"found {mismatch[2] or 'another number'}, expected {mismatch[1]}"
        where = f"{path}: {place.strip('.')}" if place else path
        raise FormatError(f"{where}: {text[:200]}") from None


def require_version(found: object, path: str) -> None:
    """Refuse a file of any other format version.

    Raises:
        FormatError: ``found`` is not FORMAT_VERSION.
    """
    if isinstance(found, bool) or found != FORMAT_VERSION:
        raise FormatError(f"{path}: found format_version {found!r}, expected {FORMAT_VERSION}")


def require_schema(found: pa.Schema, expected: pa.Schema, path: str) -> None:
    """Refuse a Parquet file whose columns differ in name, order, type or nullability.

    Raises:
        FormatError: the schemas differ.
    """
    if not found.remove_metadata().equals(expected):
        raise FormatError(f"{path}: found columns ({_columns(found)}), expected ({_columns(expected)})")


def require_inside(name: object, path: str) -> str:
    """Return ``name`` if it is a relative path that stays inside the dataset's folder.

    Raises:
        FormatError: it is absolute, a URI, or climbs out by ``..``.
    """
    parts = name.split("/") if isinstance(name, str) else []
    odd = any(sign == "\\" or sign < " " or "\ud800" <= sign <= "\udfff" for sign in str(name))
    if not parts or any(part in ("", ".", "..") for part in parts) or odd or ":" in parts[0]:
        raise FormatError(f"{path}: found the file name {name!r}, expected a relative path inside the folder")
    return str(name)


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{f.name}: {f.type}{'' if f.nullable else ' not null'}" for f in schema)
