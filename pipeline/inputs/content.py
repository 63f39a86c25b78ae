"""What a file is, told by its first bytes: anything but the text it was taken for ends the run before it is counted.

One look at each file. What the first bytes cannot show is left to --max-dead-letter-fraction.
"""

from __future__ import annotations

import codecs
import itertools
import json
import re
from collections.abc import Iterable, Iterator

from pipeline.errors import InputError
from pipeline.inputs.decompress import format_of
from pipeline.inputs.magic import Kind, likely_kind, named_kind, sure_kind
from pipeline.text.encodings import (
    UTF_8,
    decode_blocks,
    decoded,
    found_encoding,
    has_controls,
    has_mark,
    is_binary,
)

#: Bytes that are looked at.
HEAD_BYTES = 64 << 10

_OBJECT_START = re.compile(rb'\s*\{\s*"[^"\\]*"\s*:')
_JSON_LINES_ENDINGS = (".jsonl", ".ndjson", ".jsonlines", ".json")
_COMPRESSED_ENDINGS = (".gz", ".bz2", ".xz", ".zst")
_LOOKED_AT_LINES = 20

_DOUBLE = Kind("data that is compressed twice", "decompress it once first")
_EXPECTED = {"text": "text", "jsonl": "JSON lines", "parquet": "Parquet"}


def text_of(blocks: Iterable[bytes], name: str, wanted: str, encoding: str) -> Iterator[bytes]:
    """Look at a file's beginning, then yield its text as UTF-8 with line feeds.

    Carriage returns become line feeds in a file whose first HEAD_BYTES have the one and not the other.

    Raises:
        InputError: the file is not "text" or "jsonl", as ``wanted`` says, in that encoding.
    """
    head, blocks = _take_head(blocks)
    require_encoding(head, name, wanted, encoding)
    if encoding != UTF_8:
        head, blocks = _take_head(decode_blocks(blocks, encoding))
    require_text(head, name, wanted, ended=len(head) < HEAD_BYTES)
    return _feed_lines(blocks) if has_old_lines(head) else iter(blocks)


def _take_head(blocks: Iterable[bytes]) -> tuple[bytes, Iterable[bytes]]:
    """Return the first HEAD_BYTES, or all where there are fewer, and all blocks."""
    source, first, size = iter(blocks), list[bytes](), 0
    while size < HEAD_BYTES and (block := next(source, None)) is not None:
        first.append(block)
        size += len(block)
    return b"".join(first)[:HEAD_BYTES], itertools.chain(first, source)


def require_encoding(head: bytes, name: str, wanted: str, encoding: str) -> None:
    """Refuse a file whose first bytes are no text in the encoding that it should have.

    Raises:
        InputError: it is something else.
    """
    if kind := sure_kind(head) or (_DOUBLE if format_of(head) else None):
        raise _refused(name, kind, wanted)
    if encoding in ("utf-16", "utf-32") and head and not has_mark(head):
        advice = f"--encoding {encoding}-le or {encoding}-be names the order of its bytes"
        raise InputError(f"{name}: found no byte-order mark, expected {encoding}: {advice}")
    if found := found_encoding(head, encoding):
        advice = f"--encoding {found} decodes it"
        if found == UTF_8:
            advice = "without --encoding it is read as such; files of other encodings need a run of their own"
        raise InputError(f"{name}: found text in {found}, expected {encoding}: {advice}")


def require_text(head: bytes, name: str, wanted: str, ended: bool) -> None:
    """Refuse a file whose first characters are no text, or not of the wanted format, "text" or "jsonl".

    ``head`` is UTF-8, well or badly formed; ``ended`` says that the file has no more.

    Raises:
        InputError: it is something else.
    """
    if not _is_text(head, name):
        kind = likely_kind(head, name) or Kind("binary data", "leave it out of --input")
        raise _refused(name, kind, wanted)
    lines = _first_lines(head, ended)
    if wanted == "text" and lines and (_is_named_json(name) or all(map(_is_object, lines))):
        advice = "--input-format jsonl --text-field NAME reads a field of it"
        raise _refused(name, Kind("JSON lines", advice), wanted)
    if wanted == "jsonl" and lines and not _may_be_json_lines(lines):
        array = lines[0].lstrip().startswith(b"[")
        kind = Kind("a JSON document", "write each object on a line of its own, as jq -c does")
        text = Kind("text", "--input-format text reads lines")
        raise _refused(name, kind if array or lines[0].strip() == b"{" else text, wanted)


