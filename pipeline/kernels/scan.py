"""One walk over a chunk's UTF-8 bytes that finds its tokens and sentences (the twin of tokenize.split_tokens).

Blocks of 64 ASCII bytes become masks of word characters, whose edges are the tokens' ends: work by token, not by byte.
Where a block holds anything else, the text is walked character by character up to the first token's end behind it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.jit import as_int, compiled, inlined
from pipeline.kernels.machine import BLOCK, digits, feeds, foreign, letters, quotes, spaces, trailing_zeros
from pipeline.wordbreak import DIGIT, EXTEND, KATAKANA, LETTER, QUOTE, SEPARATOR, SINGLE

_LF = 10
_ONE, _ALL = np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)


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
    """Where the word goes on behind the quote at ``i``, or ``i`` where it ends before the quote."""
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


@inlined
def _joining_quotes(
    text: NDArray[np.uint8],
    i: int,
    n: int,
    classes: NDArray[np.uint8],
    quote: np.uint64,
    letter: np.uint64,
    digit: np.uint64,
) -> np.uint64:
    """Mask of the apostrophes of an ASCII block that stand between two letters or two digits."""
    before = as_int(classes[text[i - 1]]) if i > 0 and text[i - 1] < 0x80 else as_int(SEPARATOR)
    behind = as_int(classes[text[i + BLOCK]]) if i + BLOCK < n else as_int(SEPARATOR)
    first, last = np.uint64(0), _ONE << np.uint64(BLOCK - 1)
    after_letter = (letter << _ONE) | (_ONE if before == LETTER else first)
    after_digit = (digit << _ONE) | (_ONE if before == DIGIT else first)
    before_letter = (letter >> _ONE) | (last if behind == LETTER else first)
    before_digit = (digit >> _ONE) | (last if behind == DIGIT else first)
    return quote & ((after_letter & before_letter) | (after_digit & before_digit))


@compiled
def _walk(
    text: NDArray[np.uint8],
    n: int,
    i: int,
    stop: int,
    classes: NDArray[np.uint8],
    limits: tuple[int, int, bool],
    found: tuple[int, int, int, int, int],
    spans: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]],
    oversize: NDArray[np.int64],
) -> tuple[int, tuple[int, int, int, int, int]]:
    """Find the tokens of [i, stop), and go on to the end of the last one; return where that is, and what is found."""
    max_token_bytes, max_sentence_tokens, torn = limits
    tokens, sentences, begun, line, large = found
    starts, lengths, ends = spans
    while i < stop:
        byte = text[i]
        if byte == _LF:
            line += 1
            if tokens > begun:
                ends[sentences], sentences, begun = tokens, sentences + 1, tokens
            i += 1
            continue
        kind = _kind(text, i, classes)
        if kind == SEPARATOR or kind == EXTEND or kind == QUOTE:
            i += _width(byte)
            continue
        end = _token_end(text, n, i, kind, classes)
        if end - i > max_token_bytes or (torn and i == 0 and kind != SINGLE):
            oversize[large, 0], oversize[large, 1], oversize[large, 2] = line, i, end - i
            large += 1
        else:
            starts[tokens], lengths[tokens], tokens = i, end - i, tokens + 1
            if tokens - begun == max_sentence_tokens:
                ends[sentences], sentences, begun = tokens, sentences + 1, tokens
        i = end
    return i, (tokens, sentences, begun, line, large)


@compiled
def _drop_token(starts: NDArray[np.int32], lengths: NDArray[np.int32], token: int, opened: int) -> None:
    """Take the start of a token out of those that are still to be ended."""
    for t in range(token, opened - 1):
        starts[t] = starts[t + 1]


@inlined
def _words(
    text: NDArray[np.uint8], i: int, n: int, valid: np.uint64, classes: NDArray[np.uint8], whitespace: bool
) -> np.uint64:
    """Mask of the characters of an ASCII block that are part of a token."""
    if whitespace:
        return ~spaces(text, i) & valid
    letter, digit, quote = letters(text, i) & valid, digits(text, i) & valid, quotes(text, i) & valid
    word = letter | digit
    if quote != 0:
        word |= _joining_quotes(text, i, n, classes, quote, letter, digit)
    return word


@inlined
def _is_foreign(text: NDArray[np.uint8], i: int, n: int, valid: np.uint64) -> bool:
    """Whether a block holds what is no ASCII, or an apostrophe at its end that such a character may follow."""
    last = np.uint64(BLOCK - 1)
    beyond = i + BLOCK < n and text[i + BLOCK] >= 0x80 and (quotes(text, i) >> last) != 0
    return bool(beyond or (foreign(text, i) & valid) != 0)


@compiled
def scan_spans(
    text: NDArray[np.uint8],
    n: int,
    classes: NDArray[np.uint8],
    whitespace: bool,
    limits: tuple[int, int, bool],
    spans: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]],
    oversize: NDArray[np.int64],
) -> tuple[int, int, int]:
    """Fill the spans; see tokenize.scan_tokens, whose arrays are large enough by construction.

    Args:
        text: ``n`` bytes and machine.PADDING more.
        n: see ``text``.
        classes: of code points.
        whitespace: ``classes`` are those of the whitespace tokenizer, not of the unicode one.
        limits: bytes of a token, tokens of a sentence, and whether the text starts inside an overlong token.
        spans: output: starts and lengths of the tokens, ends of the sentences.
        oversize: output, as in Tokens.

    Returns:
        Tokens, sentences and oversize tokens found.
    """
    max_token_bytes, max_sentence_tokens, torn = limits
    starts, lengths, ends = spans
    tokens, sentences, begun, line, large = as_int(0), as_int(0), as_int(0), as_int(0), as_int(0)
    i, opened = as_int(0), as_int(0)  # tokens whose start is known: `tokens`, or one more
    while i < n:
        valid = _ALL if n - i >= BLOCK else (_ONE << np.uint64(n - i)) - _ONE
        if _is_foreign(text, i, n, valid):
            i, (tokens, sentences, begun, line, large) = _walk(
                text, n, as_int(starts[tokens]) if opened > tokens else i, min(n, i + BLOCK), classes, limits,
                (tokens, sentences, begun, line, large), spans, oversize,
            )  # fmt: skip
            opened = tokens
            continue
        word = _words(text, i, n, valid, classes, whitespace)
        inside = (word << _ONE) | np.uint64(opened > tokens)
        begins, stops, feed = word & ~inside, ~word & inside, feeds(text, i) & valid
        while begins != 0:
            starts[opened] = i + trailing_zeros(begins)
            opened, begins = opened + 1, begins & (begins - _ONE)
        while True:
            # The tokens up to the next line feed, or of the whole block.
            part = feed ^ (feed - _ONE) if feed != 0 else _ALL
            here = stops & part
            while here != 0:
                start, end = as_int(starts[tokens]), i + trailing_zeros(here)
                here &= here - _ONE
                if end - start > max_token_bytes or (torn and start == 0):
                    oversize[large, 0], oversize[large, 1], oversize[large, 2] = line, start, end - start
                    large += 1
                    _drop_token(starts, lengths, tokens, opened)
                    opened -= 1
                    continue
                lengths[tokens] = end - start
                tokens += 1
                if tokens - begun == max_sentence_tokens:
                    ends[sentences], sentences, begun = tokens, sentences + 1, tokens
            if feed == 0:
                break
            line += 1
            if tokens > begun:
                ends[sentences], sentences, begun = tokens, sentences + 1, tokens
            stops, feed = stops & ~part, feed & (feed - _ONE)
        i += BLOCK
    if opened > tokens:
        start = as_int(starts[tokens])
        if n - start > max_token_bytes or (torn and start == 0):
            oversize[large, 0], oversize[large, 1], oversize[large, 2] = line, start, n - start
            large += 1
        else:
            lengths[tokens], tokens = n - start, tokens + 1
    if tokens > begun:
        ends[sentences], sentences = tokens, sentences + 1
    return tokens, sentences, large
