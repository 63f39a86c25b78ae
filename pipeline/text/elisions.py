"""Elided words, as l' in l'enfant, as tokens of their own: "l'" and "enfant".

`split_elisions` is the rule in readable form; `cut_elisions` is the same rule in a compiled loop, for whole chunks.
The words are those that the elision filters of Apache Lucene know by language.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from pipeline.text.wordbreak import EXTEND

#: What comes before the apostrophe, by language.
ELIDED = {
    "ca": "d l m n s t",
    "fr": "c d j jusqu l lorsqu m n puisqu qu quoiqu s t",
    "ga": "b d m",
    "it": "agl all c coll d dagl dall degl dell gl l m negl nell pell s sugl sull t un v",
}

APOSTROPHES = ("'", "\u2019")


def canonical_languages(text: str) -> str:
    """Return a list of languages in its one form: lower case, in order, each once, with commas."""
    return ",".join(sorted({name.strip().lower() for name in text.split(",")} - {""}))


@functools.cache
def elided_words(languages: str) -> frozenset[str]:
    """Return what is cut off for some languages, with its apostrophe, in lower case and both kinds of capitals."""
    words = [word for name in languages.split(",") if name for word in ELIDED[name].split()]
    return frozenset(
        one + quote for word in words for one in (word, word.capitalize(), word.upper()) for quote in APOSTROPHES
    )


def split_elisions(token: str, languages: str, classes: NDArray[np.uint8]) -> list[str]:
    """Cut a token after each elided word at its start; a word with a mark on its apostrophe is none."""
    ends = [token.find(quote) + 1 for quote in APOSTROPHES]
    end = min((end for end in ends if end), default=0)
    if not 0 < end < len(token) or token[:end] not in elided_words(languages) or classes[ord(token[end])] == EXTEND:
        return [token]
    return [token[:end], *split_elisions(token[end:], languages, classes)]


@functools.cache
def _keys(languages: str) -> NDArray[np.uint64]:
    """The words before their apostrophes, bytes of a uint64 with the first one lowest."""
    words = sorted({word.rstrip("".join(APOSTROPHES)) for word in elided_words(languages)})
    return np.array([int.from_bytes(word.encode(), "little") for word in words], np.uint64)


def cut_elisions(
    text: NDArray[np.uint8],
    starts_T: NDArray[np.int32],
    lengths_T: NDArray[np.int32],
    ends_S: NDArray[np.int32],
    classes: NDArray[np.uint8],
    languages: str,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Apply split_elisions to all tokens of a padded text; return starts, lengths and the sentences' ends."""
    from pipeline.text.elision_kernel import cut_spans

    room = len(starts_T) + int(lengths_T.sum(dtype=np.int64)) // 2  # an elided word has a letter and an apostrophe
    starts, lengths, pieces_T = (np.empty(size, np.int32) for size in (room, room, len(starts_T) + 1))
    cut_spans(text, starts_T, lengths_T, classes, _keys(languages), starts, lengths, pieces_T)
    return starts[: pieces_T[-1]], lengths[: pieces_T[-1]], pieces_T[ends_S]


def unknown_languages(languages: str) -> list[str]:
    """Return those of some languages whose elided words are not known."""
    return [name for name in languages.split(",") if name and name not in ELIDED]
