"""One walk over a chunk's UTF-8 bytes that finds its tokens, line by line (the twin of tokenize.split_tokens).

Blocks of 64 ASCII bytes become masks of word characters, whose edges are the tokens' ends: work by token, not by byte.
Where a block holds anything else, the text is walked character by character up to the next token's end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.native.jit import as_int, compiled, inlined
from pipeline.native.machine import (
    BLOCK,
    count_ones,
    digits,
    feeds,
    foreign,
    leading_zeros,
    letters,
    quotes,
    spaces,
    trailing_zeros,
)
from pipeline.text.wordbreak import DIGIT, EXTEND, KATAKANA, LETTER, QUOTE, SEPARATOR

_LF, _APOSTROPHE = 10, 0x27
_ONE, _ALL = np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)

#: Places that are written at once, wanted or not.
AT_ONCE = 16


@compiled
def count_feeds(text: NDArray[np.uint8]) -> int:
    """Count the line feeds."""
    found = as_int(0)
    for byte in text:
        found += byte == _LF
    return found  # type: ignore[no-any-return]


@inlined
def _width(byte: int) -> int:
    """Bytes of the UTF-8 sequence that ``byte`` leads."""
    return 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4


@inlined
def _kind(text: NDArray[np.uint8], i: int, classes: NDArray[np.uint8]) -> int:
    """Class of the character that starts at byte ``i``."""
    a = as_int(text[i])
    if a < 0x80:
        return as_int(classes[a])  # type: ignore[no-any-return]
    b = as_int(text[i + 1]) & 0x3F
    if a < 0xE0:
        return as_int(classes[(a & 0x1F) << 6 | b])  # type: ignore[no-any-return]
    c = as_int(text[i + 2]) & 0x3F
    if a < 0xF0:
        return as_int(classes[(a & 0x0F) << 12 | b << 6 | c])  # type: ignore[no-any-return]
    d = as_int(text[i + 3]) & 0x3F
    return as_int(classes[(a & 0x07) << 18 | b << 12 | c << 6 | d])  # type: ignore[no-any-return]


@compiled
def _after_quote(text: NDArray[np.uint8], n: int, i: int, base: int, classes: NDArray[np.uint8]) -> int:
    """Where the word continues after the quote at ``i``, or ``i`` where it ends before the quote."""
    j = i + _width(text[i])
    while j < n and _kind(text, j, classes) == EXTEND:
        j += _width(text[j])
    return j if j < n and _kind(text, j, classes) == base else i


@compiled
def _token_end(text: NDArray[np.uint8], n: int, start: int, base: int, classes: NDArray[np.uint8]) -> int:
    """One past the token that starts at byte ``start`` with a character of class ``base``."""
    i = start + _width(text[start])
    while i < n:
        kind = _kind(text, i, classes)
        if kind == LETTER or kind == DIGIT:
            if base != LETTER and base != DIGIT:
                break
            base = kind
        elif kind == QUOTE:
            if base != LETTER and base != DIGIT:
                break
            j = _after_quote(text, n, i, base, classes)
            if j == i:
                break
            i = j
        elif kind == KATAKANA:
            if base != KATAKANA:
                break
        elif kind != EXTEND:
            break
        i += _width(text[i])
    return i


@compiled
def _joining_quotes(
    text: NDArray[np.uint8],
    i: int,
    n: int,
    classes: NDArray[np.uint8],
    quote: np.uint64,
    letter: np.uint64,
    digit: np.uint64,
) -> np.uint64:
    """Mask of the apostrophes of an ASCII block between two letters or two digits."""
    before = as_int(classes[text[i - 1]]) if i > 0 and text[i - 1] < 0x80 else as_int(SEPARATOR)
    after = as_int(classes[text[i + BLOCK]]) if i + BLOCK < n else as_int(SEPARATOR)
    first, last = np.uint64(0), _ONE << np.uint64(BLOCK - 1)
    after_letter = (letter << _ONE) | (_ONE if before == LETTER else first)
    after_digit = (digit << _ONE) | (_ONE if before == DIGIT else first)
    before_letter = (letter >> _ONE) | (last if after == LETTER else first)
    before_digit = (digit >> _ONE) | (last if after == DIGIT else first)
    return quote & ((after_letter & before_letter) | (after_digit & before_digit))


@compiled
def _end_line(ends: NDArray[np.int32], lines: int, tokens: int) -> int:
    """Note the end of a line of tokens, if it has any; return how many lines there are."""
    begun = as_int(ends[lines - 1]) if lines > 0 else 0
    if tokens > begun:
        ends[lines], lines = tokens, lines + 1
    return lines


@compiled
def _walk(
    text: NDArray[np.uint8],
    n: int,
    i: int,
    stop: int,
    classes: NDArray[np.uint8],
    tokens: int,
    lines: int,
    spans: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]],
) -> tuple[int, int, int]:
    """Find the tokens of [i, stop), and go on to the end of the last one; return where that is, tokens and lines."""
    starts, stops, ends = spans
    while i < stop:
        if text[i] == _LF:
            lines = _end_line(ends, lines, tokens)
            i += 1
            continue
        kind = _kind(text, i, classes)
        if kind == SEPARATOR or kind == EXTEND or kind == QUOTE:
            i += _width(text[i])
            continue
        end = _token_end(text, n, i, kind, classes)
        starts[tokens], stops[tokens], tokens = i, end, tokens + 1
        i = end
    return i, tokens, lines


@compiled
def _write_places(mask: np.uint64, count: int, first: int, out: NDArray[np.int32], at: int) -> None:
    """Write the place of each bit, ``first`` for the lowest one, to out[at : at + count] and anything after that.

    So many at once that how many there are is hardly ever a branch; nor what follows them, which is overwritten.
    """
    for k in range(AT_ONCE):
        out[at + k] = first + trailing_zeros(mask)
        mask &= mask - _ONE
    for k in range(AT_ONCE, count):
        out[at + k] = first + trailing_zeros(mask)
        mask &= mask - _ONE


@compiled
def _last_separator(text: NDArray[np.uint8], i: int, separators: np.uint64, place: int) -> int:
    """The last of a block's separators before a place, or −1; an apostrophe just before it may be none."""
    before = separators & ((_ONE << np.uint64(place)) - _ONE if place < BLOCK else _ALL)
    if place > 0 and text[i + place - 1] == _APOSTROPHE:
        before &= ~(_ONE << np.uint64(place - 1))
    return BLOCK - 1 - leading_zeros(before)


