"""Text in encodings other than UTF-8: their names, and decoding as a stream.

Bytes that an encoding does not have become 0xFF, which UTF-8 does not have either: what --encoding-errors says of
text that is not valid UTF-8 holds for them too.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator

UTF_8 = "utf-8"

#: Codecs that are not encodings of text files.
_OTHER = {"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "unicode_escape",
          "raw_unicode_escape"}  # fmt: skip
_MARK = "pairstream.mark"


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