def require_parquet(head: bytes, name: str) -> None:
    """Refuse a file that does not begin as Parquet.

    Raises:
        InputError: it is something else.
    """
    if head.startswith(b"PAR1"):
        return
    if not head:
        raise _refused(name, Kind("an empty file", "leave it out of --input"), "parquet")
    if packed := format_of(head):
        raise _refused(name, Kind(f"{packed} data", "decompress it first"), "parquet")
    if kind := sure_kind(head) or (None if _is_text(head, name) else likely_kind(head, name)):
        raise _refused(name, kind, "parquet")
    if not _is_text(head, name):
        raise _refused(name, Kind("binary data", "leave it out of --input"), "parquet")
    lines = _first_lines(head, True)
    json_lines = bool(lines) and all(map(_is_object, lines[:-1] or lines))
    kind = Kind("JSON lines", "--input-format jsonl reads them") if json_lines else Kind("text", "convert it first")
    raise _refused(name, kind, "parquet")


def has_old_lines(head: bytes) -> bool:
    """Tell text whose lines end at carriage returns alone, as old Macs wrote it."""
    return b"\r" in head and b"\n" not in head


def _feed_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Put a line feed for each carriage return that none follows: no byte moves."""
    rest = b""
    for block in blocks:
        block = rest + block
        rest = b"\r" if block.endswith(b"\r") else b""
        yield re.sub(rb"\r(?!\n)", b"\n", block[: len(block) - len(rest)])
    if rest:
        yield b"\n"


def _is_text(head: bytes, name: str) -> bool:
    if is_binary(head):
        return False
    # Short brotli data may have no control characters, but it is hardly UTF-8.
    return not named_kind(name) or (decoded(head, UTF_8) is not None and not has_controls(head))


def _first_lines(head: bytes, ended: bool) -> list[bytes]:
    """Return whole lines that are not blank, a few; the first one in any case, also if it is cut off."""
    head = head.removeprefix(codecs.BOM_UTF8)
    lines = re.split(rb"[\r\n]+", head) if has_old_lines(head) else head.split(b"\n", _LOOKED_AT_LINES)
    whole = [line for line in (lines if ended else lines[:-1])[:_LOOKED_AT_LINES] if line.strip()]
    return whole or [line for line in lines[:1] if line.strip()]


def _is_named_json(name: str) -> bool:
    name = name.lower()
    for ending in _COMPRESSED_ENDINGS:
        name = name.removesuffix(ending)
    return name.endswith(_JSON_LINES_ENDINGS)


def _parsed(line: bytes) -> object:
    """Parse a line of JSON; ValueError itself where it is none, which no JSON is."""
    try:
        return json.loads(line, parse_int=float)
    except (ValueError, RecursionError):
        return ValueError


def _is_object(line: bytes) -> bool:
    if len(line) >= HEAD_BYTES - len(codecs.BOM_UTF8):  # cut off
        return _OBJECT_START.match(line) is not None
    found = _parsed(line) if line.lstrip().startswith(b"{") else None
    return isinstance(found, dict) and bool(found)


def _may_be_json_lines(lines: list[bytes]) -> bool:
    """Tell records, some of which may be bad, from text and from one JSON document."""
    first = lines[0].strip()
    if first == b"{" and len(lines) > 1 and not any(map(_is_object, lines)):
        return False
    if first.startswith(b"["):
        found = _parsed(first)
        return found is not ValueError and not (isinstance(found, list) and found and isinstance(found[0], dict))
    parsed = sum(_parsed(line) is not ValueError for line in lines)
    return 2 * parsed >= len(lines) or any(line.lstrip().startswith(b"{") for line in lines)


def _refused(name: str, kind: Kind, wanted: str) -> InputError:
    return InputError(f"{name}: found {kind.what}, expected {_EXPECTED[wanted]}: {kind.advice}")
