"""Words that the vocabulary lacks: in Python, in neighbors, in scores; and gensim's answers to the same questions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import trainer
from pipeline.dataset.vocabulary import make_vocabulary
from tests.support.subword_models import RULE, WORDS, make_subword_model
from trainer.cli import main
from trainer.evaluation.eval_sets import parse_similarity
from trainer.evaluation.ranked import rank_vectors
from trainer.evaluation.scores import score_similarity, spearman
from trainer.exporting.command import export_model
from trainer.keyed_vectors.vectors import Vectors
from trainer.models.store import Model, save_model
from trainer.subwords.ngrams import Subwords, compose
from trainer.subwords.table import SubwordTable
from trainer.vectors.arguments import unit

ONLY_NGRAMS = Subwords(5, 6, 50)  # "ab" has none


def mean_of(model: Model, word: str) -> np.ndarray:
    assert model.subwords is not None
    rows = model.subwords.rule.unseen(word, len(model.vocabulary))
    return model.subwords.rows_RD[rows].astype(np.float64).mean(axis=0)


@pytest.fixture
def model() -> Model:
    return make_subword_model()


@pytest.fixture
def vectors(model: Model) -> Vectors:
    return Vectors(model)


@pytest.fixture
def saved(model: Model, tmp_path: Path) -> str:
    save_model(str(tmp_path / "m"), model, {})
    return str(tmp_path / "m")


def test_an_unknown_word_is_the_mean_of_its_ngrams(model: Model, saved: str) -> None:
    vectors = trainer.load(saved)
    np.testing.assert_allclose(vectors["walking"], mean_of(model, "walking"), atol=1e-6)
    assert vectors["walking"].dtype == np.float32
    assert not vectors["walking"].flags.writeable
    np.testing.assert_allclose(np.linalg.norm(vectors.get_vector("walking", norm=True)), 1, atol=1e-6)
    both = vectors[["running", "walking"]]
    np.testing.assert_array_equal(both, [vectors["running"], vectors["walking"]])
    assert vectors[[]].shape == (0, 6)
    assert "walking" in vectors


def test_what_is_of_the_vocabulary_alone(vectors: Vectors) -> None:
    assert not vectors.has_index_for("walking")
    assert "walking" not in vectors.key_to_index
    assert len(vectors) == len(WORDS)
    with pytest.raises(trainer.UnknownTokenError, match="'walking' is not in the vocabulary"):
        vectors.get_index("walking")


def test_without_subwords_it_is_unknown(model: Model) -> None:
    for vectors in (Vectors(replace(model, subwords=None)), Vectors(model, "output"), Vectors(model, "average")):
        assert "walking" not in vectors
        with pytest.raises(trainer.UnknownTokenError, match="'walking' is not in the vocabulary"):
            vectors["walking"]


def test_a_word_without_ngrams_is_unknown() -> None:
    vectors = Vectors(make_subword_model(ONLY_NGRAMS))
    for word in ("ab", "", "\udce9"):
        assert word not in vectors
    with pytest.raises(trainer.UnknownTokenError, match="'ab' is not in the vocabulary"):
        vectors["ab"]


def test_it_is_written_as_the_tokens_are() -> None:
    lower = ["the", "é", "東京"]
    vectors = Vectors(make_subword_model(tokens=lower))
    np.testing.assert_array_equal(vectors["Walking"], vectors["walking"])
    np.testing.assert_array_equal(vectors["CAFE\u0301"], vectors["café"])
    np.testing.assert_array_equal(vectors["THE"], vectors["the"])  # which is known then
    assert vectors.get_index("E\u0301") == 1
    cased = Vectors(make_subword_model(tokens=[*lower, "Berlin"]))
    assert not np.array_equal(cased["Walking"], cased["walking"])
    np.testing.assert_array_equal(cased["Cafe\u0301"], cased["Café"])


def test_opening_and_asking_for_known_words_reads_no_ngrams(model: Model) -> None:
    def fail() -> np.ndarray:
        raise AssertionError("opened")

    vectors = Vectors(replace(model, subwords=SubwordTable(RULE, fail)))
    assert len(vectors.most_similar("running")) == 10
    assert "walking" in vectors
    with pytest.raises(AssertionError, match="opened"):
        vectors["walking"]


def test_everything_that_compares_takes_unknown_words(model: Model, vectors: Vectors) -> None:
    walking, running = unit(mean_of(model, "walking")), unit(model.input_VD[WORDS.index("running")])
    cosine = float(walking @ running)
    assert vectors.similarity("walking", "running") == pytest.approx(cosine, abs=1e-6)
    assert vectors.distance("walking", "running") == pytest.approx(1 - cosine, abs=1e-6)
    assert vectors.distances("running", ["walking", "running"]) == pytest.approx([1 - cosine, 0], abs=1e-6)
    units = model.input_VD / np.linalg.norm(model.input_VD, axis=1, keepdims=True)
    order = np.argsort(-(units @ walking))
    assert [token for token, _ in vectors.most_similar("walking", topn=3)] == [WORDS[row] for row in order[:3]]
    assert len(vectors.most_similar(["walking", "running"], topn=None)) == len(WORDS)
    assert vectors.rank("walking", WORDS[order[2]]) == 3
    closer = [WORDS[row] for row in range(len(WORDS)) if units[row] @ running > cosine and WORDS[row] != "running"]
    assert vectors.closer_than("running", "walking") == closer
    assert vectors.most_similar_to_given("walking", ["talking", "running"]) in ("talking", "running")
    assert vectors.doesnt_match(["walking", "walking", "москва"]) == "москва"
    assert vectors.most_similar_cosmul(["walking"], topn=1)
    mean = (walking + running) / 2
    np.testing.assert_allclose(vectors.get_mean_vector(["walking", "running"]), mean, atol=1e-6)


def test_vectors_for_all(vectors: Vectors) -> None:
    some = vectors.vectors_for_all(["running", "walking", "walking", "東京"], copy_vecattrs=True)
    assert some.index_to_key == ["running", "walking", "東京"]
    np.testing.assert_array_equal(some["walking"], vectors["walking"])
    assert [some.get_vecattr(word, "count") for word in some.index_to_key] == [9, 0, 10]
    assert vectors.vectors_for_all(["running", "walking"], allow_inference=False).index_to_key == ["running"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # gensim's and its dependencies' own
def test_answers_are_gensims(model: Model, vectors: Vectors, tmp_path: Path) -> None:
    from gensim.models.fasttext import load_facebook_vectors

    export_model(model, "fasttext", str(tmp_path / "out"))
    theirs = load_facebook_vectors(str(tmp_path / "out"))
    for word in ("walking", "невский", "東京都", "runnin"):
        np.testing.assert_allclose(vectors[word], theirs[word], atol=1e-6)
        assert (word in vectors) == (word in theirs)
        assert vectors.similarity(word, "the") == pytest.approx(float(theirs.similarity(word, "the")), abs=1e-6)
        mine, other = (
            [(token, round(float(score), 4)) for token, score in one.most_similar(word, topn=12) if token != "</s>"]
            for one in (vectors, theirs)
        )
        assert mine == other


def test_neighbors_say_that_ngrams_answer(saved: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["neighbors", "--model", saved, "walking", "--top", "2", "--ranks"]) == 0
    heading, *near = capsys.readouterr().out.splitlines()
    assert heading == "walking  (count 0; rank none; walking is answered by its n-grams)"
    assert len(near) == 2
    assert main(["neighbors", "--model", saved, "walking - talking + the", "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)["words"]
    assert [(term["token"], term["count"], term.get("ngrams")) for term in answer["terms"]] == [
        ("walking", 0, 22), ("talking", 0, 22), ("the", 15, None),
    ]  # fmt: skip
    assert main(["neighbors", "--model", saved, "walking", "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)["words"]
    assert (answer["token"], answer["ngrams"], "rank" in answer) == ("walking", 22, False)
    assert [near["token"] for near in answer["neighbors"]] == [
        token for token, _ in trainer.load(saved).most_similar("walking")
    ]


@pytest.mark.parametrize("words", [["the", "-", "a"], ["nothing at all"]])
def test_what_is_no_word_is_not_answered(saved: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["neighbors", "--model", saved, "--", *words]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_pairs_with_unknown_words_are_scored_apart(model: Model) -> None:
    lines = ["the a 1", "the running 2", "walking running 3", "walking talking 4", "the ab 5", "\u2026 a 9"]
    pairs = parse_similarity("\n".join(lines), "f")
    table = make_subword_model(Subwords(4, 6, 50))
    found = score_similarity(pairs, rank_vectors(table))
    assert (found.pairs, found.oov, found.skipped, found.of, found.unknown_words) == (2, 3, 1, 6, 4)
    ours = Vectors(table)
    cosines = [ours.similarity(*line.split()[:2]) for line in lines[:5]]
    assert found.spearman == pytest.approx(spearman([1, 2, 3, 4, 5], cosines))
    without = score_similarity(pairs, rank_vectors(replace(table, subwords=None)))
    assert (without.pairs, without.oov, without.skipped, without.spearman) == (2, 0, 4, None)


def test_evaluate_says_so(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pairs.txt").write_text("the a 1\nthe running 2\nwalking running 3\nwalking talking 4\n")
    asked = ["evaluate", "--model", saved, "--similarity", str(tmp_path / "pairs.txt")]
    assert main(asked) == 0
    assert "over 2 of 4 pairs known, 2 scored by n-grams, 0 skipped; 2 unknown words" in capsys.readouterr().out
    assert main([*asked, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["similarity"]
    assert (found["pairs"], found["oov"], found["skipped"], found["of"]) == (2, 2, 0, 4)
    assert main([*asked, "--vectors", "output", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["similarity"]
    assert (found["pairs"], found["oov"], found["skipped"]) == (2, 0, 2)


def test_an_extended_vocabulary_keeps_its_rows() -> None:
    model = make_subword_model(tokens=["the", "running", "new"])
    reordered = replace(model, vocabulary=make_vocabulary(["the", "running", "new"], [1, 5, 9]))
    np.testing.assert_array_equal(Vectors(reordered)["walking"], Vectors(model)["walking"])
    assert model.subwords is not None
    parts = RULE.parts(["the", "running", "new"])
    np.testing.assert_array_equal(compose(model.subwords.rows_RD, *parts), Vectors(reordered).vectors)
