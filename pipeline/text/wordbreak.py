"""The class of every code point, from Unicode's word-break property: what the two tokenizers cut by.

Source: UAX #29 "Unicode Text Segmentation", §4 word boundaries; the properties come from the regex package.
"""

from __future__ import annotations

import functools

import numpy as np
import regex
import xxhash
from numpy.typing import NDArray

#: Never part of a token.
SEPARATOR = 0
#: Starts and continues a word (ALetter, Hebrew_Letter; for the whitespace tokenizer everything but white space).
LETTER = 1
#: Decimal digit: starts and continues a word.
DIGIT = 2
#: Mark, format character or joiner: continues any token, starts none (rule WB4).
EXTEND = 3
#: ' or ’: continues a word between two letters or two digits (rules WB6, WB7, WB11, WB12).
QUOTE = 4
#: Katakana: continues only itself (rule WB13).
KATAKANA = 5
#: A letter of a script that is written without spaces: a token by itself, with its marks.
SINGLE = 6

CODE_POINTS = 0x110000

# In this order; a later line wins where two hold.
_CLASSES = (
    (SINGLE, r"[\p{L}\p{Nl}]"),
    (LETTER, r"(?=[\p{WB=ALetter}\p{WB=Hebrew_Letter}])[^\p{Cn}]"),
    (DIGIT, r"(?=\p{WB=Numeric})\p{Nd}"),
    (KATAKANA, r"(?=\p{WB=Katakana})\p{L}"),
    (EXTEND, r"(?=[\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}])[^\p{Cn}]"),
    (QUOTE, r"['\u2019]"),
)


@functools.cache
def word_classes() -> NDArray[np.uint8]:
    """Classes for the ``unicode`` tokenizer, uint8 [CODE_POINTS]."""
    text = _all_code_points()
    table = np.zeros(CODE_POINTS, np.uint8)
    for number, pattern in _CLASSES:
        found = "".join(regex.findall(pattern, text))
        table[_code_points(found)] = number
    table.flags.writeable = False
    return table


@functools.cache
def whitespace_classes() -> NDArray[np.uint8]:
    """Classes for the ``whitespace`` tokenizer: what str.split() splits at, and the rest."""
    table = np.full(CODE_POINTS, LETTER, np.uint8)
    spaces = "".join(character for character in map(chr, range(CODE_POINTS)) if character.isspace())
    table[_code_points(spaces)] = SEPARATOR
    table.flags.writeable = False
    return table


def classes_digest(table: NDArray[np.uint8]) -> str:
    """XXH3-64 (hex) of a table: equal Unicode data, equal digest."""
    return xxhash.xxh3_64_hexdigest(table.data)


def _all_code_points() -> str:
    """Every code point but the surrogates, which no valid UTF-8 holds."""
    return "".join(map(chr, (*range(0xD800), *range(0xE000, CODE_POINTS))))


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)
