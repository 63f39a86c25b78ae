"""Words character by character, over UTF-8 bytes (the twin of tokenize._token_end)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.native.jit import as_int, compiled, inlined
from pipeline.native.machine import load_word
from pipeline.text.wordbreak import (
    CONNECTOR,
    DIGIT,
    DOUBLE_QUOTE,
    EXTEND,
    HEBREW,
    KATAKANA,
    LETTER,
    MID,
    MID_DIGIT,
    MID_LETTER,
    SEPARATOR,
    SINGLE,
    SINGLE_QUOTE,
)

# Unsigned, so that an index made of them needs no look at its sign.
_BYTE, _SIX_BITS, _FIVE_BITS, _FOUR_BITS, _THREE_BITS = (np.uint64(mask) for mask in (0xFF, 0x3F, 0x1F, 0x0F, 0x07))
_SIX, _TWELVE = np.uint64(6), np.uint64(12)


@inlined
def width_of(byte: int) -> int:
    """Bytes of the UTF-8 sequence that ``byte`` leads."""
    return 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4


@inlined
def kind_of(text: NDArray[np.uint8], i: int, classes: NDArray[np.uint8]) -> int:
    """Class of the character that starts at byte ``i``; ``text`` has eight bytes from there on."""
    word = load_word(text, i)
    a, b = word & _BYTE, word >> np.uint64(8) & _SIX_BITS
    if a < 0x80:
        return as_int(classes[a])  # type: ignore[no-any-return]
    if a < 0xE0:
        return as_int(classes[(a & _FIVE_BITS) << _SIX | b])  # type: ignore[no-any-return]
    c = word >> np.uint64(16) & _SIX_BITS
    if a < 0xF0:
        return as_int(classes[(a & _FOUR_BITS) << _TWELVE | b << _SIX | c])  # type: ignore[no-any-return]
    d = word >> np.uint64(24) & _SIX_BITS
    return as_int(classes[(a & _THREE_BITS) << np.uint64(18) | b << _TWELVE | c << _SIX | d])  # type: ignore[no-any-return]


@inlined
def _is_letter(kind: int) -> bool:
    return kind == LETTER or kind == HEBREW


@inlined
def is_word(kind: int) -> bool:
    return kind == LETTER or kind == DIGIT or kind == HEBREW or kind == KATAKANA


@compiled
def _joined(text: NDArray[np.uint8], n: int, i: int, base: int, kind: int, classes: NDArray[np.uint8]) -> int:
    """Where the word continues after what may join it at ``i``, 0 where it does not (the twin of tokenize._joined)."""
    j, follows = i + width_of(text[i]), as_int(SEPARATOR)
    while j < n:
        follows = kind_of(text, j, classes)
        if follows != EXTEND and (follows != CONNECTOR or kind != CONNECTOR):
            break
        j += width_of(text[j])
    if j >= n:
        return 0
    both = kind == MID or kind == SINGLE_QUOTE
    if _is_letter(base) and _is_letter(follows):
        joined = both or kind == MID_LETTER or (kind == DOUBLE_QUOTE and base == HEBREW and follows == HEBREW)
    else:
        joined = base == DIGIT and follows == DIGIT and (both or kind == MID_DIGIT)
    return j if joined or (kind == CONNECTOR and is_word(base) and is_word(follows)) else 0


@compiled
def token_end(text: NDArray[np.uint8], n: int, start: int, base: int, classes: NDArray[np.uint8]) -> int:
    """One past the token that starts at byte ``start`` with a character of class ``base``."""
    i = start + width_of(text[start])
    while i < n:
        kind = kind_of(text, i, classes)
        if kind == SEPARATOR or kind == SINGLE:
            break
        if kind == LETTER or kind == DIGIT or kind == HEBREW:
            if not _is_letter(base) and base != DIGIT:
                break
            base = kind
        elif kind == KATAKANA:
            if base != KATAKANA:
                break
        elif kind != EXTEND:
            j = _joined(text, n, i, base, kind, classes)
            if j != 0:
                i, base = j, kind_of(text, j, classes)
            elif kind == SINGLE_QUOTE and base == HEBREW:
                base = kind
            else:
                break
        i += width_of(text[i])
    return i
