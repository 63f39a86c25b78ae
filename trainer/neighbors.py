"""The tokens whose vectors point most nearly the same way as a word's: largest cosine first.

Each word asked has a list of its own, without itself. A word is taken as it is written or, where the vocabulary has no
such token, composed (NFC), then in lower case, then with compatibility characters replaced (NFKC).

Shapes: B words asked, V vocabulary rows, D dimensions.
"""

from __future__ import annotations

import argparse
import difflib
import json
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.vocab import Vocabulary
from trainer.errors import UserError
from trainer.store import Floats, load_model
from trainer.vectors import add_model_arguments, cosines, frequency_order, pick_table, top_rows

_BLOCK_WORDS = 16  # words whose cosines with the whole vocabulary are held at once
_SPELLING_TOKENS = 200_000  # the most frequent ones are searched for close spellings
_SPELLING_CANDIDATES = 300
_SAMPLE_RANKS = (100, 160, 250, 400, 630, 1000)  # by frequency: behind the function words, still well trained
_BINS = 32  # the low five bits of a byte tell most scripts' letters apart


def find_word(vocabulary: Vocabulary, word: str) -> int | None:
    """Return the id of a word by the rules above, None if the vocabulary has no such token."""
    composed = unicodedata.normalize("NFC", word)
    lowered = unicodedata.normalize("NFC", composed.lower())
    compatible = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", word).lower())
    found = (vocabulary.id_of(spelling) for spelling in (word, composed, lowered, compatible))
    return next((row for row in found if row is not None), None)


def close_spellings(vocabulary: Vocabulary, word: str, count: int = 5) -> list[str]:
    """Return the tokens spelled most nearly like ``word``, among the 200,000 most frequent; the nearest first.

    Tokens of about the same bytes, whatever their order, are found by whole arrays; difflib compares those only.
    """
    order = frequency_order(vocabulary.counts)[:_SPELLING_TOKENS]
    if not len(order) or not word:
        return []
    tokens = pa.concat_arrays(vocabulary.column.take(pa.array(order)).chunks)
    lowered = word.lower()
    distances = np.abs(_byte_bags(tokens) - _byte_bags(pa.array([lowered]))).sum(axis=1)
    nearest = np.argsort(distances, kind="stable")[:_SPELLING_CANDIDATES]  # ties: the more frequent token
    spelled = {token: token.lower() for token in tokens.take(pa.array(nearest)).to_pylist()}
    ratios = {token: difflib.SequenceMatcher(None, lower, lowered).ratio() for token, lower in spelled.items()}
    close = [token for token, ratio in ratios.items() if ratio >= 0.6]
    return sorted(close, key=ratios.__getitem__, reverse=True)[:count]


def sample_words(vocabulary: Vocabulary) -> list[str]:
    """Return a few tokens to show a model by: frequent ones, yet not the most frequent, if there are that many."""
    order = frequency_order(vocabulary.counts)
    ranks = [rank for rank in _SAMPLE_RANKS if rank <= len(order)] or range(1, min(len(order), len(_SAMPLE_RANKS)) + 1)
    return [vocabulary.token(int(order[rank - 1])) for rank in ranks]


