"""Words that the vocabulary lacks, answered by their n-grams."""

from __future__ import annotations

import functools
import unicodedata

import pyarrow.compute as pc

from pipeline.dataset.vocabulary import Vocabulary
from trainer.models.store import Floats, Model
from trainer.subwords.table import SubwordTable


class UnseenWords:
    """What a model with subwords says of words that are not in its vocabulary."""

    def __init__(self, vocabulary: Vocabulary, table: SubwordTable) -> None:
        self._vocabulary, self._table = vocabulary, table

    def spell(self, word: str) -> str:
        """Write a word as the tokens are: composed (NFC), and in lower case where none has an upper-case letter."""
        return unicodedata.normalize("NFC", unicodedata.normalize("NFC", word).lower() if self._lowers else word)

    def ngrams(self, word: str) -> int:
        """How many n-grams a word has; one that has none is unknown."""
        return int(self._table.rule.unseen(self.spell(word), len(self._vocabulary)).size)

    def vector(self, word: str) -> Floats | None:
        """The mean of a word's n-grams, float32 [D]; None where it has none."""
        return self._table.vector(self.spell(word))

    @functools.cached_property
    def _lowers(self) -> bool:
        column = self._vocabulary.column
        return pc.all(pc.equal(pc.utf8_lower(column), column), min_count=0).as_py() is True


def unseen_words(model: Model, vectors: str = "input") -> UnseenWords | None:
    """What answers for words that a model's vocabulary lacks; None without subwords, which only input vectors have."""
    if model.subwords is None or vectors != "input":
        return None
    return UnseenWords(model.vocabulary, model.subwords)
