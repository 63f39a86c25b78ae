"""How near tokens are, by the names and with the answers of gensim's KeyedVectors.

Sums are made in float64, of unit vectors, or of arrays as they are given. Equal cosines come in the order of rows.

Shapes: V vocabulary rows, D dimensions, N parts of a query.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.dataset.schema import FormatError
from trainer.keyed_vectors.keys import Keys
from trainer.models.store import Floats
from trainer.vectors.arguments import (
    Found,
    Key,
    Part,
    Vector,
    is_key,
    parse_parts,
    require_key,
    require_keys,
    require_list,
    require_size,
    require_vector,
    scaled,
    unit,
)
from trainer.vectors.search import Doubles, Ids, cosines, exact_units, row_norms, top_rows

_COSMUL_SMALL = 1e-6  # gensim's, which keeps the quotient finite


class Similarities(Keys):
    """What is asked of the vectors and norms of tokens, which a subclass has."""

    vectors: Floats
    _source: str  # the model and its table, for errors
    _table: str

    @functools.cached_property
    def norms(self) -> Doubles:
        """The vectors' lengths, float64 [V]; the first use reads the table once."""
        norms_V = row_norms(self.vectors)
        if not np.isfinite(norms_V).all():
            row = int(np.flatnonzero(~np.isfinite(norms_V))[0])
            raise FormatError(
                f"{self._source}: found NaN or Inf in row {row} of {self._table}, expected finite numbers"
            )
        return norms_V

    @property
    def vector_size(self) -> int:
        """D."""
        return int(self.vectors.shape[1])

    def similarity(self, w1: Key, w2: Key) -> float:
        """Return the cosine of two tokens' vectors."""
        return self.n_similarity([require_key("similarity", w1)], [require_key("similarity", w2)])

    def distance(self, w1: Key, w2: Key) -> float:
        """Return 1 − the cosine of two tokens' vectors."""
        return 1 - self.similarity(w1, w2)

    def n_similarity(self, ws1: Sequence[Key | Vector], ws2: Sequence[Key | Vector]) -> float:
        """Return the cosine of two groups' mean vectors."""
        groups = [require_list("n_similarity", group) for group in (ws1, ws2)]
        if not all(groups):
            raise ValueError("n_similarity: found an empty list, expected tokens on both sides")
        means = [
            unit(self.mean(parse_parts("n_similarity", group, 1.0, self.vector_size), normalize=False))
            for group in groups
        ]
        return float(np.float32(means[0] @ means[1]))

    def distances(self, word_or_vector: Key | Vector, other_words: Iterable[Key] | None = ()) -> Floats:
        """Return 1 − the cosines with other tokens, by default all of them in id order, float32 [V]."""
        query_D = self._vector("distances", word_or_vector)
        others = require_keys("distances", () if other_words is None else other_words)
        scores_BV = cosines(self._rows(others), query_D[None]) if others else self.cosines(query_D[None])
        distances_V: Floats = 1 - scores_BV[0]
        return distances_V

    def closer_than(self, key1: Key, key2: Key) -> list[str]:
        """Return the tokens nearer to ``key1`` than ``key2`` is, in id order."""
        first_D, second_D = (self._row(require_key("closer_than", key)) for key in (key1, key2))
        (scores_V,) = self.cosines(first_D[None])
        first, second = self._find(key1), self._find(key2)
        bound = scores_V[second] if second is not None else cosines(second_D[None], first_D[None])[0, 0]
        return [self.vocabulary.token(int(row)) for row in np.flatnonzero(scores_V > bound) if row != first]

    words_closer_than = closer_than

    def rank(self, key1: Key, key2: Key) -> int:
        """Return which place ``key2`` has among the tokens nearest to ``key1``, from 1."""
        return len(self.closer_than(key1, key2)) + 1

    def most_similar_to_given(self, key1: Key, keys_list: Sequence[Key]) -> Key:
        """Return that one of some tokens which is nearest to ``key1``."""
        keys = require_keys("most_similar_to_given", keys_list)
        if not keys:
            raise ValueError("most_similar_to_given: found an empty list, expected tokens")
        return keys[int(np.argmax([self.similarity(key1, key) for key in keys]))]

    def rank_by_centrality(self, words: Iterable[Key], use_norm: bool = True) -> list[tuple[float, Key]]:
        """Return cosines with the mean of all these tokens, and the tokens, largest first."""
        keys = require_keys("doesnt_match", words)
        if not keys:
            raise ValueError("doesnt_match: no tokens given")
        rows = [self._row(key) for key in keys]
        vectors_ND = np.array([unit(row_D) if use_norm else row_D for row_D in rows], np.float64)
        scores_N = vectors_ND @ unit(vectors_ND.mean(axis=0))
        return sorted(zip(scores_N.tolist(), keys, strict=True), key=lambda one: (one[0], str(one[1])), reverse=True)

    def doesnt_match(self, words: Iterable[Key]) -> Key:
        """Return the token farthest from the mean of all their unit vectors."""
        return self.rank_by_centrality(words)[-1][1]

    def most_similar(
        self, positive: Part | Sequence[Part] | None = None, negative: Part | Sequence[Part] | None = None,
        topn: int | None = 10, clip_start: int = 0, clip_end: int | None = None, restrict_vocab: int | None = None,
        indexer: None = None,
    ) -> Any:  # fmt: skip
        """Return the tokens nearest to the weighted mean of unit vectors, with their cosines, best first.

        The query's own tokens are left out.

        Args:
            positive: tokens, indexes or vectors, alone or with weights, as in ``("king", 0.5)``.
            negative: the same, with the weight −1 where none is given.
            topn: how many; None returns all cosines, float32 [V] in id order (in order of frequency where the search
                is limited).
            clip_start: leave out the so many most frequent tokens.
            clip_end: search among the so many most frequent tokens only.
            restrict_vocab: the same, with no ``clip_start``.
            indexer: not supported.

        Raises:
            UnknownTokenError: the vocabulary lacks a token.
            ValueError: neither positive nor negative, or a vector of other dimensions or with NaN or Inf.
            TypeError: anything else that is no part of a query.
        """
        if indexer is not None:
            raise TypeError("most_similar: found an indexer, expected None: every search looks at all vectors")
        parts = parse_parts("most_similar", positive, 1.0, self.vector_size)
        parts += parse_parts("most_similar", negative, -1.0, self.vector_size)
        if not parts:
            raise ValueError("most_similar: found neither positive nor negative, expected tokens or vectors")
        (scores_V,) = self.cosines(self.mean(parts)[None])
        limit = self.most_frequent("most_similar", restrict_vocab, clip_start, clip_end)
        return self._best("most_similar", scores_V, topn, [key for key, _ in parts], limit)

    def most_similar_cosmul(
        self, positive: Part | Sequence[Part] | None = None, negative: Part | Sequence[Part] | None = None,
        topn: int | None = 10, restrict_vocab: int | None = None,
    ) -> Any:  # fmt: skip
        """Return the best tokens by 3CosMul (Levy and Goldberg 2014): a quotient of products of cosines, not a sum.

        Args:
            positive: tokens, indexes, or vectors of length 1; no weights.
            negative: the same.
            topn: as in `most_similar`.
            restrict_vocab: as in `most_similar`; gensim takes this argument and leaves it unused.
        """
        sides = [parse_parts("most_similar_cosmul", side, 1.0, self.vector_size) for side in (positive, negative)]
        if not sides[0]:
            raise ValueError("most_similar_cosmul: found no positive, expected tokens or vectors")
        if any(weight != 1 for side in sides for _, weight in side):
            raise TypeError("most_similar_cosmul: found a weight, expected tokens or vectors without weights")
        keys = [[key for key, _ in side] for side in sides]
        with np.errstate(over="ignore", invalid="ignore"):
            above_V, below_V = (((1 + self._products(side)) / 2).prod(axis=0) for side in keys)
            scores_V = above_V / (below_V + _COSMUL_SMALL)
        if not np.isfinite(scores_V).all():
            raise ValueError("most_similar_cosmul: found vectors that are too long, expected a length of 1")
        limit = self.most_frequent("most_similar_cosmul", restrict_vocab)
        return self._best("most_similar_cosmul", scores_V, topn, keys[0] + keys[1], limit)

    def similar_by_key(self, key: Key, topn: int | None = 10, restrict_vocab: int | None = None) -> Any:
        """Return the tokens nearest to one, with their cosines, best first."""
        return self.most_similar(positive=[key], topn=topn, restrict_vocab=restrict_vocab)

    similar_by_word = similar_by_key

    def similar_by_vector(self, vector: Vector, topn: int | None = 10, restrict_vocab: int | None = None) -> Any:
        """Return the tokens nearest to a vector [D], with their cosines, best first."""
        query = np.asarray(vector) if isinstance(vector, list) else vector
        return self.most_similar(positive=[query], topn=topn, restrict_vocab=restrict_vocab)

    def relative_cosine_similarity(self, wa: Key, wb: Key, topn: int = 10) -> float:
        """Return a cosine as a share of the sum of the ``topn`` largest ones (Leeuwenberg et al. 2016)."""
        require_size("relative_cosine_similarity: topn", topn, 1)
        found: Found = self.similar_by_key(wa, topn)
        if not (total := sum(score for _, score in found)):
            raise ValueError("relative_cosine_similarity: no similar tokens")
        return self.similarity(wa, wb) / total

    @staticmethod
    def cosine_similarities(vector_1: Vector, vectors_all: Vector) -> npt.NDArray[np.number]:
        """Return the cosines of one vector [D] with the rows of a matrix [N, D]; 0 where either is all zeros."""
        table = np.asarray(vectors_all)
        if table.ndim != 2 or table.dtype.kind not in "fiu" or not np.isfinite(table).all():
            raise ValueError("cosine_similarities: expected a matrix of finite numbers as second argument")
        query_D = unit(require_vector("cosine_similarities", vector_1, table.shape[1]))
        return exact_units(table) @ query_D

    def mean(self, parts: Iterable[tuple[Key | Vector, float]], normalize: bool = True) -> Doubles:
        """Return a vector float64 [D] in the direction of the weighted sum of vectors.

        Args:
            parts: keys or vectors, with weights.
            normalize: scale the vectors of keys to length 1; arrays stay as they are.
        """
        keys, weights = zip(*parts, strict=True)
        rows = [self._vector("mean", key) for key in keys]
        scales = [unit if normalize and is_key(key) else np.asarray for key in keys]
        vectors_ND = np.array([scale(row_D) for scale, row_D in zip(scales, rows, strict=True)])
        total_D = np.zeros(self.vector_size)
        for weight, row_D in zip(scaled(np.array(weights, np.float64)), scaled(vectors_ND), strict=True):
            total_D += weight * row_D
        return total_D

    def cosines(self, queries_BD: Vector) -> Floats:
        """Return the cosines float32 [B, V] of vectors with all tokens' ones."""
        return cosines(self.vectors, queries_BD, self.norms)

    def nearest(self, scores_V: npt.NDArray[np.number], top: int, without: Iterable[int] = ()) -> list[int]:
        """Return the rows of the ``top`` largest scores, best first, equal ones by row; changes ``scores_V``."""
        scores_V[list(without)] = -np.inf
        return [int(row) for row in top_rows(scores_V, top)]

    def _products(self, keys: Sequence[Key | Doubles]) -> Doubles:
        """Return products of unit vectors of keys, or of vectors as they are, with all unit vectors, float64 [N, V]."""
        vectors_ND = np.array([self._vector("most_similar_cosmul", key) for key in keys]).reshape(-1, self.vector_size)
        lengths_N = np.array([1.0 if is_key(key) else np.linalg.norm(key) for key in keys])
        products_NV: Doubles = self.cosines(vectors_ND) * lengths_N[:, None]
        return products_NV

    def _vector(self, name: str, value: object) -> Doubles:
        """Return a token's vector, or a vector as it is, float64 [D]."""
        if isinstance(value, np.ndarray | list):
            return require_vector(name, value, self.vector_size)
        exact_D: Doubles = self._row(require_key(name, value)).astype(np.float64)
        return exact_D

    def _row(self, key: Key) -> Floats:
        """Return a token's vector, or that of a word that is not in the vocabulary, float32 [D]."""
        row = self._find(key)
        if row is None and isinstance(key, str) and self.unseen is not None:
            unseen_D = self.unseen.vector(key)
            if unseen_D is not None:
                return unseen_D
        row_D: Floats = self.vectors[self.get_index(key)]
        return row_D

    def _rows(self, keys: Sequence[Key]) -> Floats:
        """Return the vectors of keys, float32 [N, D], a copy."""
        rows_N = [self._find(key) for key in keys]
        if None in rows_N:
            return np.array([self._row(key) for key in keys])
        rows_ND: Floats = self.vectors[np.array(rows_N, np.int64)]
        return rows_ND

    def _best(
        self, name: str, scores_V: Floats | Doubles, topn: int | None, query: Iterable[Key | Doubles], limit: Ids | None
    ) -> Found | Floats | Doubles:
        """Return the ``topn`` best tokens but those of the query, or all scores; among the ids ``limit``, if any."""
        if topn is None:
            return scores_V if limit is None else scores_V[limit]
        top = require_size(f"{name}: topn", topn, None)
        if limit is not None:
            limited_V = np.full_like(scores_V, -np.inf)
            limited_V[limit] = scores_V[limit]
            scores_V = limited_V
        own = [row for key in query if is_key(key) and (row := self._find(key)) is not None]
        return [(self.vocabulary.token(row), float(scores_V[row])) for row in self.nearest(scores_V, top, own)]
