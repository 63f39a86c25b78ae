"""A vocabulary by the names of gensim's KeyedVectors: tokens, their indexes and counts; and what cannot be changed.

An index is a token's id, the row of the table. Ids come by frequency, the most frequent first, unless the vocabulary
was extended (`pipeline --vocab`): `order` has them by frequency in any case.

Shapes: V vocabulary rows.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

import numpy as np

from pipeline.dataset.vocabulary import Vocabulary
from trainer.vectors.arguments import Key, require_key, require_size
from trainer.vectors.search import Ids, frequency_order
from trainer.vectors.spelling import explain_unknown
from trainer.vectors.unseen import UnseenWords

_SEALED = (
    "the vectors of a model are read-only. To change them, copy them into gensim: "
    "KeyedVectors(vectors.vector_size).add_vectors(vectors.index_to_key, vectors.vectors)"
)
_NO_PICKLE = "a model's folder is the saved form; save_word2vec_format and `pairstream export` write other ones"
_RENAMED = {
    "index2entity": "index_to_key",
    "index2word": "index_to_key",
    "syn0": "vectors",
    "vectors_norm": "get_normed_vectors()",
    "vocab": "key_to_index, and get_vecattr(key, 'count')",
}


class UnknownTokenError(KeyError):
    """The vocabulary has no such token; the message names those that are spelled like it."""

    def __init__(self, message: str | Callable[[], str]) -> None:
        """Take the message, or what makes it: many errors are caught and never shown."""
        super().__init__()
        self._message = message

    @property
    def args(self) -> tuple[str]:  # type: ignore[override]
        """The message."""
        if not isinstance(self._message, str):
            self._message = self._message()
        return (self._message,)

    def __str__(self) -> str:
        return self.args[0]  # KeyError's own shows quotes

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.args[0]!r})"

    def __reduce__(self) -> tuple[type[UnknownTokenError], tuple[str]]:
        return type(self), (str(self),)


class Keys:
    """Tokens, their indexes and counts.

    Attributes:
        unseen: what answers for words that are not in the vocabulary; None for a model without subwords.
    """

    unseen: UnseenWords | None = None

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    def __len__(self) -> int:
        return len(self.vocabulary)

    def __contains__(self, key: object) -> bool:
        return self.has_index_for(key) or (
            isinstance(key, str) and self.unseen is not None and self.unseen.ngrams(key) > 0
        )

    def __iter__(self) -> Iterator[str]:
        """Walk the tokens in id order."""
        return iter(self.tokens)

    __reversed__ = None

    def __getattr__(self, name: str) -> NoReturn:
        hint = f"; it is called {_RENAMED[name]}" if name in _RENAMED else ""
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{hint}", name=name, obj=self)

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
        """How often each token occurs in the corpus, int64 [V], read-only."""
        counts_V = self.vocabulary.counts.view()
        counts_V.flags.writeable = False
        return counts_V

    @functools.cached_property
    def expandos(self) -> Mapping[str, Ids]:
        """The attributes of tokens: `count` alone."""
        return types.MappingProxyType({"count": self.counts})

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

    def get_index(self, key: Key, default: int | None = None) -> int:
        """Return a token's id, or ``default`` where there is one and no such token.

        Raises:
            UnknownTokenError: neither.
            TypeError: neither, and the key is no token or index at all.
        """
        row = self._find(key)
        row = default if row is None else row
        if row is None:
            require_key("key", key)
            raise UnknownTokenError(functools.partial(self._explain, key))
        return row

    def has_index_for(self, key: object) -> bool:
        """Tell whether the vocabulary has a token or an index."""
        return self._find(key) is not None

    def get_vecattr(self, key: Key, attr: str) -> np.int64:
        """Return a token's `count`."""
        if attr not in self.expandos:
            raise KeyError(f"found the attribute {attr!r}, expected 'count'")
        count: np.int64 = self.expandos[attr][self.get_index(key)]
        return count

    def most_frequent(
        self, name: str, restrict_vocab: int | None = None, clip_start: int = 0, clip_end: int | None = None
    ) -> Ids | None:
        """Return the ids of the most frequent tokens, or those with places by frequency in a range; None for all.

        As in gensim, ``restrict_vocab`` overrides the range, and 0 is no limit.
        """
        if restrict_vocab is not None and require_size(f"{name}: restrict_vocab", restrict_vocab):
            return self.order[:restrict_vocab]
        start = require_size(f"{name}: clip_start", clip_start)
        stop = 0 if clip_end is None else require_size(f"{name}: clip_end", clip_end)
        return self.order[start : stop or None] if start or stop else None

    def _refuse_change(self, *_: object, **__: object) -> NoReturn:
        raise TypeError(_SEALED)

    __setitem__ = __delitem__ = add_vector = add_vectors = set_vecattr = allocate_vecattrs = _refuse_change
    resize_vectors = sort_by_descending_frequency = unit_normalize_all = intersect_word2vec_format = _refuse_change

    def save(self, *_: object, **__: object) -> NoReturn:
        """Refuse to write gensim's own format, a pickle."""
        raise TypeError(_NO_PICKLE)

    def _find(self, key: object) -> int | None:
        if isinstance(key, str):
            row = self.key_to_index.get(key)
            return self.key_to_index.get(self.unseen.spell(key)) if row is None and self.unseen is not None else row
        if not isinstance(key, int | np.integer) or isinstance(key, bool):
            hash(key)  # refuses a list, as `in` does for dictionaries
            return None
        return int(key) if 0 <= key < len(self) else None

    def _explain(self, key: Key) -> str:
        if isinstance(key, str):
            return explain_unknown(self.vocabulary, [key])
        return f"found the index {key!r}, expected a token, or a number from 0 to {len(self) - 1}"
