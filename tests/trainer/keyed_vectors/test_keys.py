"""Vectors in Python: against gensim on the exported file, against brute force, and whatever the blocks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trainer
from pipeline.dataset.schema import FormatError
from pipeline.dataset.vocabulary import make_vocabulary
from trainer.errors import UserError
from trainer.exporting.command import export_model
from trainer.keyed_vectors.vectors import Vectors
from trainer.models.store import Model, save_model
from trainer.vectors.search import cosines, row_norms

INFO: dict[str, Any] = {"config": {}, "lineage": {}, "metrics": {}}
TOKENS = [f"w{i}" for i in range(200)]


def make_model(rows: int = 200, dim: int = 17) -> Model:
    """Counts not in the order of ids, as in a vocabulary that was extended; no two are equal."""
    rng = np.random.default_rng(3)
    tables = rng.standard_normal((2, rows, dim)).astype(np.float32)
    tables *= rng.uniform(0.01, 9, (2, rows, 1)).astype(np.float32)
    return Model(tables[0], tables[1], make_vocabulary(TOKENS[:rows], (rng.permutation(rows) + 1).tolist()), INFO)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lookup")
    save_model(str(root / "model"), make_model(), {})
    return root


@pytest.fixture(scope="module")
def vectors(folder: Path) -> Vectors:
    return trainer.load(str(folder / "model"))


@pytest.fixture(scope="module", params=["input", "output", "average"])
def both(request: pytest.FixtureRequest, folder: Path) -> tuple[Vectors, Any]:
    """Ours, and gensim's of the exported file."""
    from gensim.models import KeyedVectors

    path = str(folder / f"{request.param}.bin")
    export_model(make_model(), "word2vec-bin", path, request.param)
    loaded = KeyedVectors.load_word2vec_format(path, binary=True)
    return trainer.load(str(folder / "model"), vectors=request.param), loaded


def same(ours: list[tuple[str, float]], theirs: list[tuple[str, float]]) -> None:
    assert [token for token, _ in ours] == [token for token, _ in theirs]
    np.testing.assert_allclose([s for _, s in ours], [s for _, s in theirs], rtol=0, atol=1e-6)


