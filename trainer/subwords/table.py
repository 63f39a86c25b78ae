"""The table that words are made of, and words that are not in the vocabulary.

Shapes: R rows of the table, D dimensions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from trainer.subwords.ngrams import Floats, Subwords, compose


class SubwordTable:
    """The rule, and a row for each word and each bucket; the rows of a finished model are mapped at their first use."""

    def __init__(self, rule: Subwords, rows: Floats | Callable[[], Floats]) -> None:
        """Take float32 [V + buckets, D], or what opens it."""
        self.rule = rule
        self._rows = rows

    @functools.cached_property
    def rows_RD(self) -> Floats:  # noqa: N802
        """Words' own rows in id order, then the buckets: float32 [V + buckets, D]."""
        return self._rows() if callable(self._rows) else self._rows

    def vector(self, word: str) -> Floats | None:
        """The mean of the n-grams of a word that is not in the vocabulary, float32 [D]; None where it has none."""
        rows = self.rule.unseen(word, len(self.rows_RD) - self.rule.buckets)
        return compose(self.rows_RD, np.array([0, rows.size]), rows)[0] if rows.size else None
