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
    mid_digits,
    mid_letters,
    quotes,
    spaces,
    trailing_zeros,
)
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

_LF, _FULL_STOP = 10, 0x2E
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
def kind_of(text: NDArray[np.uint8], i: int, classes: NDArray[np.uint8]) -> int:
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


@inlined
def _is_letter(kind: int) -> bool:
    return kind == LETTER or kind == HEBREW


@inlined
def _is_word(kind: int) -> bool:
    return kind == LETTER or kind == DIGIT or kind == HEBREW or kind == KATAKANA


@compiled
def _joined(text: NDArray[np.uint8], n: int, i: int, base: int, kind: int, classes: NDArray[np.uint8]) -> int:
    """Where the word continues after what may join it at ``i``, 0 where it does not (the twin of tokenize._joined)."""
    j, follows = i + _width(text[i]), as_int(SEPARATOR)
    while j < n:
        follows = kind_of(text, j, classes)
        if follows != EXTEND and (follows != CONNECTOR or kind != CONNECTOR):
            break
        j += _width(text[j])
    if j >= n:
        return 0
    both = kind == MID or kind == SINGLE_QUOTE
    if _is_letter(base) and _is_letter(follows):
        joined = both or kind == MID_LETTER or (kind == DOUBLE_QUOTE and base == HEBREW and follows == HEBREW)
    else:
        joined = base == DIGIT and follows == DIGIT and (both or kind == MID_DIGIT)
    return j if joined or (kind == CONNECTOR and _is_word(base) and _is_word(follows)) else 0


@compiled
def _token_end(text: NDArray[np.uint8], n: int, start: int, base: int, classes: NDArray[np.uint8]) -> int:
    """One past the token that starts at byte ``start`` with a character of class ``base``."""
    i = start + _width(text[start])
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
        i += _width(text[i])
    return i


@compiled
def _joining(
    text: NDArray[np.uint8],
    i: int,
    n: int,
    classes: NDArray[np.uint8],
    mid_letter: np.uint64,
    mid_digit: np.uint64,
    letter: np.uint64,
    digit: np.uint64,
) -> np.uint64:
    """Mask of what joins two letters or two digits in an ASCII block."""
    before = as_int(classes[text[i - 1]]) if i > 0 and text[i - 1] < 0x80 else as_int(SEPARATOR)
    after = as_int(classes[text[i + BLOCK]]) if i + BLOCK < n else as_int(SEPARATOR)
    first, last = np.uint64(0), _ONE << np.uint64(BLOCK - 1)
    after_letter = (letter << _ONE) | (_ONE if before == LETTER else first)
    after_digit = (digit << _ONE) | (_ONE if before == DIGIT else first)
    before_letter = (letter >> _ONE) | (last if after == LETTER else first)
    before_digit = (digit >> _ONE) | (last if after == DIGIT else first)
    return (mid_letter & after_letter & before_letter) | (mid_digit & after_digit & before_digit)


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
        kind = kind_of(text, i, classes)
        if not _is_word(kind) and kind != SINGLE:
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
def _last_separator(separators: np.uint64, mids: np.uint64, place: int) -> int:
    """The last of a block's separators before a place, or −1; what may join, just before it, may be none."""
    before = separators & ((_ONE << np.uint64(place)) - _ONE if place < BLOCK else _ALL)
    if place > 0:
        before &= ~(mids & (_ONE << np.uint64(place - 1)))
    return BLOCK - 1 - leading_zeros(before)


@compiled
def scan_spans(
    text: NDArray[np.uint8],
    n: int,
    classes: NDArray[np.uint8],
    spans: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]],
) -> tuple[int, int, int]:
    """Fill the spans; see tokenize.scan_tokens, whose arrays are large enough by construction.

    Args:
        text: ``n`` bytes and machine.PADDING more.
        n: see ``text``.
        classes: of code points; that of the full stop tells which ASCII characters may join a word.
        spans: output: starts and lengths of the tokens, ends of lines with tokens; of AT_ONCE more than there can be.

    Returns:
        Tokens, lines with tokens, and the bytes of the largest token.
    """
    starts, stops, ends = spans
    tokens, lines = as_int(0), as_int(0)
    i, opened = as_int(0), as_int(0)  # tokens whose start is known: `tokens`, or one more
    stop_kind = as_int(classes[_FULL_STOP])
    whitespace, quotes_alone = stop_kind == LETTER, stop_kind == SEPARATOR
    while i < n:
        valid = _ALL if n - i >= BLOCK else (_ONE << np.uint64(n - i)) - _ONE
        mids = np.uint64(0)
        if whitespace:
            word = ~spaces(text, i) & valid
        else:
            letter, digit = letters(text, i) & valid, digits(text, i) & valid
            mid_letter = (quotes(text, i) if quotes_alone else mid_letters(text, i)) & valid
            mid_digit = mid_letter if quotes_alone else mid_digits(text, i) & valid
            word, mids = letter | digit, mid_letter | mid_digit
            if mids != 0:
                word |= _joining(text, i, n, classes, mid_letter, mid_digit, letter, digit)
        feed, other, safe = feeds(text, i) & valid, foreign(text, i) & valid, as_int(BLOCK)
        if other != 0 or (text[i + BLOCK] >= 0x80 and mids >> np.uint64(BLOCK - 1) != 0):
            # Masks up to the last separator before it, then character by character.
            safe = _last_separator(~word & valid, mids, trailing_zeros(other))
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