@compiled
def scan_spans(
    text: NDArray[np.uint8],
    n: int,
    classes: NDArray[np.uint8],
    whitespace: bool,
    spans: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]],
) -> tuple[int, int, int]:
    """Fill the spans; see tokenize.scan_tokens, whose arrays are large enough by construction.

    Args:
        text: ``n`` bytes and machine.PADDING more.
        n: see ``text``.
        classes: of code points.
        whitespace: ``classes`` are those of the whitespace tokenizer, not of the unicode one.
        spans: output: starts and lengths of the tokens, ends of lines with tokens; of AT_ONCE more than there can be.

    Returns:
        Tokens, lines with tokens, and the bytes of the largest token.
    """
    starts, stops, ends = spans
    tokens, lines = as_int(0), as_int(0)
    i, opened = as_int(0), as_int(0)  # tokens whose start is known: `tokens`, or one more
    while i < n:
        valid = _ALL if n - i >= BLOCK else (_ONE << np.uint64(n - i)) - _ONE
        if whitespace:
            word = ~spaces(text, i) & valid
        else:
            letter, digit, quote = letters(text, i) & valid, digits(text, i) & valid, quotes(text, i) & valid
            word = letter | digit
            if quote != 0:
                word |= _joining_quotes(text, i, n, classes, quote, letter, digit)
        feed, other, safe = feeds(text, i) & valid, foreign(text, i) & valid, as_int(BLOCK)
        if other != 0 or (text[i + BLOCK] >= 0x80 and text[i + BLOCK - 1] == _APOSTROPHE):
            # Masks up to the last separator before it, then character by character.
            safe = _last_separator(text, i, ~word & valid, trailing_zeros(other))
            kept = (_ONE << np.uint64(max(safe, 0))) - _ONE
            word, feed = word & kept, feed & kept
        if safe >= 0:
            inside = (word << _ONE) | np.uint64(opened > tokens)
            begins, ended = word & ~inside, ~word & inside
            begin_count, end_count = count_ones(begins), count_ones(ended)
            _write_places(begins, begin_count, i, starts, opened)
            _write_places(ended, end_count, i, stops, tokens)
            while feed != 0:
                lines = _end_line(ends, lines, tokens + count_ones(ended & (feed ^ (feed - _ONE))))
                feed &= feed - _ONE
            opened, tokens = opened + begin_count, tokens + end_count
        if safe < BLOCK:
            first = i + safe if safe >= 0 else as_int(starts[tokens]) if opened > tokens else i
            stop = min(n, i + BLOCK - (leading_zeros(other) if other != 0 else 0))
            i, tokens, lines = _walk(text, n, first, stop, classes, tokens, lines, spans)
            opened = tokens
        else:
            i += BLOCK
    if opened > tokens:
        stops[tokens], tokens = n, tokens + 1
    lines = _end_line(ends, lines, tokens)
    largest = as_int(0)
    for t in range(tokens):
        stops[t] -= starts[t]
        largest = max(largest, as_int(stops[t]))
    return tokens, lines, largest
