"""Evaluation against a brute-force oracle, and the files it reads."""

from __future__ import annotations

import argparse
import json
import unicodedata
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.dataset.schema import FormatError
from pipeline.dataset.vocabulary import make_vocabulary
from trainer.errors import UserError
from trainer.evaluation import command, ranked, scores
from trainer.evaluation.eval_sets import Pair, Question, parse_analogies, parse_similarity
from trainer.evaluation.ranked import rank_vectors
from trainer.evaluation.scores import spearman
from trainer.models.mapped import map_model
from trainer.models.store import Model, save_model
from trainer.vectors.search import VECTORS, cosines, frequency_order, pick_table, top_rows, unit_rows

INFO: dict[str, Any] = {"config": {}, "lineage": {}, "metrics": {}}


def make_model(seed: int, rows: int = 40, dim: int = 6) -> Model:
    """Ids in no order of frequency, with equal counts, mixed case and two spellings of one word."""
    rng = np.random.default_rng(seed)
    tokens = [f"{'W' if i % 3 == 0 else 'w'}{i}" for i in range(rows - 1)] + ["w0"]
    tables = rng.standard_normal((2, rows, dim)).astype(np.float32)
    return Model(tables[0], tables[1], make_vocabulary(tokens, rng.integers(5, 25, rows).tolist()), INFO)


def by_frequency(model: Model) -> list[int]:
    counts = model.vocabulary.counts.tolist()
    return sorted(range(len(counts)), key=lambda i: (-counts[i], i))


def find(model: Model, word: str) -> int | None:
    return next((i for i in by_frequency(model) if model.vocabulary.token(i).lower() == word.lower()), None)


def cosine(model: Model, i: int, j: int) -> float:
    a, b = model.input_VD[[i, j]].astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def answer(model: Model, words: tuple[str, ...], limit: int) -> str | None:
    """3CosAdd, word by word; None where a word is not among the first ``limit``, "" where no other word is."""
    order = by_frequency(model)[:limit]
    ids = [find(model, word) for word in words]
    if any(i not in order for i in ids):
        return None
    unit = {i: model.input_VD[i] / np.linalg.norm(model.input_VD[i]) for i in order}
    a, b, c, _ = (unit[i] for i in ids)
    others = [i for i in order if model.vocabulary.token(i).lower() not in {word.lower() for word in words[:3]}]
    best = max(others, key=lambda i: float((b - a + c) @ unit[i]), default=None)
    return "" if best is None else model.vocabulary.token(best)


@pytest.mark.parametrize("seed", range(5))
def test_similarity_agrees_with_the_oracle(seed: int) -> None:
    model = make_model(seed)
    rng = np.random.default_rng(seed)
    words = [*(f"w{i}" for i in range(0, 40, 2)), "W1", "missing", "W0"]
    pairs = [Pair(a, b, float(rng.integers(0, 6))) for a, b in list(combinations(words, 2))[::3]]
    known = [(p, find(model, p.first), find(model, p.second)) for p in pairs]
    gold = [p.score for p, i, j in known if i is not None and j is not None]
    ours = [cosine(model, i, j) for _, i, j in known if i is not None and j is not None]
    found = scores.score_similarity(pairs, rank_vectors(model))
    assert found.spearman == pytest.approx(stats.spearmanr(gold, ours).statistic, abs=1e-9)
    assert (found.pairs, found.of) == (len(gold), len(pairs))
    unknown = {w.lower() for p in pairs for w in (p.first, p.second) if find(model, w) is None}
    assert unknown
    assert found.unknown_words == len(unknown)


@pytest.mark.parametrize("limit", [1, 10, 25, 1000])
def test_analogies_agree_with_the_oracle(limit: int) -> None:
    model = make_model(3)
    rng = np.random.default_rng(limit)
    questions = []
    for number in range(700):  # more than one block
        a, b, c = (f"w{i}" for i in rng.choice(40, 3, replace=False))
        d = answer(model, (a, b, c, c), 25) if number % 2 else None
        questions.append(Question(["family", "gram1-x", "gram2-y"][number % 3], (a, b.upper(), c, d or "w9")))
    answers = [answer(model, question.words, limit) for question in questions]
    expected = [
        (q.section, a is not None and a.lower() == q.words[3].lower())
        for q, a in zip(questions, answers, strict=True)
        if a is not None
    ]
    found = scores.score_analogies(questions, rank_vectors(model), limit)
    groups = {"family": found.sections["family"], "gram": found.syntactic, "": found}
    assert found.semantic == found.sections["family"]
    for prefix, group in groups.items():
        right = [ok for section, ok in expected if section.startswith(prefix)]
        assert group.questions == len(right)
        assert group.of == sum(q.section.startswith(prefix) for q in questions)
        assert group.accuracy == (pytest.approx(np.mean(right)) if right else None)
    if limit == 25:  # what the questions were made for
        assert 0.3 < found.accuracy < 1


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=30))
def test_spearman_shares_the_ranks_of_equal_values(values: list[tuple[int, int]]) -> None:
    first, second = zip(*values, strict=True)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert spearman(first, second) is None
    else:
        assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)


