"""The class of every code point, from Unicode's word-break property: what the tokenizers cut by.

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
#: Starts and continues a word (ALetter; for the whitespace tokenizer everything but white space).
LETTER = 1
#: Decimal digit: starts and continues a word.
DIGIT = 2
#: Mark, format character or joiner: continues any token, starts none (rule WB4).
EXTEND = 3
#: MidNumLet, as ’ and the full stop: continues a word between two letters or two digits (rules WB6, WB7, WB11, WB12).
MID = 4
#: Katakana: continues only itself (rule WB13).
KATAKANA = 5
#: A letter of a script that is written without spaces: a token by itself, with its marks.
SINGLE = 6
#: Hebrew letter: a letter, with rules of its own for quotes (WB7a to WB7c).
HEBREW = 7
#: MidLetter, as the colon and the middle dot: continues a word between two letters.
MID_LETTER = 8
#: MidNum, as the comma: continues a word between two digits.
MID_DIGIT = 9
#: ' as MID, and after a Hebrew letter also at a word's end.
SINGLE_QUOTE = 10
#: " continues a word between two Hebrew letters.
DOUBLE_QUOTE = 11
#: ExtendNumLet, as ‿: continues a word between letters, digits and Katakana (rules WB13a, WB13b).
CONNECTOR = 12

CODE_POINTS = 0x110000

_LETTERS, _EXTEND = r"[\p{L}\p{Nl}]", r"[\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}]"

# In this order; a later line wins where two hold.
_VERSION_1 = (
    (SINGLE, _LETTERS),
    (LETTER, r"(?=[\p{WB=ALetter}\p{WB=Hebrew_Letter}])[^\p{Cn}]"),
    (DIGIT, r"(?=\p{WB=Numeric})\p{Nd}"),
    (KATAKANA, r"(?=\p{WB=Katakana})\p{L}"),
    (EXTEND, rf"(?={_EXTEND})[^\p{{Cn}}]"),
    (MID, r"['\u2019]"),
)
_VERSION_2 = (
    (SINGLE, _LETTERS),
    (LETTER, r"\p{WB=ALetter}"),
    (HEBREW, r"\p{WB=Hebrew_Letter}"),
    (DIGIT, r"\p{WB=Numeric}"),
    (KATAKANA, r"\p{WB=Katakana}"),
    (EXTEND, _EXTEND),
    (MID, r"\p{WB=MidNumLet}"),
    (MID_LETTER, r"\p{WB=MidLetter}"),
    (MID_DIGIT, r"\p{WB=MidNum}"),
    (SINGLE_QUOTE, "'"),
    (DOUBLE_QUOTE, '"'),
    # Not _, which joins phrases, nor the narrow space U+202F: no token holds white space.
    (CONNECTOR, r"(?!_)(?=\p{WB=ExtendNumLet})\S"),
)


@functools.cache
def word_classes(version: int) -> NDArray[np.uint8]:
    """Classes for a version of the ``unicode`` tokenizer, uint8 [CODE_POINTS]."""
    text = _all_code_points()
    table = np.zeros(CODE_POINTS, np.uint8)
    for number, pattern in {1: _VERSION_1, 2: _VERSION_2}[version]:
        found = "".join(regex.findall(f"(?:{pattern})+", text))
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
    codes: NDArray[np.uint32] = np.r_[0:0xD800, 0xE000:CODE_POINTS].astype("<u4")
    return codes.tobytes().decode("utf-32-le")


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)
