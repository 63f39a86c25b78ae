"""What a file is, told by its first bytes: anything but the text it was taken for ends the run before it is counted.

One look at each file. What the first bytes cannot show is left to --max-dead-letter-fraction.
"""

from __future__ import annotations

import codecs
import itertools
import json
import re
import string
import unicodedata
from collections.abc import Iterable, Iterator

import numpy as np

from pipeline.errors import InputError
from pipeline.inputs.decompress import format_of
from pipeline.inputs.magic import Kind, likely_kind, named_kind, sure_kind
from pipeline.text.encodings import UTF_8, decode_blocks, family_of

#: Bytes that are looked at.
HEAD_BYTES = 64 << 10

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_SWAPPED = {"utf-16-le": ("utf-16-be", 0), "utf-16-be": ("utf-16-le", 1)}  # the other order, the first low byte
_ORDERED = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}

#: Control characters that text has no use for; ESC shifts between character sets and colours logs.
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b")) + b"\x7f"
_CONTROL_SHARE, _CONTROL_LEAST = 0.01, 3
_PRINTABLE_SHARE = 0.99
_LONG_HEAD = 8 << 10
_SHIFTS = {b"\x1b$)C": "iso-2022-kr", b"\x1b$@": "iso-2022-jp", b"\x1b$B": "iso-2022-jp", b"\x1b$A": "iso-2022-jp-2"}

_LETTERS = string.ascii_letters.encode()
_EBCDIC_LETTERS = bytes(at + low for at in (0x80, 0x90, 0xA0, 0xC0, 0xD0, 0xE0) for low in range(1, 10))

#: So many sequences of two bytes and more that are all UTF-8 are not another encoding by chance.
_LEAST_SEQUENCES = 4
_SEQUENCE = re.compile(rb"[\xc2-\xf4][\x80-\xbf]+")

_OBJECT_START = re.compile(rb'\s*\{\s*"[^"\\]*"\s*:')
_JSON_LINES_ENDINGS = (".jsonl", ".ndjson", ".jsonlines", ".json")
_COMPRESSED_ENDINGS = (".gz", ".bz2", ".xz", ".zst")
_LOOKED_AT_LINES = 20

_DOUBLE = Kind("data that is compressed twice", "decompress it once first")
_EXPECTED = {"text": "text", "jsonl": "JSON lines", "parquet": "Parquet"}


def text_of(blocks: Iterable[bytes], name: str, wanted: str, encoding: str) -> Iterator[bytes]:
    """Look at a file's beginning, then yield its text as UTF-8 with line feeds.

    Carriage returns become line feeds in a file whose first HEAD_BYTES have the one and not the other.

    Args:
        blocks: the decompressed file.
        name: of the file, for errors.
        wanted: "text" or "jsonl".
        encoding: from encodings.canonical_name.

    Raises:
        InputError: the file is something else.
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
    mark, marked = next(((mark, its) for mark, its in _MARKS if head.startswith(mark)), (b"", ""))
    family = family_of(encoding)
    if marked and (marked != family or (encoding in _ORDERED.values() and _ORDERED[mark] != encoding)):
        raise _encoded(name, marked, encoding)
    if encoding in ("utf-16", "utf-32") and not marked and head:
        advice = f"--encoding {encoding}-le or {encoding}-be names the order of its bytes"
        raise InputError(f"{name}: found no byte-order mark, expected {encoding}: {advice}")
    if not marked and (found := _unmarked_encoding(head, encoding)):
        raise _encoded(name, found, encoding)
    if family != "utf-8" and not marked and _is_surely_utf8(head, family):
        raise _encoded(name, UTF_8, encoding)


def _unmarked_encoding(head: bytes, expected: str) -> str | None:
    """Name the encoding of text that has no byte-order mark and is plainly not in the expected one."""
    zeros = head.count(0) if b"\0" in head else 0  # to find none is much faster than to count
    if expected == UTF_8:
        if b"\x1b" in head and head.isascii() and (shift := next((shift for shift in _SHIFTS if shift in head), None)):
            return _SHIFTS[shift]
        if b"@" in head and _is_ebcdic(head):
            return "cp037"
        if not zeros and not _is_binary(head):
            return None
    elif expected in _SWAPPED:
        low = head[_SWAPPED[expected][1] :: 2]
        return _SWAPPED[expected][0] if low.count(0) > len(low) // 2 else None
    elif family_of(expected) in ("utf-16", "utf-32") or zeros * 8 < len(head):
        return None
    letters = len(head) - len(head.translate(None, _LETTERS))
    if zeros < len(head) // 3 and letters > len(head) // 2:  # zeros between words, not in each character
        return None
    # High bytes change least.
    orders = sorted(("utf-16-le", "utf-16-be"), key=lambda order: len(set(head[order == "utf-16-le" :: 2])))
    return next((name for name in ("utf-32-le", "utf-32-be", *orders) if _is_printable(head, name)), None)


def _is_ebcdic(head: bytes) -> bool:
    """Tell text whose spaces are Latin at signs, and whose letters are no Latin ones."""
    return head.count(b"@") > len(head) // 20 and len(head.translate(None, _EBCDIC_LETTERS)) < len(head) // 2


def _is_printable(head: bytes, encoding: str) -> bool:
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head[: len(head) & ~3 or 2])
    except UnicodeDecodeError:
        return False
    odd = sum(unicodedata.category(sign) in ("Cc", "Cn", "Co", "Cs") and sign not in "\t\n\v\f\r" for sign in text)
    return bool(text) and odd <= (1 - _PRINTABLE_SHARE) * len(text)


def _is_surely_utf8(head: bytes, family: str) -> bool:
    """Tell UTF-8 that would be read as another encoding, of whose text it has no sign."""
    if _is_binary(head) or b"\0" in head:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    wide = family in ("utf-16", "utf-32")
    return len(head) > 3 if wide else len(_SEQUENCE.findall(head)) >= _LEAST_SEQUENCES


def require_text(head: bytes, name: str, wanted: str, ended: bool) -> None:
    """Refuse a file whose first characters are no text, or not of the wanted format.

    Args:
        head: the first bytes as UTF-8, well or badly formed.
        name: of the file.
        wanted: "text" or "jsonl".
        ended: the file has no more.

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
    if _is_binary(head):
        return False
    # Short brotli data may have no control characters, but it is hardly UTF-8.
    return not (named_kind(name) and _is_broken(head))


def _is_binary(head: bytes) -> bool:
    if len(head) > _LONG_HEAD and _is_plainly_text(head):
        return False
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return controls >= _CONTROL_LEAST and controls > _CONTROL_SHARE * len(head)


def _is_plainly_text(head: bytes) -> bool:
    """Find no control character but line feeds, in a fourth of the time that counting them takes."""
    codes = np.frombuffer(head, np.uint8)
    return np.count_nonzero(codes < ord(" ")) == np.count_nonzero(codes == ord("\n")) and b"\x7f" not in head


def _is_broken(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return True
    return len(head) != len(head.translate(None, _CONTROLS))


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


def _encoded(name: str, found: str, expected: str) -> InputError:
    if found == UTF_8:
        advice = "without --encoding it is read as such; files of other encodings need a run of their own"
    else:
        advice = f"--encoding {found} decodes it"
    return InputError(f"{name}: found text in {found}, expected {expected}: {advice}")


def _refused(name: str, kind: Kind, wanted: str) -> InputError:
    return InputError(f"{name}: found {kind.what}, expected {_EXPECTED[wanted]}: {kind.advice}")
