"""Questions that are none: an answer that gensim gives too, or an error that says what was found and expected."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import trainer
from pipeline.dataset.vocabulary import make_vocabulary
from trainer.keyed_vectors.vectors import Vectors
from trainer.models.store import Model

DIM = 11
WORDS = [f"w{i}" for i in range(120)]


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    table = np.random.default_rng(5).standard_normal((len(WORDS), DIM)).astype(np.float32)
    return Vectors(Model(table, table, make_vocabulary(WORDS, range(len(WORDS), 0, -1)), {}))


NAN, INF = np.full(DIM, np.nan), np.full(DIM, np.inf)
ODD: dict[str, Any] = {
    "bytes": b"w3", "bytearray": bytearray(b"w3"), "pair": ("w3", "w4"), "triple": ("w3", "w4", 0.5), "nan": NAN,
    "inf": INF, "wrong dimension": np.ones(DIM + 1), "matrix of matrices": np.ones((2, 2, DIM)), "None": None,
    "no list": [], "no word": "", "unknown": "w333", "negative": -1, "too large": len(WORDS), "True": True,
    "numpy's True": np.bool_(1), "float": 1.5, "list in a list": [["w3"]], "dict": {"w3": 2.0},
    "texts": np.array(["w3"]), "0-d": np.array(1),
    "integers": np.array([1, 2]), "booleans": np.ones(DIM, bool), "complex": np.ones(DIM) * 1j, "slice": slice(0, 2),
    "bytes in a list": [b"w3"], "None in a list": [None], "object": object(), "...": ...,
    "masked": np.ma.masked_array(np.ones(DIM), [True] + [False] * (DIM - 1)), "NaN weight": [("w3", np.nan)],
    "text weight": [("w3", "2")], "True weight": [("w3", True)], "no UTF-8": "w\udcff", "numbers": [0.5] * (DIM + 1),
}  # fmt: skip
#: What each method makes of a query that is not one.
METHODS: dict[str, Callable[[Vectors, Any], Any]] = {
    "[]": lambda v, x: v[x],
    "most_similar": lambda v, x: v.most_similar(x),
    "negative": lambda v, x: v.most_similar("w3", x),
    "cosmul": lambda v, x: v.most_similar_cosmul(x),
    "similar_by_key": lambda v, x: v.similar_by_key(x),
    "similar_by_vector": lambda v, x: v.similar_by_vector(x),
    "topn": lambda v, x: v.most_similar("w3", topn=x),
    "restrict_vocab": lambda v, x: v.most_similar("w3", restrict_vocab=x),
    "clip_start": lambda v, x: v.most_similar("w3", clip_start=x),
    "clip_end": lambda v, x: v.most_similar("w3", clip_end=x),
    "indexer": lambda v, x: v.most_similar("w3", indexer=x),
    "similarity": lambda v, x: v.similarity(x, "w4"),
    "distance": lambda v, x: v.distance("w4", x),
    "n_similarity": lambda v, x: v.n_similarity(x, ["w4"]),
    "n_similarity, second": lambda v, x: v.n_similarity(["w4"], x),
    "distances": lambda v, x: v.distances(x),
    "distances, others": lambda v, x: v.distances("w4", x),
    "closer_than": lambda v, x: v.closer_than(x, "w4"),
    "rank": lambda v, x: v.rank("w4", x),
    "most_similar_to_given": lambda v, x: v.most_similar_to_given("w4", x),
    "doesnt_match": lambda v, x: v.doesnt_match(x),
    "get_mean_vector": lambda v, x: v.get_mean_vector(x, ignore_missing=False),
    "weights": lambda v, x: v.get_mean_vector(["w3", "w4", "w5"], x),
    "get_vector": lambda v, x: v.get_vector(x),
    "get_index": lambda v, x: v.get_index(x),
    "get_vecattr": lambda v, x: v.get_vecattr(x, "count"),
    "attribute": lambda v, x: v.get_vecattr("w3", x) if isinstance(x, str) else v.get_vecattr("w3", str(type(x))),
    "vectors_for_all": lambda v, x: v.vectors_for_all(x),
    "cosine_similarities": lambda v, x: v.cosine_similarities(x, np.ones((2, DIM))),
    "cosine_similarities, second": lambda v, x: v.cosine_similarities(np.ones(DIM), x),
    "relative_cosine_similarity": lambda v, x: v.relative_cosine_similarity("w3", "w4", x),
    "evaluate_word_pairs": lambda v, x: v.evaluate_word_pairs(x),
    "evaluate_word_analogies": lambda v, x: v.evaluate_word_analogies(x),
}
#: Odd for most methods, and fine for these.
FINE: dict[str, set[str]] = {
    "[]": {"pair", "no list", "texts", "integers"},
    "negative": {"None", "no list"},
    "topn": {"None", "negative", "too large"},
    "restrict_vocab": {"None", "too large"},
    "clip_start": {"too large"},
    "clip_end": {"None", "too large"},
    "indexer": {"None"},
    "n_similarity": {"pair", "texts", "integers"},
    "n_similarity, second": {"pair", "texts", "integers"},
    "distances, others": {"None", "no list", "pair", "texts", "integers"},
    "most_similar_to_given": {"pair", "texts", "integers"},
    "doesnt_match": {"pair", "texts", "integers"},
    "get_mean_vector": {"pair", "texts", "integers"},
    "weights": {"None"},
    "vectors_for_all": {"pair", "no list", "texts", "integers"},
    "relative_cosine_similarity": {"too large"},
}


@pytest.mark.parametrize("method", METHODS)
def test_odd_arguments(vectors: Vectors, method: str) -> None:
    silent = [name for name, odd in ODD.items() if not refuses(METHODS[method], vectors, odd, method)]
    assert silent == [name for name in ODD if name in FINE.get(method, ())]


def refuses(ask: Callable[[Vectors, Any], Any], vectors: Vectors, odd: Any, method: str) -> bool:
    """Tell whether a method refuses an argument, and require that it says why in words of its own."""
    caught: Exception | None = None
    try:
        ask(vectors, odd)
    except (TypeError, ValueError, KeyError, FileNotFoundError) as error:
        caught = error
    for numpys in ("matmul", "broadcast", "ambiguous", "truth value", "iterable", "concatenate", "subscript"):
        assert numpys not in str(caught)
    if isinstance(odd, str) and isinstance(caught, KeyError) and method != "attribute":
        assert isinstance(caught, trainer.UnknownTokenError)
        assert str(caught).startswith(f"{odd!r} is not in the vocabulary.")
    return caught is not None


def test_long_and_short_vectors_have_a_direction(vectors: Vectors) -> None:
    query = vectors["w3"].astype(np.float64)
    expected = vectors.most_similar(query, topn=7)
    for scale in (1e300, 1e-300, 1e20, 1e-40):
        for found in (vectors.most_similar(query * scale, topn=7), vectors.similar_by_vector(list(query * scale), 7)):
            assert [token for token, _ in found] == [token for token, _ in expected]
            assert [cosine for _, cosine in found] == pytest.approx([cosine for _, cosine in expected], abs=1e-6)
        np.testing.assert_allclose(vectors.distances(query * scale), vectors.distances("w3"), atol=1e-6)
        assert vectors.n_similarity([query * scale], ["w4"]) == pytest.approx(vectors.similarity("w3", "w4"), abs=1e-6)
    rows = np.ones((1, DIM))
    assert vectors.cosine_similarities(query * 1e300, rows) == pytest.approx(vectors.cosine_similarities(query, rows))
    assert vectors.most_similar([("w3", 1e308), ("w4", 1e308)]) == vectors.most_similar(["w3", "w4"])
    with pytest.raises(ValueError, match="too long, expected a length of 1"):
        vectors.most_similar_cosmul([query * 1e300, query * 1e300])
    with pytest.raises(ValueError, match="beyond the range of float32"):
        vectors.get_mean_vector([query * 1e300])


def test_a_tuple_is_a_weighted_key_as_in_gensim(vectors: Vectors) -> None:
    assert vectors.most_similar([("w3", 2), "w4"]) == vectors.most_similar([("w3", 1.0), ("w4", 0.5)])
    assert vectors.most_similar(("w3", 2)) == vectors.most_similar("w3")  # not the token and row 2


def test_an_unknown_token_is_explained_when_it_is_shown(vectors: Vectors) -> None:
    with pytest.raises(trainer.UnknownTokenError) as caught:
        vectors.similarity("w3", "W11")
    assert str(caught.value).startswith("'W11' is not in the vocabulary. Did you mean: w11, ")
    assert repr(caught.value) == f"UnknownTokenError({str(caught.value)!r})"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