def test_spearman_of_two_pairs_says_nothing() -> None:
    assert spearman([1, 2], [1, 2]) is None


@given(st.lists(st.integers(-3, 3), max_size=30), st.integers(0, 35))
def test_top_rows_breaks_ties_by_row(scores: list[int], top: int) -> None:
    given_scores = np.array([-np.inf if s == -3 else s for s in scores], np.float32)
    rows = [i for i, s in enumerate(scores) if s != -3]
    assert top_rows(given_scores, top).tolist() == sorted(rows, key=lambda i: (-scores[i], i))[:top]


def test_rows_of_zeros_stay_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.vectors.search._BLOCK_ROWS", 2)
    table = np.array([[3, 4], [0, 0], [0, -2], [1, 1], [1, 0]], np.float32)
    np.testing.assert_allclose(unit_rows(table)[:3], [[0.6, 0.8], [0, 0], [0, -1]])
    expected = [[1, 0, -0.8, 1.4 * 0.5**0.5, 0.6], [0] * 5]
    np.testing.assert_allclose(cosines(table, table[:2]), expected, atol=1e-6)


def test_tables() -> None:
    model = make_model(0)
    average = (model.input_VD.astype(np.float64) + model.output_VD) / 2
    for vectors, expected in zip(VECTORS, (model.input_VD, model.output_VD, average), strict=True):
        np.testing.assert_allclose(pick_table(model, vectors), expected, rtol=1e-6)
    with pytest.raises(UserError, match="--vectors: found 'both'"):
        pick_table(model, "both")
    assert frequency_order(np.array([3, 9, 3, 9, 1])).tolist() == [1, 3, 0, 2, 4]


@pytest.mark.parametrize(
    "text",
    [
        "tiger\tcat\t7.5\nbook\tpaper\t1\n",
        "tiger cat 7.5\r\nbook paper 1\r\n",
        "Word 1,Word 2,Human (mean)\ntiger,cat,7.5\n\nbook, paper, 1.0, extra",
        "word1\tword2\tscore\n# said so\ntiger\tcat\t7.5\textra\n  \nbook\tpaper\t1",
    ],
)
def test_similarity_files(text: str) -> None:
    assert parse_similarity(text, "f") == [Pair("tiger", "cat", 7.5), Pair("book", "paper", 1.0)]


WRONG = ["tiger cat", "tiger cat high", "tiger cat nan", "a,b", "a\t\t7", "a b 8,5", "a\tb\t8,5", "a,b,8,5", "a,b,-8,5",
         "a b 8_5", "a;b;8.5", "ice cream dessert 7.5", "new york 5 city 7.5", "a b 1 high", "a\tb 7.5",
         "a b 0x1"]  # fmt: skip


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_similarity_line_is_named(line: str) -> None:
    decimal = " with a decimal point, or tabs between columns" if "8,5" in line else ""
    with pytest.raises(FormatError, match=rf"^f\.tsv:3: found .*, expected two words and a number{decimal}$"):
        parse_similarity(f"a b 1\n\n{line}\n", "f.tsv")
    with pytest.raises(FormatError, match=r"^f\.tsv:2: found "):  # nor is it taken for a heading
        parse_similarity(f"\n{line}\na b 1\n", "f.tsv")


