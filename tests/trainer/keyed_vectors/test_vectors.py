"""Vectors beside gensim's KeyedVectors with the same arrays: its own tests and its answers."""

from __future__ import annotations

import gc
import subprocess
import sys
import types
import unittest
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # gensim's and its dependencies' own
    import gensim.test.test_keyedvectors as gensims_tests
    from gensim.models import KeyedVectors
    from gensim.test.utils import datapath

import trainer
from pipeline.dataset.schema import FormatError
from pipeline.dataset.vocabulary import make_vocabulary
from trainer.keyed_vectors.vectors import Vectors
from trainer.models.store import Model, save_model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:gensim")

INFO: dict[str, Any] = {"config": {}, "lineage": {}, "metrics": {}}
DIM = 11
WORDS = [f"w{i}" for i in range(120)]
#: gensim's tests that change the vectors, which a model's are not for.
REFUSED = {"test_add_single", "test_add_multiple", "test_set_item"}


def model_of(tokens: list[str], table: np.ndarray, counts: list[int]) -> Model:
    return Model(table, table[::-1].copy(), make_vocabulary(tokens, counts), INFO)


def peer_of(vectors: Vectors, order: np.ndarray | None = None) -> Any:
    """Gensim's object with the same vectors and counts, in the order of ids or another one."""
    rows = np.arange(len(vectors)) if order is None else order
    peer = KeyedVectors(vectors.vector_size)
    peer.add_vectors([vectors.tokens[row] for row in rows], np.array(vectors.vectors)[rows])
    for row in rows.tolist():
        peer.set_vecattr(vectors.tokens[row], "count", int(vectors.counts[row]))
    return peer


@pytest.fixture(scope="module")
def model() -> Model:
    """An extended vocabulary: ids are not in the order of frequency."""
    rng = np.random.default_rng(5)
    table = rng.standard_normal((len(WORDS), DIM)).astype(np.float32)
    table *= rng.uniform(0.1, 8, (len(WORDS), 1)).astype(np.float32)
    return model_of(WORDS, table, (rng.permutation(len(WORDS)) + 1).tolist())


@pytest.fixture(scope="module")
def vectors(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Vectors:
    folder = tmp_path_factory.mktemp("model")
    save_model(str(folder), model, {})
    return trainer.load(folder)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # gensim's tests leave files open
def test_gensims_own_tests_pass(tmp_path: Path) -> None:
    file = KeyedVectors.load_word2vec_format(datapath("euclidean_vectors.bin"), binary=True)
    counts = [int(file.get_vecattr(key, "count")) for key in file.index_to_key]
    save_model(str(tmp_path), model_of(file.index_to_key, file.vectors, counts), {})

    class OnOurs(gensims_tests.TestKeyedVectors):
        def setUp(self) -> None:
            super().setUp()
            self.vectors = trainer.load(tmp_path)

    suite = unittest.defaultTestLoader.loadTestsFromTestCase(OnOurs)
    result = unittest.TestResult()
    suite.run(result)
    gc.collect()
    assert result.testsRun >= 29
    failed = {case.id().rpartition(".")[2]: text for case, text in result.errors + result.failures}
    assert failed.keys() == REFUSED, failed
    assert all("the vectors of a model are read-only" in text for text in failed.values())


V = "vector"  # replaced by an array of the right size
SAME: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("most_similar", ("w3",), {}),
    ("most_similar", (["w3", "w4"], ["w5"]), {"topn": 4}),
    ("most_similar", ([("w3", 0.5), ("w4", 2)], [("w5", -0.25)]), {}),
    ("most_similar", (V,), {"topn": 5}),
    ("most_similar", ([V, "w7"], [9]), {"topn": 5}),
    ("most_similar", ("w3",), {"topn": None}),
    ("most_similar", ("w3",), {"topn": 0}),
    ("most_similar", ("w3",), {"topn": -4}),
    ("most_similar", ("w3",), {"topn": np.int8(3)}),
    ("most_similar", ("w3",), {"topn": 999}),
    ("similar_by_word", ("w9", 3), {}),
    ("similar_by_key", (9, 3), {}),
    ("similar_by_vector", (V, 3), {}),
    ("most_similar_cosmul", ("w3", "w9"), {"topn": 6}),
    ("most_similar_cosmul", (["w3", "w4"], ["w5"]), {}),
    ("most_similar_cosmul", (V,), {"topn": 6}),
    ("most_similar_cosmul", ("w3",), {"topn": None}),
    ("most_similar_to_given", ("w3", ["w9", "w8", "w7"]), {}),
    ("similarity", ("w3", "w9"), {}),
    ("similarity", (3, 9), {}),
    ("n_similarity", (["w3", "w4"], ["w9"]), {}),
    ("distance", ("w3", "w9"), {}),
    ("distance", ("w3", "w3"), {}),
    ("distances", ("w3",), {}),
    ("distances", ("w3", ["w9", "w8"]), {}),
    ("distances", (V, ["w9"]), {}),
    ("distances", (V,), {}),
    ("closer_than", ("w3", "w9"), {}),
    ("words_closer_than", ("w3", "w9"), {}),
    ("rank", ("w3", "w9"), {}),
    ("doesnt_match", (["w3", "w4", "w9"],), {}),
    ("rank_by_centrality", (["w3", "w4", "w9"], False), {}),
    ("relative_cosine_similarity", ("w3", "w9", 7), {}),
    ("get_mean_vector", (["w3", "w4", "none"],), {}),
    ("get_mean_vector", (["w3", V, 5], [1, -2, 0.5]), {"post_normalize": True}),
    ("get_mean_vector", (["w3", "w4"],), {"pre_normalize": False}),
    ("get_mean_vector", (["none"],), {}),
    ("get_vector", ("w3",), {"norm": True}),
    ("word_vec", ("w3",), {}),
    ("get_normed_vectors", (), {}),
    ("get_index", ("w3",), {}),
    ("get_index", ("none", -7), {}),
    ("get_vecattr", ("w3", "count"), {}),
    ("has_index_for", ("w3",), {}),
    ("has_index_for", ("none",), {}),
    ("__contains__", (5,), {}),
    ("__contains__", (b"w3",), {}),
    ("__len__", (), {}),
    ("__getitem__", (["w3", 4],), {}),
    ("__getitem__", (("w3", 4),), {}),
]