def find_neighbors(table_VD: Floats, vocabulary: Vocabulary, rows: Sequence[int], top: int) -> list[dict[str, Any]]:
    """Return for each row its token, count and `neighbors`: token, cosine and count of the ``top`` nearest rows."""
    found = []
    for start in range(0, len(rows), _BLOCK_WORDS):
        rows_B = np.array(rows[start : start + _BLOCK_WORDS], np.int64)
        scores_BV = cosines(table_VD, table_VD[rows_B])
        scores_BV[np.arange(len(rows_B)), rows_B] = -np.inf
        found += [
            _entry(vocabulary, row)
            | {
                "neighbors": [
                    {"cosine": round(float(scores_V[near]), 6)} | _entry(vocabulary, near)
                    for near in top_rows(scores_V, top).tolist()
                ]
            }
            for row, scores_V in zip(rows_B.tolist(), scores_BV, strict=True)
        ]
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``neighbors``."""
    add_model_arguments(parser)
    parser.add_argument(
        "words",
        nargs="*",
        metavar="WORD",
        help="a word to look up; put -- before one that starts with -; without any, some frequent ones are taken",
    )
    parser.add_argument("--top", type=int, default=10, metavar="N", help="neighbours a word (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Look the words up and print their neighbours.

    Raises:
        UserError: a word that the vocabulary does not have, or a wrong number.
        FormatError: a damaged model.
    """
    if args.top < 1:
        raise UserError(f"--top: found {args.top}, expected at least 1")
    model = load_model(args.model)
    words = args.words or sample_words(model.vocabulary)
    rows = [find_word(model.vocabulary, word) for word in words]
    unknown = [word for word, row in zip(words, rows, strict=True) if row is None]
    if unknown:
        raise UserError(_explain_unknown(model.vocabulary, unknown))
    known = [row for row in rows if row is not None]
    found = find_neighbors(pick_table(model, args.vectors), model.vocabulary, known, args.top)
    answers = [{"word": word} | entry for word, entry in zip(words, found, strict=True)]
    if args.json:
        print(json.dumps({"vectors": args.vectors, "words": answers}))
    else:
        print("\n\n".join(describe(answer) for answer in answers))
    return 0


def describe(answer: dict[str, Any]) -> str:
    """Format one word's neighbours for people, in aligned columns."""
    near = answer["neighbors"]
    tokens = [printable(entry["token"]) for entry in near]
    width = max(map(display_width, tokens), default=0)
    digits = max((len(f"{entry['count']:,}") for entry in near), default=0)
    lines = [f"{printable(answer['token'])}  (count {answer['count']:,})"]
    for token, entry in zip(tokens, near, strict=True):
        padding = " " * (width - display_width(token))
        lines.append(f"  {token}{padding}  {entry['cosine']:7.4f}  {entry['count']:>{digits},}")
    return "\n".join(lines)


def printable(token: str) -> str:
    """Escape what would move a terminal's cursor or act on it; letters, marks and joiners stay."""
    return "".join(c if c.isprintable() or c in "\u200c\u200d" else ascii(c)[1:-1] for c in token)


def display_width(text: str) -> int:
    """Return the columns that ``text`` takes on a terminal: wide characters two, marks and joiners none."""
    return sum(_character_width(character) for character in text)


def _character_width(character: str) -> int:
    # Hangul vowels and final consonants join the syllable before them.
    if unicodedata.category(character) in ("Mn", "Me", "Cf") or "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _entry(vocabulary: Vocabulary, row: int) -> dict[str, Any]:
    return {"token": vocabulary.token(row), "count": int(vocabulary.counts[row])}


def _explain_unknown(vocabulary: Vocabulary, words: Sequence[str]) -> str:
    parts = []
    for word in words[:10]:
        close = close_spellings(vocabulary, word)
        parts.append(f"{word!r}" + (f" (close spellings: {', '.join(map(printable, close))})" if close else ""))
    more = f" and {len(words) - 10} more" if len(words) > 10 else ""
    return f"found no {', '.join(parts)}{more} among the model's {len(vocabulary):,} tokens, expected words it knows"


def _byte_bags(tokens: pa.Array) -> npt.NDArray[np.int16]:
    """Count each token's bytes by their low five bits, [len(tokens), 32]."""
    joined = tokens.cast(pa.large_binary())
    lengths = pc.binary_length(joined).to_numpy(zero_copy_only=False)
    first = int(np.frombuffer(joined.buffers()[1], np.int64)[joined.offset])
    data = np.frombuffer(joined.buffers()[2] or b"", np.uint8)[first : first + int(lengths.sum())]
    slots = np.repeat(np.arange(len(tokens)) * _BINS, lengths) + (data & (_BINS - 1))
    return np.bincount(slots, minlength=len(tokens) * _BINS).reshape(-1, _BINS).astype(np.int16)
