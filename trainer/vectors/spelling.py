"""Which token a typed word means, and which ones are spelled like it."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.vocabulary import Vocabulary
from trainer.vectors.display import printable
from trainer.vectors.search import frequency_order

_SPELLING_TOKENS = 200_000  # the most frequent ones are searched for close spellings
_SPELLING_CANDIDATES = 300
_EXPLAINED = 10  # words of one query
_BINS = 32  # the low five bits of a byte tell most scripts' letters apart


def find_word(vocabulary: Vocabulary, word: str) -> int | None:
    """Return the id of the token that a word means, None if there is none.

    It is taken as it is written or, where the vocabulary has no such token, composed (NFC), then in lower case, then
    with compatibility characters replaced (NFKC).
    """
    composed = unicodedata.normalize("NFC", word)
    lowered = unicodedata.normalize("NFC", composed.lower())
    compatible = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", word).lower())
    spellings = dict.fromkeys((word, composed, lowered, compatible))
    found = (_row_of(vocabulary, spelling) for spelling in spellings)
    return next((row for row in found if row is not None), None)


def close_spellings(vocabulary: Vocabulary, word: str, count: int = 5) -> list[str]:
    """Return the tokens spelled most nearly like ``word``, among the 200,000 most frequent; the nearest first.

    Tokens of about the same bytes, whatever their order, are found by whole arrays; difflib compares those only.
    """
    order = frequency_order(vocabulary.counts)[:_SPELLING_TOKENS]
    if not len(order) or not word:
        return []
    tokens = pa.concat_arrays(vocabulary.column.take(pa.array(order)).chunks)
    lowered = word.lower().encode(errors="replace").decode()  # bytes of a command line that were no UTF-8
    distances = np.abs(_byte_bags(tokens) - _byte_bags(pa.array([lowered]))).sum(axis=1)
    nearest = np.argsort(distances, kind="stable")[:_SPELLING_CANDIDATES]  # ties: the more frequent token
    spelled = {token: token.lower() for token in tokens.take(pa.array(nearest)).to_pylist()}
    ratios = {token: difflib.SequenceMatcher(None, lower, lowered).ratio() for token, lower in spelled.items()}
    close = [token for token, ratio in ratios.items() if ratio >= 0.6]
    return sorted(close, key=ratios.__getitem__, reverse=True)[:count]


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


def _byte_bags(tokens: pa.Array) -> npt.NDArray[np.int16]:
    """Count each token's bytes by their low five bits, [len(tokens), 32]."""
    joined = tokens.cast(pa.large_binary())
    lengths = pc.binary_length(joined).to_numpy(zero_copy_only=False)
    first = int(np.frombuffer(joined.buffers()[1], np.int64)[joined.offset])
    data = np.frombuffer(joined.buffers()[2] or b"", np.uint8)[first : first + int(lengths.sum())]
    slots = np.repeat(np.arange(len(tokens)) * _BINS, lengths) + (data & (_BINS - 1))
    return np.bincount(slots, minlength=len(tokens) * _BINS).reshape(-1, _BINS).astype(np.int16)