@pytest.mark.parametrize(("name", "arguments", "options"), SAME, ids=[f"{i}-{one[0]}" for i, one in enumerate(SAME)])
def test_answers_are_gensims(vectors: Vectors, name: str, arguments: Any, options: Any) -> None:
    array = np.random.default_rng(1).standard_normal(DIM).astype(np.float32)

    def filled(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(map(filled, value))
        return array if isinstance(value, str) and value == V else value

    ours, theirs = (getattr(one, name)(*filled(arguments), **options) for one in (vectors, peer_of(vectors)))
    require_same(ours, theirs)


def require_same(ours: Any, theirs: Any) -> None:
    """Compare numbers to a millionth, and all else as it is."""
    if isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            require_same(one, other)
    elif isinstance(theirs, np.ndarray | float | np.floating):
        assert np.shape(ours) == np.shape(theirs)
        np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-6)
    else:
        assert ours == theirs


def test_what_gensim_reads_off_the_order_of_ids_is_by_frequency_here(vectors: Vectors) -> None:
    sorted_peer = peer_of(vectors, vectors.order)
    for options in (
        {"restrict_vocab": 20}, {"clip_start": 30}, {"clip_end": 25}, {"clip_start": 5, "clip_end": 25},
        {"clip_end": 0}, {"restrict_vocab": 0}, {"clip_start": 200}, {"restrict_vocab": 20, "clip_start": 10},
        {"restrict_vocab": 999}, {"restrict_vocab": 20, "topn": None}, {"clip_start": 5, "clip_end": 9, "topn": None},
    ):  # fmt: skip
        require_same(vectors.most_similar("w3", **options), sorted_peer.most_similar("w3", **options))
    expected = [
        one for one in sorted_peer.most_similar_cosmul("w3", topn=120) if one[0] in sorted_peer.index_to_key[:20]
    ]
    require_same(vectors.most_similar_cosmul("w3", topn=120, restrict_vocab=20), expected)


def test_attributes(vectors: Vectors) -> None:
    peer = peer_of(vectors)
    assert vectors.index_to_key == peer.index_to_key == list(vectors)
    assert vectors.key_to_index == peer.key_to_index
    assert vectors.vector_size == peer.vector_size
    np.testing.assert_array_equal(vectors.expandos["count"], peer.expandos["count"])
    vectors.fill_norms()
    vectors.fill_norms(force=True)
    vectors.init_sims()
    peer.fill_norms()
    np.testing.assert_allclose(vectors.norms, peer.norms, rtol=1e-6)
    rows = np.array(vectors.vectors)
    require_same(vectors.cosine_similarities(rows[0], rows), peer.cosine_similarities(rows[0], rows))
    with pytest.raises(TypeError, match="not reversible"):
        reversed(vectors)  # type: ignore[call-overload]


