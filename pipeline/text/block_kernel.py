"""The tokens of a block of 64 bytes of any script, as masks: characters one by one, all that joins them at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.native.jit import as_int, compiled, inlined
from pipeline.native.machine import BLOCK, continuations, double_quotes, foreign, leading_zeros, quotes, trailing_zeros
from pipeline.text.word_kernel import kind_of
from pipeline.text.wordbreak import (
    DIGIT,
    EXTEND,
    HEBREW,
    KATAKANA,
    LETTER,
    MID,
    MID_DIGIT,
    MID_LETTER,
    SEPARATOR,
    SINGLE,
)

_NONE, _ONE, _TWO, _THREE, _FOUR = (np.uint64(number) for number in range(5))


@inlined
def _whole(starts: np.uint64, continued: np.uint64) -> np.uint64:
    """All bytes of the characters that start at some places."""
    starts |= (starts << _ONE) & continued
    starts |= (starts << _ONE) & continued
    return starts | ((starts << _ONE) & continued)


@inlined
def _before(starts: np.uint64, continued: np.uint64) -> np.uint64:
    """The starts of the characters that come just before those that start at some places."""
    second, third, fourth = continued >> _ONE, continued >> _TWO, continued >> _THREE
    wide = (starts >> _TWO & ~third) | (starts >> _THREE & third & ~fourth) | (starts >> _FOUR & third & fourth)
    return (starts >> _ONE & ~second) | (second & wide)


@inlined
def _marks_after(marks: np.uint64, base: np.uint64) -> np.uint64:
    """Those runs of marks that follow a base: a sum carries through each of them."""
    return ((marks + (marks & (base << _ONE))) ^ marks) & marks


@compiled
def mask_tokens(
    text: NDArray[np.uint8],
    i: int,
    valid: np.uint64,
    classes: NDArray[np.uint8],
    letter: np.uint64,
    digit: np.uint64,
    mid_letter: np.uint64,
    mid_digit: np.uint64,
) -> tuple[np.uint64, np.uint64, int]:
    """Find the tokens of a block that begins where no token is open.

    Args:
        text: padded.
        i: where the block begins.
        valid: its bytes that are text.
        classes: of code points.
        letter: ASCII characters that are letters.
        digit: digits among them.
        mid_letter: what may join two letters.
        mid_digit: what may join two digits.

    Returns:
        Where tokens begin and end, up to the last place that certainly is no token's inside, and that place: 0 where
        there is none, or a rule is needed that is not known here.
    """
    other, continued = foreign(text, i) & valid, continuations(text, i) & valid
    separator = ~(letter | digit | mid_letter | mid_digit | other)
    single, extend, katakana, hebrew = _NONE, _NONE, _NONE, _NONE
    rest = other & ~continued
    while rest != _NONE:
        kind = kind_of(text, i + trailing_zeros(rest), classes)
        bit = rest & (~rest + _ONE)
        rest ^= bit
        if kind == LETTER:
            letter |= bit
        elif kind == SINGLE:
            single |= bit
        elif kind == SEPARATOR:
            separator |= bit
        elif kind == EXTEND:
            extend |= bit
        elif kind == DIGIT:
            digit |= bit
        elif kind == KATAKANA:
            katakana |= bit
        elif kind == MID or kind == MID_LETTER or kind == MID_DIGIT:
            mid_letter |= bit if kind != MID_DIGIT else _NONE
            mid_digit |= bit if kind != MID_LETTER else _NONE
        elif kind == HEBREW:
            letter, hebrew = letter | bit, bit
        else:
            return _NONE, _NONE, 0
    certain = separator | single
    keep = as_int(BLOCK - 1 - leading_zeros(certain))
    mids, marks = mid_letter | mid_digit, _whole(extend, continued)
    if keep <= 0 or (marks != _NONE and mids & ((marks << _ONE) | _before(extend, continued)) != _NONE):
        return _NONE, _NONE, 0
    if hebrew != _NONE and (quotes(text, i) | double_quotes(text, i)) != _NONE:
        return _NONE, _NONE, 0
    word = _whole(letter, continued)
    numbers = _whole(digit, continued)
    joined = mid_letter & (word << _ONE) & _before(letter, continued)
    joined |= mid_digit & (numbers << _ONE) & _before(digit, continued)
    word |= numbers | _whole(joined, continued)
    alone, kana = _whole(single, continued), _whole(katakana, continued)
    if marks != _NONE:
        word, alone, kana = (
            word | _marks_after(marks, word),
            alone | _marks_after(marks, alone),
            kana | _marks_after(marks, kana),
        )
    begins = (word & ~(word << _ONE)) | single | (kana & ~(kana << _ONE))
    ended = (word << _ONE & ~word) | (alone << _ONE & (~alone | single)) | (kana << _ONE & ~kana)
    last = _ONE << np.uint64(keep)
    return begins & (last - _ONE), ended & (last | (last - _ONE)), keep
