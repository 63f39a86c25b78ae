"""One walk over a chunk's UTF-8 bytes that finds its tokens, line by line (the twin of tokenize.split_tokens).

Blocks of 64 bytes become masks of word characters, whose edges are the tokens' ends: work by token, not by byte. In
those of ASCII alone the machine finds all classes at once; for others see block_kernel. What that does not know is
walked character by character.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.native.jit import as_int, compiled
from pipeline.native.machine import (
    BLOCK,
    count_ones,
    digits,
    feeds,
    foreign,
    letters,
    mid_digits,
    mid_letters,
    quotes,
    spaces,
    trailing_zeros,
)
from pipeline.text.block_kernel import mask_tokens
from pipeline.text.word_kernel import is_word, kind_of, token_end, width_of
from pipeline.text.wordbreak import DIGIT, LETTER, SEPARATOR, SINGLE

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
        if not is_word(kind) and kind != SINGLE:
            i += width_of(text[i])
            continue
        end = token_end(text, n, i, kind, classes)
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
    full_stop = as_int(classes[_FULL_STOP])
    whitespace, quotes_alone = full_stop == LETTER, full_stop == SEPARATOR
    while i < n:
        valid = _ALL if n - i >= BLOCK else (_ONE << np.uint64(n - i)) - _ONE
        feed, other = feeds(text, i) & valid, foreign(text, i) & valid
        digit = mid_letter = mid_digit = np.uint64(0)
        if whitespace:
            letter = ~spaces(text, i) & ~other & valid
        else:
            letter, digit = letters(text, i) & valid, digits(text, i) & valid
            mid_letter = (quotes(text, i) if quotes_alone else mid_letters(text, i)) & valid
            mid_digit = mid_letter if quotes_alone else mid_digits(text, i) & valid
        if other == 0 and (text[i + BLOCK] < 0x80 or (mid_letter | mid_digit) >> np.uint64(BLOCK - 1) == 0):
            word, size = letter | digit, as_int(BLOCK)
            if mid_letter | mid_digit != 0:
                word |= _joining(text, i, n, classes, mid_letter, mid_digit, letter, digit)
            inside = (word << _ONE) | np.uint64(opened > tokens)
            begins, ended = word & ~inside, ~word & inside
        else:
            begins, ended, size = np.uint64(0), np.uint64(0), as_int(0)
            if opened == tokens:
                begins, ended, size = mask_tokens(text, i, valid, classes, letter, digit, mid_letter, mid_digit)
            if size == 0:
                # One token that began before it, or all that begin in it.
                first = i if opened == tokens else as_int(starts[tokens])
                stop = min(n, i + BLOCK) if opened == tokens else first + 1
                i, tokens, lines = _walk(text, n, first, stop, classes, tokens, lines, spans)
                opened = tokens
                continue
            feed &= (_ONE << np.uint64(size)) - _ONE
        begin_count, end_count = count_ones(begins), count_ones(ended)
        _write_places(begins, begin_count, i, starts, opened)
        _write_places(ended, end_count, i, stops, tokens)
        while feed != 0:
            lines = _end_line(ends, lines, tokens + count_ones(ended & (feed ^ (feed - _ONE))))
            feed &= feed - _ONE
        opened, tokens, i = opened + begin_count, tokens + end_count, i + size
    if opened > tokens:
        stops[tokens], tokens = n, tokens + 1
    lines = _end_line(ends, lines, tokens)
    largest = as_int(0)
    for t in range(tokens):
        stops[t] -= starts[t]
        largest = max(largest, as_int(stops[t]))
    return tokens, lines, largest


@compiled
def scan_marked(
    text: NDArray[np.uint8], n: int, mark: int, spans: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]
) -> tuple[int, int]:
    """Fill the spans with what is between a byte ``mark`` and line feeds; return tokens and lines with tokens."""
    starts, lengths, ends = spans
    tokens, lines, begin = as_int(0), as_int(0), as_int(0)
    for i in range(n + 1):
        ends_line = i == n or text[i] == _LF
        if ends_line or text[i] == mark:
            if i > begin:
                starts[tokens], lengths[tokens], tokens = begin, i - begin, tokens + 1
            begin = i + 1
            if ends_line:
                lines = _end_line(ends, lines, tokens)
    return tokens, lines