@pytest.mark.parametrize(
    "heading",
    ["Word 1,Word 2,Human (mean)", "word1 word2 score", "word1\tword2\tPOS", "Wort1,Wort2,Urteil", "a b SimLex999",
     "first\tsecond\tmean rating\tvotes", "w_1 w_2 similarity sd"],
)  # fmt: skip
def test_a_heading_is_skipped_and_named(heading: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert parse_similarity(f"{heading}\ntiger\tcat\t7.5", "f.tsv") == [Pair("tiger", "cat", 7.5)]
    assert capsys.readouterr().err == f"warning: f.tsv:1: skipped {heading!r}, which looks like a heading\n"
    with pytest.raises(FormatError, match=r"^f\.tsv:2: "):
        parse_similarity(f"tiger\tcat\t7.5\n{heading}\n", "f.tsv")


def test_whole_numbers_between_commas_are_no_decimal_comma() -> None:
    assert parse_similarity("a,b,8\nc,d,8,5,3\ne,f,8.5,3\n", "f") == [
        Pair("a", "b", 8), Pair("c", "d", 8), Pair("e", "f", 8.5),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "\n \n", "# nothing\n", "word1 word2 score\n"])
def test_files_without_anything_to_score_are_refused(text: str) -> None:
    with pytest.raises(FormatError, match=r"^f: found no pairs, expected lines of two words and a number$"):
        parse_similarity(text, "f")


@pytest.mark.parametrize("text", ["", "# nothing\n", ": family\n"])
def test_analogies_without_questions_are_refused(text: str) -> None:
    with pytest.raises(FormatError, match=r"^f: found no questions, expected lines of four words$"):
        parse_analogies(text, "f")


def test_analogy_files() -> None:
    found = parse_analogies(": capitals\nAthens Greece Oslo Norway\n\n: gram1\na b c d\n", "f")
    assert found == [
        Question("capitals", ("Athens", "Greece", "Oslo", "Norway")),
        Question("gram1", ("a", "b", "c", "d")),
    ]
    [question] = parse_analogies("Oat Milk\tSteel Mug\tYeast\tRye Flour\n", "f")
    assert question.words == ("Oat Milk", "Steel Mug", "Yeast", "Rye Flour")
    assert parse_analogies("a\tb c d\n", "f")[0].words == ("a", "b", "c", "d")
    with pytest.raises(FormatError, match=r"^f:2: found 3 words in 'a b c', expected 4$"):
        parse_analogies(": x\na b c\n", "f")


def model_of(tokens: list[str], seed: int = 1) -> Model:
    table = np.random.default_rng(seed).standard_normal((len(tokens), 5)).astype(np.float32)
    return Model(table, table, make_vocabulary(tokens, range(len(tokens), 0, -1)), INFO)


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
@pytest.mark.parametrize("vocabulary_form", ["NFC", "NFD"])
@pytest.mark.parametrize("upper", [False, True])
def test_words_are_found_in_any_form_and_case(form: str, vocabulary_form: str, upper: bool) -> None:
    words = ["café", "tế", "한국", "Ångström", "ὀδός", "İzmir"]
    vectors = rank_vectors(model_of([unicodedata.normalize(vocabulary_form, word) for word in words]))
    asked = [unicodedata.normalize(form, word.upper() if upper else word) for word in words]
    assert vectors.find(asked) == list(range(len(words)))


def test_compatibility_characters_are_found_where_the_vocabulary_replaced_them() -> None:
    assert rank_vectors(model_of(["fire", "ﬁsh", "fish"])).find(["ﬁre", "ﬁsh", "fish", "ﬀ"]) == [0, 1, 2, None]


def test_an_answer_in_another_case_is_right() -> None:
    tokens = ["boy", "girl", "brother", "Sister", "sister", "Boy", "Brother"]
    unit = {"boy": [1, 0, 0], "girl": [0, 1, 0], "brother": [1, 0, 0.8], "sister": [0, 1, 0.8]}
    table = np.array([unit[token.lower()] for token in tokens], np.float32)
    table[tokens.index("Brother")] = [0.1, 1, 0.8]  # nearest of all, and a spelling of the question's own word
    vectors = rank_vectors(Model(table, table, make_vocabulary(tokens, range(9, 2, -1)), INFO))
    asked = [Question("", ("boy", "girl", "brother", word)) for word in ("sister", "Sister", "SISTER", "boy")]
    assert scores.check_analogies(asked, vectors).tolist() == [1, 1, 1, 0]
    assert scores.check_analogies(asked, vectors, limit=3).tolist() == [-1, -1, -1, 0]  # no token is left to answer