def test_vectors_for_all(vectors: Vectors) -> None:
    asked = ["w9", "none", "w3", "w9", "w40"]
    for copied in (True, False):
        ours, theirs = (one.vectors_for_all(asked, copy_vecattrs=copied) for one in (vectors, peer_of(vectors)))
        assert list(ours) == theirs.index_to_key
        np.testing.assert_array_equal(ours.vectors, theirs.vectors)
        assert [ours.get_vecattr(key, "count") for key in ours] == [theirs.get_vecattr(key, "count") for key in ours]
        require_same(ours.most_similar("w9"), theirs.most_similar("w9"))


REFUSALS = ("add_vector", "add_vectors", "set_vecattr", "allocate_vecattrs", "resize_vectors", "unit_normalize_all",
            "sort_by_descending_frequency", "intersect_word2vec_format", "__setitem__", "__delitem__")  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_changes_are_refused(vectors: Vectors, name: str) -> None:
    with pytest.raises(
        TypeError, match=r"^the vectors of a model are read-only\. To change them, copy them into gensim"
    ):
        getattr(vectors, name)("w3", np.ones(DIM))
    with pytest.raises(TypeError, match="read-only"):
        vectors["w3"] = np.ones(DIM)
    with pytest.raises(TypeError, match="read-only"):
        vectors.init_sims(replace=True)
    with pytest.raises(TypeError, match="a model's folder is the saved form"):
        vectors.save("x")
    copied = KeyedVectors(vectors.vector_size)  # what the message says
    copied.add_vectors(vectors.index_to_key, vectors.vectors)
    copied["w3"] = np.ones(DIM)


@pytest.mark.parametrize(("name", "hint"), [("vocab", "key_to_index"), ("index2word", "index_to_key"), ("x", "")])
def test_names_of_older_gensims_lead_to_the_new_ones(vectors: Vectors, name: str, hint: str) -> None:
    with pytest.raises(AttributeError, match=f"no attribute '{name}'.*{hint}"):
        getattr(vectors, name)
    assert not hasattr(vectors, name)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(
    "options",
    [{}, {"prefix": "x_"}, {"write_header": False}, {"total_vec": 5}, {"sort_attr": "other"}, {"append": True}],
    ids=str,
)
def test_save_word2vec_format(vectors: Vectors, tmp_path: Path, binary: bool, options: dict[str, Any]) -> None:
    peer, written = peer_of(vectors), {}
    for name, one in (("ours", vectors), ("theirs", peer)):
        for _ in range(1 + ("append" in options)):
            path, words = tmp_path / name, tmp_path / f"{name}-words"
            with_words = {} if "sort_attr" in options else {"fvocab": words}
            one.save_word2vec_format(path if one is vectors else str(path), binary=binary, **with_words, **options)
        written[name] = path.read_bytes(), words.read_bytes() if with_words else b""
    if binary:
        assert written["ours"] == written["theirs"]
    else:  # the same numbers, perhaps written otherwise
        ours, theirs = ([line.split() for line in text.decode().splitlines()] for text, _ in written.values())
        assert [line[0] for line in ours] == [line[0] for line in theirs]
        np.testing.assert_array_equal(
            *(np.array([line[1:] for line in one if len(line) > 2], np.float32) for one in (ours, theirs))
        )
    assert written["ours"][1] == written["theirs"][1]


def test_tokens_that_word2vecs_format_cannot_hold(tmp_path: Path) -> None:
    for token in ("new york", "", "a\u2028b"):
        one = Vectors(model_of([token, "b"], np.eye(2, dtype=np.float32), [2, 1]))
        with pytest.raises(FormatError, match="expected no white space for word2vec's format"):
            one.save_word2vec_format(tmp_path / "x")
        assert not list(tmp_path.iterdir())


