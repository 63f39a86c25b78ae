"""Text in encodings other than UTF-8: their names, how they are told apart, and decoding as a stream.

Bytes that an encoding does not have become 0xFF, which UTF-8 does not have either: what --encoding-errors says of
text that is not valid UTF-8 holds for them too.
"""

from __future__ import annotations

import codecs
import re
import string
import unicodedata
from collections.abc import Iterable, Iterator

import numpy as np

UTF_8 = "utf-8"

#: Codecs that are not encodings of text files.
_OTHER = {"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "unicode_escape",
          "raw_unicode_escape"}  # fmt: skip
_MARK = "pairstream.mark"

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


def canonical_name(name: str) -> str | None:
    """Return Python's own name of an encoding, "utf-8" also for utf-8-sig; None for an unknown one."""
    try:
        found = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    if not found._is_text_encoding or found.name in _OTHER or not found.incrementaldecoder:
        return None
    return UTF_8 if found.name in ("utf-8-sig", "cp65001") else found.name


def family_of(encoding: str) -> str:
    """Return "utf-16" and "utf-32" also for those whose order of bytes is named; other names as they are."""
    return encoding.removesuffix("-le").removesuffix("-be")


def decode_blocks(blocks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Yield the text of encoded blocks as UTF-8, with the byte 0xFF for each thing that cannot be decoded."""
    codecs.register_error(_MARK, _mark)
    decoder = codecs.getincrementaldecoder(encoding)(_MARK)
    for block in blocks:
        yield decoder.decode(block).encode(UTF_8, _MARK)
    yield decoder.decode(b"", True).encode(UTF_8, _MARK)


def _mark(error: UnicodeError) -> tuple[str | bytes, int]:
    """Decode what cannot be decoded as half of a surrogate pair, and encode that as 0xFF."""
    if isinstance(error, UnicodeDecodeError):
        return "\udcff", error.end
    assert isinstance(error, UnicodeEncodeError)
    return b"\xff" * (error.end - error.start), error.end


def has_mark(head: bytes) -> bool:
    """Tell whether text begins with a byte-order mark."""
    return head.startswith(tuple(mark for mark, _ in _MARKS))


def found_encoding(head: bytes, expected: str) -> str | None:
    """Name the encoding of text whose first bytes are plainly not in the expected one; None where they may be."""
    mark, marked = next(((mark, its) for mark, its in _MARKS if head.startswith(mark)), (b"", ""))
    family = family_of(expected)
    if marked:
        wrong_order = expected in _ORDERED.values() and _ORDERED[mark] != expected
        return marked if marked != family or wrong_order else None
    if found := _unmarked_encoding(head, expected):
        return found
    return UTF_8 if family != UTF_8 and _is_surely_utf8(head, family) else None


def _unmarked_encoding(head: bytes, expected: str) -> str | None:
    """Name the encoding of text that has no byte-order mark and is plainly not in the expected one."""
    zeros = head.count(0) if b"\0" in head else 0  # to find none is much faster than to count
    if expected == UTF_8:
        if b"\x1b" in head and head.isascii() and (shift := next((shift for shift in _SHIFTS if shift in head), None)):
            return _SHIFTS[shift]
        if b"@" in head and _is_ebcdic(head):
            return "cp037"
        if not zeros and not is_binary(head):
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
    text = decoded(head[: len(head) & ~3 or 2], encoding)
    if text is None:
        return False
    odd = sum(unicodedata.category(sign) in ("Cc", "Cn", "Co", "Cs") and sign not in "\t\n\v\f\r" for sign in text)
    return bool(text) and odd <= (1 - _PRINTABLE_SHARE) * len(text)


def _is_surely_utf8(head: bytes, family: str) -> bool:
    """Tell UTF-8 that would be read as another encoding, of whose text it has no sign."""
    if is_binary(head) or b"\0" in head or decoded(head, UTF_8) is None:
        return False
    wide = family in ("utf-16", "utf-32")
    return len(head) > 3 if wide else len(_SEQUENCE.findall(head)) >= _LEAST_SEQUENCES


def decoded(head: bytes, encoding: str) -> str | None:
    """Decode the first bytes of a text, which may end within a character; None where they are not in the encoding."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return None


def has_controls(head: bytes) -> bool:
    """Tell whether there is a control character that text has no use for."""
    return len(head) != len(head.translate(None, _CONTROLS))


def is_binary(head: bytes) -> bool:
    """Tell bytes with more control characters than text has."""
    if len(head) > _LONG_HEAD and _is_plainly_text(head):
        return False
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return controls >= _CONTROL_LEAST and controls > _CONTROL_SHARE * len(head)


def _is_plainly_text(head: bytes) -> bool:
    """Find no control character but line feeds, in a fourth of the time that counting them takes."""
    codes = np.frombuffer(head, np.uint8)
    return np.count_nonzero(codes < ord(" ")) == np.count_nonzero(codes == ord("\n")) and b"\x7f" not in head
