"""Word vectors in Python: look up, compare, find the nearest; by the names that gensim's KeyedVectors made usual.

    import trainer

    vectors = trainer.load("model")
    vectors["king"]                                              # float32 [D]
    vectors.most_similar(positive=["king", "woman"], negative=["man"], topn=5)

The tables are mapped files, not memory of this process; arrays are read-only.

Shapes: V vocabulary rows, D dimensions, N keys.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np

from pipeline.dataset.vocabulary import make_vocabulary
from pipeline.storage import storage
from trainer.keyed_vectors.keys import UnknownTokenError
from trainer.keyed_vectors.word_tests import WordTests
from trainer.models.mapped import map_model
from trainer.models.store import Floats, Model
from trainer.vectors.arguments import (
    Key,
    Vector,
    as_uri,
    is_key,
    require_key,
    require_keys,
    require_list,
    require_vector,
    require_weight,
    unit,
)
from trainer.vectors.search import Doubles, pick_table
from trainer.vectors.unseen import unseen_words

__all__ = ["UnknownTokenError", "Vectors", "load"]


class Vectors(WordTests):
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
        super().__init__(model.vocabulary)
        self.info, self.unseen = model.info, unseen_words(model, vectors)
        self.vectors = pick_table(model, vectors).view()
        self.vectors.flags.writeable = False
        self._table, self._source = vectors, source

    def __repr__(self) -> str:
        return f"<Vectors: {len(self):,} tokens of {self.vector_size} dimensions, {self._table} table>"

    @overload
    def __getitem__(self, keys: Key) -> Floats: ...
    @overload
    def __getitem__(self, keys: Iterable[Key]) -> Floats: ...
    def __getitem__(self, keys: Key | Iterable[Key]) -> Floats:
        """A token's vector [D], or a matrix [N, D] of copies of several tokens' vectors."""
        if is_key(keys):
            return self.get_vector(keys)
        return self._rows(require_keys("Vectors[...]", keys))

    def fill_norms(self, force: bool = False) -> None:
        """Measure the vectors' lengths now; with ``force`` again."""
        if force:
            self.__dict__.pop("norms", None)
        _ = self.norms

    def init_sims(self, replace: bool = False) -> None:
        """Measure the vectors' lengths now: gensim's older name of `fill_norms`."""
        if replace:
            self._refuse_change()
        self.fill_norms()

    def get_vector(self, key: Key, norm: bool = False) -> Floats:
        """Return a token's vector [D]; with ``norm`` scaled to length 1."""
        row_D = self._row(require_key("get_vector", key))
        if norm:
            row_D = unit(row_D).astype(np.float32)
        row_D.flags.writeable = False
        return row_D

    vector = word_vec = get_vector

    def get_normed_vectors(self) -> Floats:
        """Return all vectors scaled to length 1, float32 [V, D], in memory; those of zeros stay as they are."""
        normed_VD = np.array(self.vectors)
        normed_VD /= np.where(self.norms == 0, 1.0, self.norms)[:, None]
        return normed_VD

    def get_mean_vector(
        self, keys: Sequence[Key | Vector], weights: Sequence[float] | Vector | None = None,
        pre_normalize: bool = True, post_normalize: bool = False, ignore_missing: bool = True,
    ) -> Floats:  # fmt: skip
        """Return the weighted mean of vectors, float32 [D].

        Args:
            keys: tokens, indexes or vectors.
            weights: one for each; 1 by default. Their absolute values are what the sum is divided by.
            pre_normalize: scale the tokens' vectors to length 1 first; vectors stay as they are.
            post_normalize: scale the mean to length 1.
            ignore_missing: leave out unknown tokens; where all are unknown, the mean is zeros.

        Raises:
            ValueError: no keys, another number of weights, or numbers that are not finite.
            UnknownTokenError: an unknown token, without ``ignore_missing``.
        """
        listed = require_list("get_mean_vector", keys)
        given = [1.0] * len(listed) if weights is None else require_list("get_mean_vector: weights", weights)
        if not listed or len(given) != len(listed):
            raise ValueError(
                f"get_mean_vector: found {len(listed)} keys and {len(given)} weights, expected as many of both"
            )
        total_D, total = np.zeros(self.vector_size), 0.0
        for key, weight in zip(listed, [require_weight("get_mean_vector", one) for one in given], strict=True):
            if isinstance(key, np.ndarray):
                row_D = require_vector("get_mean_vector", key, self.vector_size)
            elif ignore_missing and require_key("get_mean_vector", key) not in self:
                continue
            else:
                row_D = self._vector("get_mean_vector", key)
                row_D = unit(row_D) if pre_normalize else row_D
            total_D, total = total_D + weight * row_D, total + abs(weight)
        mean_D = total_D / (total or 1.0)
        return _as_floats(unit(mean_D) if post_normalize else mean_D)

    def vectors_for_all(
        self, keys: Iterable[Key], allow_inference: bool = True, copy_vecattrs: bool = False
    ) -> Vectors:
        """Return the vectors of some tokens alone, in memory; unknown ones are left out, repeated ones come once.

        Args:
            keys: tokens or indexes, in the order of the new ids.
            allow_inference: words that the vocabulary lacks come too, where their n-grams answer for them.
            copy_vecattrs: keep the counts, 0 for such words; without, as in gensim, they are N, N−1 … 1.
        """
        rows = dict[str, int | None]()
        for key in require_keys("vectors_for_all", keys):
            row = self._find(key)
            if row is not None:
                rows.setdefault(self.vocabulary.token(row), row)
            elif allow_inference and isinstance(key, str) and key in self:
                rows.setdefault(key, None)
        known = [0 if row is None else int(self.counts[row]) for row in rows.values()]
        counts = known if copy_vecattrs else range(len(rows), 0, -1)
        vocabulary, table = make_vocabulary(rows, counts), self._rows([*rows])
        return Vectors(Model(table, table, vocabulary, self.info), source=self._source)

    def save_word2vec_format(
        self, fname: str | os.PathLike[str], fvocab: str | os.PathLike[str] | None = None, binary: bool = False,
        total_vec: int | None = None, write_header: bool = True, prefix: str = "", append: bool = False,
        sort_attr: str = "count",
    ) -> None:  # fmt: skip
        """Write the vectors as word2vec's text or binary file, most frequent first.

        Args:
            fname: the file to write: a path or a URI.
            fvocab: a file for the tokens and their counts.
            binary: the binary format.
            total_vec: the number of vectors to state in the first line.
            write_header: write that line.
            prefix: put before each token.
            append: add to the file, which must be a local one.
            sort_attr: `count`; any other name leaves the order of ids.

        Raises:
            FormatError: a token with white space, which no reader of the format could find.
        """
        from trainer.exporting.formats import Export
        from trainer.exporting.word2vec import write_vectors, write_vocabulary

        order_V = self.order if sort_attr == "count" else np.arange(len(self), dtype=np.int64)
        export = Export(self.vectors, self.vocabulary.column, self.counts, order_V)
        if fvocab is not None:
            write_vocabulary(export, as_uri(fvocab), prefix, append)
        first = f"{len(self) if total_vec is None else total_vec} {self.vector_size}\n" if write_header else ""
        write_vectors(export, as_uri(fname), first, prefix, binary, append)


def load(
    path: str | os.PathLike[str], version: str | None = None, vectors: str = "input", verify: bool = True
) -> Vectors:
    """Open a model's vectors.

    Args:
        path: the model's folder: a path, or a URI of an object store, from which the file is copied once to
            TMPDIR/pairstream-UID.
        version: the name of one of the folder's versions, by default the current one.
        vectors: which table: `input`, `output`, or their mean, `average`, which alone takes memory of its own.
        verify: check the file against its SHA-256 first, which reads it once; without, opening takes no longer for a
            large model than for a small one, but for the vocabulary.

    Raises:
        FormatError: no model, unfinished training, another format version, a damaged or unexpected file.
        UserError: no such table.
    """
    uri = as_uri(path)
    return Vectors(map_model(uri, version, verify), vectors, storage.redact(uri))


def _as_floats(numbers: Doubles) -> Floats:
    with np.errstate(over="ignore"):
        floats: Floats = numbers.astype(np.float32)
    if not np.isfinite(floats).all():
        raise ValueError("get_mean_vector: found a mean beyond the range of float32")
    return floats
