"""Cutting normalised text into tokens and sentences.

`split_tokens` is the rule in readable form and works on one line of str; `scan_tokens` is the same rule as a
loop over UTF-8 bytes, for whole chunks. Both take their characters' classes from `pipeline.text.wordbreak`.

Shape suffixes: T tokens of a chunk, S sentences of a chunk.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.text.elisions import cut_elisions
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
    classes_digest,
    whitespace_classes,
    word_classes,
)

#: The tokenizer of text that needs none: see pipeline.text.items.
ITEMS = "items"


class Tokenizer(NamedTuple):
    """A rule that shapes bytes: what manifests call it, and where its tables come from."""

    name: str
    version: int
    classes: Callable[[], NDArray[np.uint8]] | None


#: By the value of --tokenizer; a name without a version means the newest one.
TOKENIZERS = {
    "unicode": Tokenizer("unicode", 2, lambda: word_classes(2)),
    "unicode-v1": Tokenizer("unicode", 1, lambda: word_classes(1)),
    "whitespace": Tokenizer("whitespace", 1, whitespace_classes),
    ITEMS: Tokenizer(ITEMS, 1, None),
}


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
    classes = TOKENIZERS[tokenizer].classes
    assert classes is not None  # items are not cut
    return classes()


def drops_invisible(tokenizer: str) -> bool:
    """Tell whether a tokenizer's text is normalised without invisible characters (normalize.INVISIBLE)."""
    return TOKENIZERS[tokenizer][:2] == ("unicode", 2)


def describe_tokenizer(tokenizer: str) -> dict[str, object]:
    """Name, version and, where text is cut, the digest of the Unicode data that it is cut by, and Python's version."""
    name, version, classes = TOKENIZERS[tokenizer]
    named: dict[str, object] = {"name": name, "version": version}
    if classes is None:
        return named
    return {**named, "classes_digest": classes_digest(classes()), "unicode": unicodedata.unidata_version}


def split_tokens(line: str, tokenizer: str) -> list[str]:
    """Cut one normalised line into tokens.

    ``whitespace`` is str.split(). ``unicode`` keeps the words of UAX #29: what is between two of its boundaries and
    begins with a letter, a digit or Katakana, and one token a character for letters of scripts without spaces (Han,
    Hiragana, Thai …), all with their marks. Everything else, ``_`` and white space too, separates. Where a word's first
    or last characters are connectors as ‿, they are left out.
    ``unicode-v1`` has letters, digits and Katakana too, but joins only by ' and ’ between two letters or two digits.
    """
    if tokenizer == "whitespace":
        return line.split()
    classes = token_classes(tokenizer)
    kinds = [int(classes[ord(character)]) for character in line]
    tokens, position = [], 0
    while position < len(line):
        end = position + 1
        if kinds[position] in _WORD or kinds[position] == SINGLE:
            end = _token_end(kinds, position)
            tokens.append(line[position:end])
        position = end
    return tokens


_LETTERS = (LETTER, HEBREW)
_ALPHANUMERIC = (*_LETTERS, DIGIT)
_WORD = (*_ALPHANUMERIC, KATAKANA)


def _token_end(kinds: list[int], start: int) -> int:
    """Return one past the token that starts at ``start``."""
    base, position = kinds[start], start + 1
    while position < len(kinds):
        kind = kinds[position]
        if kind != EXTEND:
            if (kind in _ALPHANUMERIC and base in _ALPHANUMERIC) or kind == KATAKANA == base:
                base = kind
            elif after := _joined(kinds, base, position):
                base, position = kinds[after], after
            elif kind == SINGLE_QUOTE and base == HEBREW:
                base = kind
            else:
                return position
        position += 1
    return position


def _joined(kinds: list[int], base: int, position: int) -> int:
    """Return where the word continues after what may join it at ``position``, 0 where it does not."""
    kind, after = kinds[position], position + 1
    while after < len(kinds) and (kinds[after] == EXTEND or kinds[after] == CONNECTOR == kind):
        after += 1
    follows = kinds[after] if after < len(kinds) else SEPARATOR
    joined = (
        (kind in (MID, SINGLE_QUOTE, MID_LETTER) and base in _LETTERS and follows in _LETTERS)
        or (kind in (MID, SINGLE_QUOTE, MID_DIGIT) and base == DIGIT == follows)
        or (kind == DOUBLE_QUOTE and base == HEBREW == follows)
        or (kind == CONNECTOR and base in _WORD and follows in _WORD)
    )
    return after if joined else 0


def scan_tokens(
    text: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    max_token_bytes: int,
    max_sentence_tokens: int,
    torn: bool = False,
    elisions: str = "",
) -> Tokens:
    """Find the tokens and sentences of a normalised chunk.

    Lines end at line feeds; a sentence is a line, cut after every ``max_sentence_tokens`` tokens.

    Args:
        text: valid UTF-8, padded as text.pad_text does.
        classes: from token_classes.
        max_token_bytes: longer tokens are listed in ``oversize`` instead.
        max_sentence_tokens: tokens a sentence may have.
        torn: the chunk starts inside an overlong token: what continues it is oversize too.
        elisions: languages whose elided words are tokens of their own; see elisions.cut_elisions.
    """
    from pipeline.native.machine import PADDING
    from pipeline.text.scan_kernel import AT_ONCE, scan_spans

    size = len(text) - PADDING
    # Two tokens can only touch where a character of two bytes or more is one of them: two in three bytes at most.
    room = size * 2 // 3 + 2 + AT_ONCE
    spans = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.int32)
    tokens, lines, largest = scan_spans(text, size, classes, spans)
    found = Tokens(text, spans[0][:tokens], spans[1][:tokens], spans[2][:lines], [])
    if largest > max_token_bytes or torn:
        large = found.lengths_T > max_token_bytes
        if torn and tokens and found.starts_T[0] == 0:
            first = text[:4].tobytes().decode("utf-8", "ignore")[0]
            large[0] |= classes[ord(first)] != SINGLE
        found = set_aside(found, large)
    if elisions:
        found = Tokens(
            text, *cut_elisions(text, found.starts_T, found.lengths_T, found.ends_S, classes, elisions), found.oversize
        )
    return cut_sentences(found, max_sentence_tokens)


def set_aside(tokens: Tokens, large: NDArray[np.bool_]) -> Tokens:
    """Take the tokens that are oversize out of their sentences, and list them."""
    starts, lengths = tokens.starts_T[large], tokens.lengths_T[large]
    lines = np.searchsorted(np.flatnonzero(tokens.text == ord("\n")), starts)
    oversize = list(zip(lines.tolist(), starts.tolist(), lengths.tolist(), strict=True))
    ends_S = np.concatenate(([0], np.cumsum(~large)))[tokens.ends_S].astype(np.int32)
    ends_S = ends_S[np.diff(ends_S, prepend=0) > 0]
    return Tokens(tokens.text, tokens.starts_T[~large], tokens.lengths_T[~large], ends_S, oversize)


def cut_sentences(tokens: Tokens, longest: int) -> Tokens:
    """Cut sentences after every ``longest`` tokens."""
    return replace(tokens, ends_S=_cut(tokens.ends_S, longest))


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