def test_nothing_known_is_no_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(str(tmp_path / "m"), model_of(["a", "b"]), {})
    (tmp_path / "pairs").write_text("x y 1\ny z 2\na b 3\n")
    (tmp_path / "questions").write_text(": one\nx y z a\n")
    flags = ("--similarity", f"{tmp_path}/pairs", "--analogies", f"{tmp_path}/questions")
    assert run("--model", f"{tmp_path}/m", *flags, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    (pairs,), (questions,) = result["similarity"], result["analogies"]
    assert (pairs["spearman"], pairs["pairs"], pairs["skipped"], pairs["of"]) == (None, 1, 2, 3)
    assert (questions["accuracy"], questions["questions"], questions["skipped"]) == (None, 0, 1)
    assert [questions[name]["accuracy"] for name in ("semantic", "syntactic")] == [None, None]
    assert run("--model", f"{tmp_path}/m", *flags) == 0
    text = capsys.readouterr().out
    assert "no correlation (fewer than 3 pairs are known) over 1 of 3 pairs known, 2 skipped" in text
    assert "none  0 of 1 questions answered, 1 skipped" in text
    assert "0.0000" not in text


@pytest.mark.parametrize("vectors", VECTORS)
def test_the_model_is_mapped_and_only_rows_that_are_asked_for_are_read(
    tmp_path: Path, vectors: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = [f"w{i}" for i in range(40_000)]
    table = np.zeros((len(tokens), 64), np.float32)  # 10 MB, and as much again
    table[:5] = np.random.default_rng(0).standard_normal((5, 64))
    save_model(str(tmp_path / "m"), Model(table, table, make_vocabulary(tokens, range(40_000, 0, -1)), INFO), {})
    (tmp_path / "pairs").write_text("w0 w1 1\nw1 w2 2\nw2 w3 3\n")
    (tmp_path / "questions").write_text("w0 w1 w2 w3\n")
    opened: list[Model] = []
    monkeypatch.setattr(command, "map_model", lambda *wanted: opened.append(map_model(*wanted)) or opened[0])
    taken: list[int] = []
    monkeypatch.setattr(ranked, "unit_rows", lambda rows: taken.append(len(rows)) or unit_rows(rows))
    flags = ("--similarity", f"{tmp_path}/pairs", "--analogies", f"{tmp_path}/questions", "--analogy-vocab", "50")
    assert run("--model", f"{tmp_path}/m", "--vectors", vectors, *flags) == 0
    for table_VD in (opened[0].input_VD, opened[0].output_VD):
        assert not table_VD.flags.owndata
    assert taken == [3, 3, 50]


def run(*flags: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(flags))


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_model(1)
    save_model(str(tmp_path / "m"), model, {})
    pairs, questions = tmp_path / "pairs.tsv", tmp_path / "questions.txt"
    pairs.write_bytes(b"\xef\xbb\xbfw1\tw2\t1\nW3\tw4\t2\nw5\tw6\t3\nw7\tno\t4\n")
    questions.write_text(": family\nw1 w2 w3 w4\nw1 w2 w3 no\n")
    flags = ("--model", str(tmp_path / "m"), "--similarity", str(pairs), "--analogies", str(questions))
    assert run(*flags, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    vectors = rank_vectors(model)
    expected = scores.score_similarity(parse_similarity(pairs.read_text("utf-8-sig"), ""), vectors)
    assert result["similarity"] == [asdict(expected) | {"file": str(pairs), "spearman": round(expected.spearman, 4)}]
    (analogies,) = result["analogies"]
    assert (analogies["questions"], analogies["of"], analogies["unknown_words"]) == (1, 2, 1)
    assert run(*flags) == 0
    text = capsys.readouterr().out
    assert "over 3 of 4 pairs known, 1 skipped; 1 unknown words" in text
    assert "1 of 2 questions answered, 1 skipped" in text


def test_wrong_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags, message in (
        ([], "neither --similarity nor --analogies"),
        (["--analogies", "x", "--analogy-vocab", "0"], "--analogy-vocab: found 0"),
    ):
        with pytest.raises(SystemExit, match="2"):
            run("--model", str(tmp_path), *flags)
        assert message in capsys.readouterr().err
    with pytest.raises(UserError, match=r"--similarity: no file .*none"):
        run("--model", str(tmp_path), "--similarity", str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"--analogies: no file"):
        run("--model", str(tmp_path), "--analogies", str(tmp_path))
    (tmp_path / "latin").write_bytes(b"caf\xe9 tea 1\n")
    with pytest.raises(FormatError, match=r"latin: not valid UTF-8 at byte 3"):
        run("--model", str(tmp_path), "--similarity", str(tmp_path / "latin"))
