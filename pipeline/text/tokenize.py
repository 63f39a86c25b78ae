"""Cutting normalised text into tokens and sentences.

`split_tokens` is the rule in readable form and works on one line of str; `scan_tokens` is the same rule as a
loop over UTF-8 bytes, for whole chunks. Both take their characters' classes from `pipeline.text.wordbreak`.

Shape suffixes: T tokens of a chunk, S sentences of a chunk.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.text.wordbreak import (
    DIGIT,
    EXTEND,
    KATAKANA,
    LETTER,
    QUOTE,
    SEPARATOR,
    SINGLE,
    classes_digest,
    whitespace_classes,
    word_classes,
)

#: The tokenizer of text that needs none: see pipeline.text.items.
ITEMS = "items"
TOKENIZERS = ("unicode", "whitespace", ITEMS)
TOKENIZER_VERSION = 1


@dataclass(frozen=True)
class Tokens:
    """Where the tokens of a chunk are, and which of them form sentences.

    Attributes:
        text: uint8, the normalised bytes that the spans point into, and machine.PADDING more.
        starts_T: int32, first byte of each token.
        lengths_T: int32, bytes of each token.
        ends_S: int32, one past each sentence's last token, ascending; no sentence is empty.
        oversize: ``(line, start, length)`` of each token above the limit, which is in no sentence.
    """

    text: NDArray[np.uint8]
    starts_T: NDArray[np.int32]
    lengths_T: NDArray[np.int32]
    ends_S: NDArray[np.int32]
    oversize: list[tuple[int, int, int]]


def token_classes(tokenizer: str) -> NDArray[np.uint8]:
    """Return the table of character classes of a tokenizer, uint8 by code point."""
    return {"unicode": word_classes, "whitespace": whitespace_classes}[tokenizer]()


def describe_tokenizer(tokenizer: str) -> dict[str, object]:
    """Name, version and, where text is cut, the digest of the Unicode data that it is cut by, and Python's version."""
    named: dict[str, object] = {"name": tokenizer, "version": TOKENIZER_VERSION}
    if tokenizer == ITEMS:
        return named
    data = {"classes_digest": classes_digest(token_classes(tokenizer)), "unicode": unicodedata.unidata_version}
    return named | data


def split_tokens(line: str, tokenizer: str) -> list[str]:
    """Cut one normalised line into tokens.

    ``whitespace`` is str.split(). ``unicode`` keeps the words of UAX #29: runs of letters and digits with their
    marks, with ' and ’ inside between two letters or two digits; runs of Katakana; one token a character for
    letters of other scripts without spaces (Han, Hiragana, Thai …). Everything else, ``_`` too, separates.
    """
    if tokenizer == "whitespace":
        return line.split()
    classes = word_classes()
    kinds = [int(classes[ord(character)]) for character in line]
    tokens, position = [], 0
    while position < len(line):
        end = _token_end(kinds, position)
        if kinds[position] in (LETTER, DIGIT, KATAKANA, SINGLE):
            tokens.append(line[position:end])
        position = end
    return tokens


def _token_end(kinds: list[int], start: int) -> int:
    """Return one past the token or separator that starts at ``start``."""
    base, position = kinds[start], start + 1
    while position < len(kinds):
        kind = kinds[position]
        if kind == EXTEND and base != SEPARATOR and base != QUOTE:
            position += 1
        elif kind in (LETTER, DIGIT) and base in (LETTER, DIGIT):
            base, position = kind, position + 1
        elif kind == KATAKANA == base:
            position += 1
        elif kind == QUOTE and base in (LETTER, DIGIT):
            after = position + 1
            while after < len(kinds) and kinds[after] == EXTEND:
                after += 1
            if after == len(kinds) or kinds[after] != base:
                return position
            position = after
        else:
            return position
    return position


def scan_tokens(
    text: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    max_token_bytes: int,
    max_sentence_tokens: int,
    torn: bool = False,
) -> Tokens:
    """Find the tokens and sentences of a normalised chunk.

    Lines end at line feeds; a sentence is a line, cut after every ``max_sentence_tokens`` tokens.

    Args:
        text: valid UTF-8, padded as text.pad_text does.
        classes: from token_classes.
        max_token_bytes: longer tokens are listed in ``oversize`` instead.
        max_sentence_tokens: tokens a sentence may have.
        torn: the chunk starts inside an overlong token: what continues it is oversize too.
    """
    from pipeline.native.machine import PADDING
    from pipeline.text.scan_kernel import AT_ONCE, scan_spans

    size = len(text) - PADDING
    # Two tokens can only touch where a character of two bytes or more is one of them: two in three bytes at most.
    room = size * 2 // 3 + 2 + AT_ONCE
    spans = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.int32)
    tokens, lines, largest = scan_spans(text, size, classes, classes is whitespace_classes(), spans)
    found = Tokens(text, spans[0][:tokens], spans[1][:tokens], spans[2][:lines], [])
    if largest <= max_token_bytes and not torn:
        return replace(found, ends_S=_cut(found.ends_S, max_sentence_tokens))
    large = found.lengths_T > max_token_bytes
    if torn and tokens and found.starts_T[0] == 0:
        first = text[:4].tobytes().decode("utf-8", "ignore")[0]
        large[0] |= classes[ord(first)] != SINGLE
    return limit_tokens(found, large, max_sentence_tokens)


def limit_tokens(tokens: Tokens, large: NDArray[np.bool_], max_sentence_tokens: int) -> Tokens:
    """Take the tokens that are oversize out of their sentences, and list them; then cut the sentences that are long."""
    starts, lengths = tokens.starts_T[large], tokens.lengths_T[large]
    lines = np.searchsorted(np.flatnonzero(tokens.text == ord("\n")), starts)
    oversize = list(zip(lines.tolist(), starts.tolist(), lengths.tolist(), strict=True))
    ends_S = np.concatenate(([0], np.cumsum(~large)))[tokens.ends_S].astype(np.int32)
    ends_S = ends_S[np.diff(ends_S, prepend=0) > 0]
    ends_S = _cut(ends_S, max_sentence_tokens)
    return Tokens(tokens.text, tokens.starts_T[~large], tokens.lengths_T[~large], ends_S, oversize)


def _cut(ends_S: NDArray[np.int32], longest: int) -> NDArray[np.int32]:
    """Cut sentences after every ``longest`` tokens."""
    lengths_S = np.diff(ends_S, prepend=0)
    if lengths_S.max(initial=0) <= longest:
        return ends_S
    pieces_S = -(-lengths_S // longest)
    number = 1 + np.arange(pieces_S.sum()) - np.repeat(np.cumsum(pieces_S) - pieces_S, pieces_S)
    begins, ends = np.repeat(ends_S - lengths_S, pieces_S), np.repeat(ends_S, pieces_S)
    cut_S: NDArray[np.int32] = np.minimum(begins + number * longest, ends).astype(np.int32)
    return cut_S
