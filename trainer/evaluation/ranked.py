"""A model's tokens in order of frequency, found whatever their case or Unicode form.

Shapes: V vocabulary rows, most frequent first; D dimensions, N rows that are asked for.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.dataset.schema import FormatError
from pipeline.dataset.vocabulary import Vocabulary
from trainer.models.store import Floats, Model
from trainer.vectors.search import Ids, frequency_order, pick_tables, unit_rows
from trainer.vectors.unseen import UnseenWords, unseen_words

Fold = Callable[[str], str]


@dataclass(frozen=True, eq=False)
class RankedVectors:
    """A model's tokens in order of frequency; vectors are read from its tables as they are asked for.

    Attributes:
        tables: the table that is scored, or the two whose mean is, rows in id order.
        order_V: ids, most frequent first.
        rows: place by frequency of a folded token, the most frequent where several are equal.
        fold: makes words equal that are to be taken for one.
        first_V: for each place that of the most frequent token that is equal to it.
        unseen: what answers for unknown words, if anything does.
    """

    tables: tuple[Floats, ...]
    order_V: Ids
    rows: dict[str, int]
    fold: Fold
    first_V: Ids
    unseen: UnseenWords | None = None

    def find(self, words: Sequence[str]) -> list[int | None]:
        """Return the places of words, None for unknown ones."""
        return [self.find_word(word) for word in words]

    def find_word(self, word: str) -> int | None:
        """Return a word's place, as it is folded, or with compatibility characters replaced too (NFKC)."""
        row = self.rows.get(self.fold(word))
        return row if row is not None else self.rows.get(self.fold(unicodedata.normalize("NFKC", word)))

    def unit(self, places: Sequence[int] | Ids) -> Floats:
        """Return vectors scaled to length 1, float32."""
        ids = self.order_V[np.asarray(places, np.int64)]
        rows_ND = self.tables[0][ids]
        for other in self.tables[1:]:
            rows_ND = (rows_ND + other[ids]) * np.float32(0.5)
        if not np.isfinite(rows_ND).all():
            raise FormatError("found NaN or Inf in the model's vectors, expected finite numbers")
        return unit_rows(rows_ND)

    def unit_of(self, word: str) -> Floats | None:
        """Return a word's vector scaled to length 1, by its n-grams where it is unknown; None where it has none."""
        place = self.find_word(word)
        if place is not None:
            found_ND = self.unit([place])
        else:
            unseen_D = None if self.unseen is None else self.unseen.vector(word)
            if unseen_D is None:
                return None
            found_ND = unit_rows(unseen_D[None])
        found_D: Floats = found_ND[0]
        return found_D


def fold_case(word: str) -> str:
    """Compose a word (NFC) and put it into lower case."""
    return word.lower() if word.isascii() else _composed(_composed(word).lower())


def fold_upper(word: str) -> str:
    """Compose a word (NFC) and put it into upper case, as gensim compares words."""
    return word.upper() if word.isascii() else _composed(_composed(word).upper())


def compose(word: str) -> str:
    """Compose a word (NFC) and leave its case."""
    return word if word.isascii() else _composed(word)


def rank_vectors(model: Model, vectors: str = "input") -> RankedVectors:
    ranked = rank_tables(pick_tables(model, vectors), model.vocabulary)
    return replace(ranked, unseen=unseen_words(model, vectors))


def rank_tables(
    tables: tuple[Floats, ...], vocabulary: Vocabulary, fold: Fold = fold_case, limit: int | None = None
) -> RankedVectors:
    """Prepare tables for scoring, with the ``limit`` most frequent tokens alone if there is one."""
    order_V = frequency_order(vocabulary.counts)[:limit]
    rows: dict[str, int] = {}
    first_V = np.empty(len(order_V), np.int64)
    tokens = vocabulary.tokens
    for place, token_id in enumerate(order_V.tolist()):
        first_V[place] = rows.setdefault(fold(tokens[token_id]), place)
    return RankedVectors(tables, order_V, rows, fold, first_V)


def _composed(word: str) -> str:
    return unicodedata.normalize("NFC", word)