def test_word_movers_distance(vectors: Vectors, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.optimize import linprog

    def emd2(a: np.ndarray, b: np.ndarray, costs: np.ndarray) -> float:
        rows, columns = costs.shape
        sums = np.vstack([np.kron(np.eye(rows), np.ones(columns)), np.kron(np.ones(rows), np.eye(columns))])
        return float(linprog(costs.ravel(), A_eq=sums, b_eq=np.concatenate([a, b])).fun)

    with monkeypatch.context() as without:
        without.setitem(sys.modules, "ot", None)
        with pytest.raises(ImportError, match="ot"):
            vectors.wmdistance(["w1"], ["w2"])
    monkeypatch.setitem(sys.modules, "ot", types.SimpleNamespace(emd2=emd2))
    peer = peer_of(vectors)
    for one, other in (
        (["w1", "w2", "w2"], ["w3", "w4"]), (["w1", "w2"], ["w2", "w9", "none"]), (["w1"], ["w1"]), (["w1"], ["none"]),
        (["w1", "w2"], ["w2", "w1"]),
    ):  # fmt: skip
        for norm in (True, False):
            require_same(vectors.wmdistance(one, other, norm), float(peer.wmdistance(one, other, norm)))
    with pytest.raises(TypeError, match="expected a list of tokens"):
        vectors.wmdistance("w1 w2", ["w1"])


CASED = ["king", "King", "QUEEN", "queen", "man", "Man", "woman", "café", "tea", "boy", "girl", "Girl"]


@pytest.fixture
def cased() -> Vectors:
    rng = np.random.default_rng(2)
    table = rng.standard_normal((len(CASED), 6)).astype(np.float32)
    table[CASED.index("Girl")] = table[CASED.index("girl")] * 1.5 + 0.01
    return Vectors(model_of(CASED, table, [5, 90, 3, 80, 70, 7, 60, 50, 40, 30, 12, 11]))


@pytest.mark.parametrize("options", [{}, {"case_insensitive": False}, {"restrict_vocab": 6}, {"dummy4unknown": True}])
def test_evaluations_are_gensims(cased: Vectors, tmp_path: Path, options: dict[str, Any]) -> None:
    pairs, questions = tmp_path / "pairs.tsv", tmp_path / "questions.txt"
    pairs.write_text("# said so\nking\tQueen\t8\nKing\tman\t5\nwoman\tqueen\t7\nman\tnone\t1\nman\twoman\t2\n")
    words = [
        "king queen man woman",
        "King queen Man woman",
        "man woman boy girl",
        "man woman king none",
        "Queen King woman man",
    ]
    questions.write_text("\n".join([": first", *words[:2], ": second", *words[2:], "woman man girl boy"]) + "\n")
    peer = peer_of(cased, cased.order)
    require_same(cased.evaluate_word_pairs(pairs, **options), peer.evaluate_word_pairs(str(pairs), **options))
    ours, theirs = (one.evaluate_word_analogies(str(questions), **options) for one in (cased, peer))
    assert ours == theirs


def test_evaluations_find_decomposed_words_and_refuse_what_says_nothing(cased: Vectors, tmp_path: Path) -> None:
    pairs, questions = tmp_path / "pairs.tsv", tmp_path / "questions.txt"
    pairs.write_text("cafe\u0301\ttea\t8\nking\tman\t1\nboy\ttea\t2\n")
    questions.write_text("cafe\u0301 tea king queen\n")
    assert cased.evaluate_word_pairs(pairs)[2] == 0
    assert len(cased.evaluate_word_analogies(questions)[1][-1]["correct"]) in (0, 1)
    pairs.write_text("x\ty\t1\n")
    questions.write_text("x y z king\n")
    with pytest.raises(ValueError, match=r"pairs\.tsv: no pair whose words are both in the vocabulary"):
        cased.evaluate_word_pairs(pairs)
    with pytest.raises(ValueError, match=r"questions\.txt: no question whose words are all in the vocabulary"):
        cased.evaluate_word_analogies(questions)
    with pytest.raises(ValueError, match="similarity_function: found 'other'"):
        cased.evaluate_word_analogies(questions, similarity_function="other")
    pairs.write_text("a;b;1\n")
    with pytest.raises(ValueError, match="no pair"):
        cased.evaluate_word_pairs(pairs, delimiter=";")
    questions.write_text("x y z\n")
    with pytest.raises(FormatError, match=r"questions\.txt:1: found 3 words"):
        cased.evaluate_word_analogies(questions)


def test_paths(vectors: Vectors, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a URI as a str: a Path drops one of its slashes"):
        trainer.load(Path("s3://bucket/model"))
    with pytest.raises(TypeError, match=r"expected a str or a pathlib\.Path"):
        trainer.load(b"model")  # type: ignore[arg-type]


TRAIN = """
import sys, torch, trainer, numpy, warnings
for table in ("input", "output", "average"):
    vectors = trainer.load(sys.argv[1], vectors=table)
    expected = numpy.array(vectors.vectors)
    layer = torch.nn.Embedding.from_pretrained(torch.from_numpy(vectors.vectors), freeze=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    layer(torch.tensor([3, 4])).sum().backward()
    optimizer.step()
    changed = (layer.weight.detach().numpy() != expected).any(axis=1).nonzero()[0].tolist()
    again = trainer.load(sys.argv[1], vectors=table)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.tensor(vectors.vectors)[0] = 0
    print(changed, (again.vectors == expected).all(), vectors.vectors.flags.writeable)
"""


def test_pytorch_may_train_on(model: Model, tmp_path: Path) -> None:
    save_model(str(tmp_path), model, {})
    [file] = tmp_path.glob("versions/*/model.safetensors")
    before = file.read_bytes()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRAIN, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[3, 4] True False\n" * 3), done.stderr
    assert file.read_bytes() == before