QUESTIONS: list[dict[str, Any]] = [
    {"positive": "w3"},
    {"positive": ["w3"], "topn": 1},
    {"positive": ["w3", "w150"], "negative": ["w77"], "topn": 25},
    {"positive": ["w3", "w150"], "negative": "w77"},
    {"positive": None, "negative": ["w9"]},
    {"positive": np.arange(34.0).reshape(2, 17)},
    {"positive": [("w3", 0.25), ("w4", 2.0)], "negative": [("w5", -0.5)]},
    {"positive": ["w3", "w3", "w8"]},
    {"positive": [np.arange(17.0)], "negative": ["w1"]},
    {"positive": np.arange(17, dtype=np.float32)},
    {"positive": ["w3", "w4"], "topn": 500},
    {"positive": ["w3"], "restrict_vocab": 30, "topn": 7},
    {"positive": ["w3"], "topn": 0},
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # gensim's and its dependencies' own
@pytest.mark.parametrize("question", QUESTIONS, ids=[str(i) for i in range(len(QUESTIONS))])
def test_most_similar_is_gensims(both: tuple[Vectors, Any], question: dict[str, Any]) -> None:
    ours, theirs = both
    same(ours.most_similar(**question), theirs.most_similar(**question))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_rest_is_gensims(both: tuple[Vectors, Any]) -> None:
    ours, theirs = both
    assert len(ours) == len(theirs)
    assert ours.vector_size == theirs.vector_size
    assert sorted(ours.index_to_key) == sorted(theirs.index_to_key)
    assert [ours.tokens[row] for row in ours.order] == theirs.index_to_key
    for token in TOKENS[::20]:
        np.testing.assert_array_equal(ours[token], theirs[token])
        np.testing.assert_array_equal(ours.vectors[ours.key_to_index[token]], theirs[token])
        np.testing.assert_allclose(ours.vector(token, norm=True), theirs.get_vector(token, norm=True), atol=1e-6)
        assert ours.similarity(token, "w5") == pytest.approx(float(theirs.similarity(token, "w5")), abs=1e-6)
    np.testing.assert_array_equal(ours[TOKENS[9:2:-1]], theirs[TOKENS[9:2:-1]])
    groups = (["w1", "w2", "w3"], ["w9", "w8"])
    assert ours.n_similarity(*groups) == pytest.approx(float(theirs.n_similarity(*groups)), abs=1e-6)
    for start in range(0, 200, 8):
        assert ours.doesnt_match(TOKENS[start : start + 5]) == theirs.doesnt_match(TOKENS[start : start + 5])
    same(ours.similar_by_vector(ours["w7"], 4), theirs.similar_by_vector(theirs["w7"], 4))


def test_looking_up(vectors: Vectors) -> None:
    model = make_model()
    assert repr(vectors) == "<Vectors: 200 tokens of 17 dimensions, input table>"
    assert vectors.tokens == TOKENS
    np.testing.assert_array_equal(vectors["w7"], model.input_VD[7])
    np.testing.assert_array_equal(vectors[7], model.input_VD[7])
    np.testing.assert_array_equal(vectors[["w7", 3]], model.input_VD[[7, 3]])
    assert vectors[[]].shape == (0, 17)
    assert vectors.get_index("w9") == vectors.key_to_index["w9"] == 9
    assert vectors.get_index("x", default=-1) == -1
    assert ["w9" in vectors, "x" in vectors, 0 in vectors, 200 in vectors, -1 in vectors, None in vectors] == [
        True, False, True, False, False, False,
    ]  # fmt: skip
    np.testing.assert_array_equal(vectors.counts, model.vocabulary.counts)
    assert vectors.counts[vectors.order].tolist() == list(range(200, 0, -1))
    assert vectors.ranks[vectors.order].tolist() == list(range(1, 201))
    assert len(vectors.info["version"]) == 16


def test_unknown_tokens_name_those_spelled_alike(vectors: Vectors) -> None:
    for ask in (
        lambda: vectors["w1999"],
        lambda: vectors[["w1", "w1999"]],
        lambda: vectors.get_index("w1999"),
        lambda: vectors.similarity("w1", "w1999"),
        lambda: vectors.most_similar(negative=["w1999"]),
        lambda: vectors.doesnt_match(["w1", "w1999"]),
    ):
        with pytest.raises(KeyError) as caught:
            ask()
        assert isinstance(caught.value, trainer.UnknownTokenError)
        assert str(caught.value).startswith("'w1999' is not in the vocabulary. Did you mean: w199, ")
    with pytest.raises(KeyError, match="found the index 200, expected a token, or a number from 0 to 199"):
        vectors[200]


def test_wrong_questions(vectors: Vectors, folder: Path) -> None:
    with pytest.raises(ValueError, match="found neither positive nor negative"):
        vectors.most_similar()
    with pytest.raises(ValueError, match=r"found a vector of \(3,\), expected \(17,\)"):
        vectors.most_similar(np.ones(3))
    with pytest.raises(ValueError, match="doesnt_match: no tokens given"):
        vectors.doesnt_match([])
    with pytest.raises(ValueError, match="n_similarity: found an empty list"):
        vectors.n_similarity([], ["w1"])
    with pytest.raises(TypeError, match="found a slice"):
        vectors[1:2]  # type: ignore[call-overload]
    with pytest.raises(UserError, match="--vectors: found 'both'"):
        trainer.load(str(folder / "model"), vectors="both")
    with pytest.raises(FormatError, match="no such folder"):
        trainer.load(str(folder / "none"))


def test_arrays_are_read_only_and_mapped(folder: Path) -> None:
    for name in ("input", "output", "average"):
        vectors = trainer.load(str(folder / "model"), vectors=name)
        for array in (vectors.vectors, vectors["w1"], vectors.vector("w1", norm=True), vectors.counts):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1
        base: Any = vectors.vectors
        while isinstance(base, np.ndarray):
            base = base.base
        # numpy shows the buffer that an array was made from: the mapping, or nothing for memory of its own
        assert (type(getattr(base, "obj", base)).__name__ == "mmap") == (name != "average")


def test_versions_of_a_folder(tmp_path: Path) -> None:
    first, second = make_model(9), make_model(5)
    version = save_model(str(tmp_path), first, {})
    save_model(str(tmp_path), second, {})
    assert len(trainer.load(str(tmp_path))) == 5
    assert len(trainer.load(str(tmp_path), version=version)) == 9


def test_not_finite_numbers_are_refused() -> None:
    for value in (np.nan, np.inf):
        table = np.ones((4, 3), np.float32)
        table[2, 1] = value
        with pytest.raises(FormatError, match="found NaN or Inf in row 2 of input"):
            Vectors(Model(table, table, make_vocabulary("abcd", [4, 3, 2, 1]), INFO)).most_similar("a")


@pytest.mark.parametrize("numbers", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("threads", [1, 3])
def test_blocks_and_threads_change_no_bit(numbers: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table = make_model().input_VD
    queries = table[[5, 6, 199]] - table[[8, 9, 0]]
    expected = cosines(table, queries)
    one_by_one = np.concatenate([cosines(table, query[None]) for query in queries])
    monkeypatch.setattr("trainer.vectors.search._BLOCK_NUMBERS", numbers)
    monkeypatch.setattr("trainer.vectors.search.usable_cores", lambda: threads)
    np.testing.assert_array_equal(cosines(table, queries), expected)
    np.testing.assert_array_equal(one_by_one, expected)
    exact = table.astype(np.float64)
    products = (queries.astype(np.float64) @ exact.T) / np.linalg.norm(exact, axis=1)
    np.testing.assert_allclose(expected, products / np.linalg.norm(queries, axis=1)[:, None], atol=1e-6)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_equal_rows_tie_and_come_by_id(rows: int, dim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = rng.integers(-2, 3, (rows, dim)).astype(np.float32)[rng.integers(0, rows, rows)]
    vectors = Vectors(Model(table, table, make_vocabulary([f"w{i}" for i in range(rows)], [1] * rows), INFO))
    found = vectors.most_similar(np.ones(dim), topn=rows)
    scores = dict(found)
    assert [token for token, _ in found] == sorted(scores, key=lambda token: (-scores[token], int(token[1:])))
    for i in range(rows):
        same_rows = np.flatnonzero((table == table[i]).all(axis=1))
        assert len({scores[f"w{j}"] for j in same_rows}) == 1


def test_rows_whose_squares_leave_the_range_of_float32() -> None:
    table = np.array([[3e38, 3e38], [1e-30, 0], [1e-45, 1e-45], [0, 0], [1, 1], [-2e19, 2e19]], np.float32)
    np.testing.assert_allclose(row_norms(table)[[0, 1, 3, 4]], [3e38 * 2**0.5, 1e-30, 0, 2**0.5], rtol=1e-6)
    expected = [1, 0.5**0.5, 1, 0, 1, 0]
    for query in ([[1e-40, 1e-40]], [[1, 1]], [[3e38, 3e38]]):
        np.testing.assert_allclose(cosines(table, np.array(query, np.float32))[0], expected, atol=1e-6)
    assert cosines(table, np.zeros((1, 2))).tolist() == [[0] * 6]


def test_importing_trainer_imports_nothing_more() -> None:
    code = (
        "import sys, trainer; print(sorted({'numpy', 'pyarrow', 'torch'} & set(sys.modules)), 'load' in dir(trainer))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] True\n"
    code = "import sys, trainer; trainer.load; print(sorted({'numba', 'torch', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    with pytest.raises(AttributeError, match="module 'trainer' has no attribute 'nothing'"):
        trainer.nothing  # type: ignore[attr-defined]  # noqa: B018
