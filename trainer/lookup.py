"""Word vectors in Python: look up, compare, find the nearest; by the names that gensim's KeyedVectors made usual.

    import trainer

    vectors = trainer.load("model")
    vectors["king"]                                              # float32 [D]
    vectors.most_similar(positive=["king", "woman"], negative=["man"], topn=5)

The tables are mapped files, not memory of this process; arrays are read-only. An index is a token's id, the row of the
table: by frequency, the most frequent first, unless the vocabulary was extended (`pipeline --vocab`).

Shapes: V vocabulary rows, D dimensions, N tokens asked for.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np

from pipeline.dataset import storage
from pipeline.dataset.schema import FormatError
from trainer.mapped import map_model
from trainer.questions import Found, Key, Part, Vector, listed, unit, weighted
from trainer.spelling import explain_unknown
from trainer.store import Floats, Model
from trainer.vectors import Doubles, Ids, cosines, frequency_order, pick_table, row_norms, top_rows


class UnknownTokenError(KeyError):
    """The vocabulary has no such token; the message names those that are spelled like it."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError's own shows quotes


class Vectors:
    """A model's vectors with their tokens.

    Attributes:
        vocabulary: tokens and counts in id order.
        vectors: float32 [V, D], read-only, a row for each id; mapped, unless it is the mean of both tables.
        info: model.json: version, config, lineage, metrics.
    """

    def __init__(self, model: Model, vectors: str = "input", source: str = "model") -> None:
        """Take one of a model's tables, `input` or `output`, or their mean, `average`, which is made in memory.

        ``source`` names the model in errors.
        """
        self.vocabulary = model.vocabulary
        self.info = model.info
        self.vectors: Floats = pick_table(model, vectors).view()
        self.vectors.flags.writeable = False
        self._table, self._source = vectors, source

    def __repr__(self) -> str:
        return f"<Vectors: {len(self):,} tokens of {self.vector_size} dimensions, {self._table} table>"

    def __len__(self) -> int:
        return len(self.vocabulary)

    def __contains__(self, key: object) -> bool:
        return self._find(key) is not None

    @overload
    def __getitem__(self, keys: Key) -> Floats: ...
    @overload
    def __getitem__(self, keys: Iterable[Key]) -> Floats: ...
    def __getitem__(self, keys: Key | Iterable[Key]) -> Floats:
        """A token's vector [D], or a copied matrix [N, D] of several tokens' ones."""
        if isinstance(keys, str | int | np.integer):
            return self.vector(keys)
        if isinstance(keys, slice):
            raise TypeError("Vectors: found a slice, expected a token or several; .vectors[a:b] are rows")
        rows_N = np.array([self.get_index(key) for key in keys], np.int64)
        return self.vectors[rows_N]

    @property
    def vector_size(self) -> int:
        """D."""
        return int(self.vectors.shape[1])

    @property
    def tokens(self) -> list[str]:
        """The tokens in id order; made at the first use."""
        return self.vocabulary.tokens

    index_to_key = tokens

    @functools.cached_property
    def key_to_index(self) -> dict[str, int]:
        """Each token's id; made at the first use."""
        return {token: row for row, token in enumerate(self.tokens)}

    @functools.cached_property
    def counts(self) -> Ids:
        """How often each token stands in the corpus, int64 [V], read-only."""
        counts_V = self.vocabulary.counts.view()
        counts_V.flags.writeable = False
        return counts_V

    @functools.cached_property
    def order(self) -> Ids:
        """The ids, most frequent first, int64 [V]."""
        return frequency_order(self.counts)

    @functools.cached_property
    def ranks(self) -> Ids:
        """Each token's place by frequency, from 1, int64 [V]."""
        ranks_V = np.empty(len(self), np.int64)
        ranks_V[self.order] = np.arange(1, len(self) + 1)
        return ranks_V

    @functools.cached_property
    def norms(self) -> Doubles:
        """The vectors' lengths, float64 [V]; the first use reads the table once.

        Raises:
            FormatError: the table holds NaN or Inf.
        """
        norms_V = row_norms(self.vectors)
        if not np.isfinite(norms_V).all():
            row = int(np.flatnonzero(~np.isfinite(norms_V))[0])
            raise FormatError(
                f"{self._source}: found NaN or Inf in row {row} of {self._table}, expected finite numbers"
            )
        return norms_V

    def get_index(self, key: Key, default: int | None = None) -> int:
        """Return a token's id, or ``default`` where there is one and no such token.

        Raises:
            UnknownTokenError: neither.
        """
        row = self._find(key)
        if row is None:
            row = default
        if row is None:
            raise UnknownTokenError(self._explain(key))
        return row

    def vector(self, key: Key, norm: bool = False) -> Floats:
        """Return a token's vector [D]; with ``norm`` scaled to length 1."""
        row_D: Floats = self.vectors[self.get_index(key)]
        if norm:
            row_D = unit(row_D).astype(np.float32)
            row_D.flags.writeable = False
        return row_D

    get_vector = vector

    def similarity(self, first: Key, second: Key) -> float:
        """Return the cosine of two tokens' vectors."""
        return self.n_similarity([first], [second])

    def n_similarity(self, first: Sequence[Key], second: Sequence[Key]) -> float:
        """Return the cosine of two groups' mean vectors.

        Raises:
            ValueError: a group is empty.
        """
        if not first or not second:
            raise ValueError("n_similarity: found an empty list, expected tokens on both sides")
        means = [unit(self[keys].astype(np.float64).mean(axis=0)) for keys in (first, second)]
        return float(np.float32(means[0] @ means[1]))

    def doesnt_match(self, tokens: Iterable[str]) -> str:
        """Return the token farthest from the mean of all their unit vectors.

        Raises:
            ValueError: there are none.
        """
        tokens = list(tokens)
        if not tokens:
            raise ValueError("doesnt_match: found no tokens, expected some")
        unit_ND = np.array([unit(self[token]) for token in tokens])
        scores_N = unit_ND @ unit(unit_ND.mean(axis=0))
        return min(zip(scores_N.tolist(), tokens, strict=True))[1]

    def most_similar(
        self,
        positive: Part | Sequence[Part] | None = None,
        negative: Part | Sequence[Part] | None = None,
        topn: int = 10,
        restrict_vocab: int | None = None,
    ) -> Found:
        """Return the tokens nearest to the weighted mean of unit vectors, with their cosines, best first.

        The tokens asked about are left out; equal cosines come by id.

        Args:
            positive: tokens, indexes or vectors, alone or with weights, as in ``("king", 0.5)``.
            negative: the same, weighted −1 where they bring no weight.
            topn: how many.
            restrict_vocab: only among the so many most frequent tokens.

        Raises:
            UnknownTokenError: the vocabulary lacks a token.
            ValueError: nothing was asked, or a vector of other dimensions.
        """
        parts = [weighted(part, 1.0) for part in listed(positive)]
        parts += [weighted(part, -1.0) for part in listed(negative)]
        if not parts:
            raise ValueError("most_similar: found neither positive nor negative, expected tokens or vectors")
        asked = [self.get_index(key) for key, _ in parts if not isinstance(key, np.ndarray)]
        (scores_V,) = self.cosines(self.mean(parts)[None])
        if restrict_vocab:
            scores_V[self.order[restrict_vocab:]] = -np.inf
        return [(self.vocabulary.token(row), float(scores_V[row])) for row in self.nearest(scores_V, topn, asked)]

    def similar_by_vector(self, vector: Vector, topn: int = 10, restrict_vocab: int | None = None) -> Found:
        """Return the tokens nearest to a vector [D], with their cosines, best first."""
        return self.most_similar(np.asarray(vector), topn=topn, restrict_vocab=restrict_vocab)

    def mean(self, parts: Iterable[tuple[Key | Vector, float]]) -> Doubles:
        """Return the weighted sum of unit vectors (of vectors as they are, where arrays are given), float64 [D]."""
        total_D = np.zeros(self.vector_size)
        for key, weight in parts:
            if isinstance(key, np.ndarray) and key.shape != total_D.shape:
                raise ValueError(f"most_similar: found a vector of {key.shape}, expected {total_D.shape}")
            total_D += weight * (key if isinstance(key, np.ndarray) else unit(self[key]))
        return total_D

    def cosines(self, queries_BD: Vector) -> Floats:
        """Return the cosines float32 [B, V] of vectors with all tokens' ones."""
        return cosines(self.vectors, queries_BD, self.norms)

    def nearest(self, scores_V: Floats, top: int, without: Iterable[int] = ()) -> list[int]:
        """Return the rows of the ``top`` largest scores, best first, equal ones by row; changes ``scores_V``."""
        scores_V[list(without)] = -np.inf
        return [int(row) for row in top_rows(scores_V, top)]

    def _find(self, key: object) -> int | None:
        if isinstance(key, str):
            return self.key_to_index.get(key)
        try:
            row = operator.index(key)  # type: ignore[arg-type]
        except TypeError:
            return None
        return row if 0 <= row < len(self) else None

    def _explain(self, key: object) -> str:
        if isinstance(key, str):
            return explain_unknown(self.vocabulary, [key])
        return f"found the index {key!r}, expected a token, or a number from 0 to {len(self) - 1}"


def load(path: str, version: str | None = None, vectors: str = "input", verify: bool = True) -> Vectors:
    """Open a model's vectors.

    Args:
        path: the model's folder: a path, or a URI of an object store, from which the file is copied once to
            TMPDIR/pairstream-UID.
        version: the name of one of the folder's versions, by default the current one.
        vectors: which table: `input`, `output`, or their mean, `average`, which alone takes memory of its own.
        verify: hold the file against its SHA-256 first, which reads it once; without, opening takes no longer for a
            large model than for a small one, but for the vocabulary.

    Raises:
        FormatError: no model, unfinished training, another format version, a damaged or unexpected file.
        UserError: no such table.
    """
    return Vectors(map_model(path, version, verify), vectors, storage.redact(path))
