"""One walk over a chunk's UTF-8 bytes that finds its tokens and sentences (the twin of tokenize.split_tokens)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.jit import as_int, compiled, inlined
from pipeline.wordbreak import DIGIT, EXTEND, KATAKANA, LETTER, QUOTE, SEPARATOR, SINGLE

_LF = 10


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
def _after_quote(text: NDArray[np.uint8], i: int, base: int, classes: NDArray[np.uint8]) -> int:
    """Where the word goes on behind the quote at ``i``, or ``i`` where it ends before the quote."""
    n = len(text)
    j = i + _width(text[i])
    while j < n and _kind(text, j, classes) == EXTEND:
        j += _width(text[j])
    return j if j < n and _kind(text, j, classes) == base else i


@compiled
def _token_end(text: NDArray[np.uint8], start: int, base: int, classes: NDArray[np.uint8]) -> int:
    """One past the token that starts at byte ``start`` with a character of class ``base``."""
    n = len(text)
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
            j = _after_quote(text, i, base, classes)
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
def scan_spans(
    text: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    max_token_bytes: int,
    max_sentence_tokens: int,
    torn: bool,
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    ends: NDArray[np.int32],
    oversize: NDArray[np.int64],
) -> tuple[int, int, int]:
    """Fill the spans; see tokenize.scan_tokens, whose arrays are large enough by construction.

    Returns:
        Tokens, sentences and oversize tokens found.
    """
    n, i = len(text), 0
    tokens, sentences, large, line, begun = 0, 0, 0, 0, 0
    while i < n:
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
        end = _token_end(text, i, kind, classes)
        if end - i > max_token_bytes or (torn and i == 0 and kind != SINGLE):
            oversize[large, 0], oversize[large, 1], oversize[large, 2] = line, i, end - i
            large += 1
        else:
            starts[tokens], lengths[tokens], tokens = i, end - i, tokens + 1
            if tokens - begun == max_sentence_tokens:
                ends[sentences], sentences, begun = tokens, sentences + 1, tokens
        i = end
    if tokens > begun:
        ends[sentences], sentences = tokens, sentences + 1
    return tokens, sentences, large
