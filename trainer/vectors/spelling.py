"""Which token a typed word means, and which ones are spelled like it."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.vocabulary import Vocabulary
from trainer.vectors.display import printable
from trainer.vectors.search import frequency_order

_SPELLING_TOKENS = 200_000  # the most frequent ones are searched for close spellings
_SPELLING_RATIO = 60  # of 100
_EXPLAINED = 10  # words of one query

#: What newer tokenizers leave out of words: soft hyphen, zero-width space to right-to-left mark, byte-order mark.
_INVISIBLE = dict.fromkeys((0xAD, *range(0x200B, 0x2010), 0xFEFF))


def find_word(vocabulary: Vocabulary, word: str) -> int | None:
    """Return the id of the token that a word means, None if there is none.

    It is taken as it is written or, where the vocabulary has no such token, composed (NFC), then in lower case, then
    with compatibility characters replaced (NFKC); last, all of this without invisible characters.
    """
    visible = word.translate(_INVISIBLE)
    spellings = dict.fromkeys((*_spellings(word), *_spellings(visible)))
    found = (_row_of(vocabulary, spelling) for spelling in spellings)
    return next((row for row in found if row is not None), None)


def has_spaces(vocabulary: Vocabulary) -> bool:
    """Tell whether tokens have spaces in them, as items of lists may."""
    return bool(pc.any(pc.match_substring(vocabulary.column, " ")).as_py())


def _spellings(word: str) -> tuple[str, ...]:
    composed = unicodedata.normalize("NFC", word)
    lowered = unicodedata.normalize("NFC", composed.lower())
    return word, composed, lowered, unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", word).lower())


def close_spellings(vocabulary: Vocabulary, word: str, count: int = 5) -> list[str]:
    """Return the tokens spelled most nearly like ``word``, among the 200,000 most frequent; the nearest first."""
    from rapidfuzz import fuzz, process

    order = frequency_order(vocabulary.counts)[:_SPELLING_TOKENS]
    tokens = vocabulary.column.take(pa.array(order))
    lowered = pc.utf8_lower(tokens).to_pylist()
    near = process.extract(word.lower(), lowered, scorer=fuzz.ratio, score_cutoff=_SPELLING_RATIO, limit=count)
    return [tokens[place].as_py() for _, _, place in near]  # ties: the more frequent token


def explain_unknown(vocabulary: Vocabulary, words: Sequence[str]) -> str:
    """Say on one line that words are not in the vocabulary, and which tokens are spelled like them."""
    sentences = []
    for word in words[:_EXPLAINED]:
        close = close_spellings(vocabulary, word)
        hint = f" Did you mean: {', '.join(map(printable, close))}?" if close else ""
        sentences.append(f"{word!r} is not in the vocabulary.{hint}")
    if len(words) > _EXPLAINED:
        sentences.append(f"Neither are {len(words) - _EXPLAINED} more words.")
    return " ".join(sentences)


def _row_of(vocabulary: Vocabulary, token: str) -> int | None:
    # A look at all tokens, some milliseconds for a million of them, where a dictionary of them takes half a second.
    try:
        row = pc.index(vocabulary.column, token).as_py()
    except UnicodeEncodeError:  # a command line's bytes that are no UTF-8
        return None
    return row if row >= 0 else None
