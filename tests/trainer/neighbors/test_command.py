"""Neighbours against a brute-force oracle; words that are not there; output for people."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wcwidth import wcswidth

from pipeline.dataset.vocabulary import Vocabulary, make_vocabulary
from pipeline.text.normalize import INVISIBLE
from trainer.cli import COMMANDS
from trainer.errors import UserError
from trainer.keyed_vectors.vectors import Vectors
from trainer.models.store import Model, save_model
from trainer.neighbors import command
from trainer.neighbors.command import find_neighbors, parse_queries, sample_words
from trainer.vectors.display import describe, printable
from trainer.vectors.spelling import close_spellings, explain_unknown, find_word

INFO: dict[str, Any] = {"config": {}, "lineage": {}, "metrics": {}}


def answers_of(table: np.ndarray, vocabulary: Vocabulary, asked: list[str], top: int) -> list[dict[str, Any]]:
    vectors = Vectors(Model(table, table, vocabulary, INFO))
    return find_neighbors(vectors, parse_queries(vocabulary, asked), top)


def vocabulary_of(*tokens: str) -> Vocabulary:
    return make_vocabulary(tokens, range(len(tokens), 0, -1))


@pytest.mark.parametrize("top", [1, 7, 100])
def test_neighbors_agree_with_the_oracle(top: int) -> None:
    rng = np.random.default_rng(top)
    table = rng.standard_normal((50, 8)).astype(np.float32)
    table[7] = 0
    table[20] = table[21] = 2 * table[22]  # equal cosines to everything
    vocabulary = vocabulary_of(*(f"w{i}" for i in range(50)))
    rows = [*range(40), 3]  # more than one block, and one word twice
    unit = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    for row, found in zip(rows, answers_of(table, vocabulary, [f"w{row}" for row in rows], top), strict=True):
        scores = (unit @ unit[row]).astype(np.float64)
        near = found["neighbors"]
        ids = [int(entry["token"][1:]) for entry in near]
        assert (found["word"], found["token"], found["count"], found["rank"]) == (
            f"w{row}",
            f"w{row}",
            50 - row,
            row + 1,
        )
        assert len(set(ids)) == len(ids) == min(top, 49)
        assert row not in ids
        np.testing.assert_allclose([entry["cosine"] for entry in near], scores[ids], atol=2e-6)
        others = np.delete(scores, row)
        np.testing.assert_allclose(scores[ids], np.sort(others)[::-1][:top], atol=2e-6)
        assert [(entry["count"], entry["rank"]) for entry in near] == [(50 - i, i + 1) for i in ids]
        assert [i for i in ids if 20 <= i <= 22] == [i for i in (20, 21, 22) if i in ids]


def test_a_word_is_left_out_by_id_not_by_spelling() -> None:
    vocabulary = vocabulary_of("Dog", "dog", "cat")
    (found,) = answers_of(np.eye(3, dtype=np.float32) + 1, vocabulary, ["dog"], 10)
    assert [entry["token"] for entry in found["neighbors"]] == ["Dog", "cat"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("dog", 0),
        ("Dog", 1),
        ("DOG", 0),
        ("CAFÉ", 2),
        ("cafe\u0301", 2),
        ("CAFE\u0301", 2),
        ("ﬁre", 3),
        ("d\u00adOg\u200b", 0),
        ("\ufeffcafe\u200d\u0301", 2),
        ("ﬀ", None),
        ("", None),
        ("dog\udcff", None),
    ],
)
def test_words_are_found_as_written_first(word: str, expected: int | None) -> None:
    assert find_word(vocabulary_of("dog", "Dog", "café", "fire"), word) == expected


def test_decomposed_vocabulary_is_found_as_written() -> None:
    word = unicodedata.normalize("NFD", "café")
    assert find_word(vocabulary_of("café", word), word) == 1


def test_a_word_is_found_without_all_that_tokenizers_leave_out() -> None:
    vocabulary = make_vocabulary(["coop"], [1])
    assert find_word(vocabulary, f"co{INVISIBLE}op") == 0


def test_close_spellings_come_nearest_first() -> None:
    rng = np.random.default_rng(0)
    noise = ["".join(rng.choice(list("bdgkmqsvxz"), 7)) for _ in range(5000)]
    vocabulary = vocabulary_of(*dict.fromkeys(noise), "london", "longdon", "Paris", "λόγος", "λόγον")
    assert close_spellings(vocabulary, "lodnon")[:2] == ["london", "longdon"]
    assert close_spellings(vocabulary, "PARISS")[0] == "Paris"
    assert set(close_spellings(vocabulary, "λόγο")) == {"λόγος", "λόγον"}
    assert close_spellings(vocabulary, "777777") == []
    assert close_spellings(vocabulary, "") == []
    assert close_spellings(vocabulary, "londo\udcff")[0] == "london"


def test_equally_close_spellings_come_by_frequency() -> None:
    assert close_spellings(make_vocabulary(["cats", "cate", "cat2"], [1, 9, 5]), "cat") == ["cate", "cat2", "cats"]


def test_columns_stay_aligned() -> None:
    tokens = ["abc", "日本語", "cafe\u0301", "x\x1b[31m"]
    near = [{"token": token, "cosine": 0.5, "count": 10**i, "rank": 10 ** (9 - i)} for i, token in enumerate(tokens)]
    lines = describe({"token": "w", "count": 5, "rank": 1, "neighbors": near}).split("\n")
    assert lines[0] == "w  (count 5)"
    assert len({wcswidth(line) for line in lines[1:]}) == 1
    ranked = describe({"token": "w", "count": 5, "rank": 1, "neighbors": near}, ranks=True).split("\n")
    assert ranked[0] == "w  (count 5; rank 1)"
    assert len({wcswidth(line) for line in ranked[1:]}) == 1
    assert [line.split()[-1] for line in ranked[1:3]] == ["1,000,000,000", "100,000,000"]
    assert "\x1b" not in "".join(lines)


def test_escapes_only_what_acts_on_a_terminal() -> None:
    assert printable("a\tb\n\x1b\u202ec") == r"a\tb\n\x1b\u202ec"
    assert printable("naïve 日本 \u0928\u200d") == "naïve 日本 \u0928\u200d"


@pytest.fixture
def model(tmp_path: Path) -> str:
    table = np.array([[1, 0], [0.9, 0.1], [0, 1], [-1, 0.2]], np.float32)
    vocabulary = make_vocabulary(["dog", "fox", "bread", "butter"], [9, 7, 5, 3])
    save_model(str(tmp_path), Model(table, table[::-1], vocabulary, INFO), {})
    return str(tmp_path)


def run(*flags: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(flags))


def test_each_word_has_its_own_list(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", model, "Dog", "bread", "--top", "2", "--json") == 0
    words = json.loads(capsys.readouterr().out)["words"]
    assert [(w["word"], w["token"], w["count"]) for w in words] == [("Dog", "dog", 9), ("bread", "bread", 5)]
    assert [[entry["token"] for entry in w["neighbors"]] for w in words] == [["fox", "bread"], ["butter", "fox"]]
    assert run("--model", model, "dog", "bread", "--top", "2") == 0
    blocks = capsys.readouterr().out.rstrip("\n").split("\n\n")
    assert [len(block.split("\n")) for block in blocks] == [3, 3]
    assert blocks[0].split("\n")[1].split() == ["fox", "0.9939", "7"]


def test_words_with_spaces_are_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = np.array([[1, 0], [0.9, 0.1], [0, 1]], np.float32)
    save_model(str(tmp_path), Model(table, table, make_vocabulary(["Red Wine", "red", "A - B"], [9, 7, 5]), INFO), {})
    assert run("--model", str(tmp_path), "Red Wine", " Red Wine ", "A - B", "Red Wine + red", "--json") == 0
    words = json.loads(capsys.readouterr().out)["words"]
    assert [word.get("token") for word in words] == ["Red Wine", "Red Wine", "A - B", None]
    assert [term["token"] for term in words[3]["terms"]] == ["Red Wine", "red"]
    with pytest.raises(UserError, match=r"^'Red Wien' is not in the vocabulary. Did you mean: Red Wine"):
        run("--model", str(tmp_path), "Red Wien")


def test_the_other_table(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", model, "butter", "--vectors", "output", "--top", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["words"][0]["neighbors"][0]["token"] == "bread"


def test_unknown_words(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = "'dogg' is not in the vocabulary. Did you mean: dog? 'zzz' is not in the vocabulary."
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        run("--model", model, "dogg", "fox", "zzz")
    many = explain_unknown(vocabulary_of("a"), [f"word{i}" for i in range(12)])
    assert many.endswith("'word9' is not in the vocabulary. Neither are 2 more words.")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["neighbors", "evaluate", "export"])
def test_starts_without_the_training_stack(name: str) -> None:
    heavy = {"torch", "numba", "apache_beam", "scipy"}
    code = f"import sys, {COMMANDS[name][0]}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_expression_adds_unit_vectors(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", model, "Dog - bread + butter", "--json") == 0
    (answer,) = json.loads(capsys.readouterr().out)["words"]
    assert answer["word"] == "Dog - bread + butter"
    assert [(t["token"], t["weight"], t["count"], t["rank"]) for t in answer["terms"]] == [
        ("dog", 1, 9, 1), ("bread", -1, 5, 3), ("butter", 1, 3, 4),
    ]  # fmt: skip
    # dog (1, 0) − bread (0, 1) + butter (−1, .2)/√1.04: only the fox is left
    x, y = 1 - 1 / 1.04**0.5, -1 + 0.2 / 1.04**0.5
    (near,) = answer["neighbors"]
    assert near["token"] == "fox"
    assert near["cosine"] == pytest.approx((0.9 * x + 0.1 * y) / 0.82**0.5 / (x * x + y * y) ** 0.5, abs=1e-6)
    assert run("--model", model, "Dog - bread", "--top", "1", "--ranks") == 0
    assert capsys.readouterr().out.split("\n")[:2] == ["Dog - bread  (count 9 5; rank 1 3)", "  fox   0.6247  7  2"]


def test_a_token_that_looks_like_an_expression_is_a_word() -> None:
    table = np.eye(4, dtype=np.float32)
    answers = answers_of(table, vocabulary_of("c++", "-", "a - b", "a"), ["a - b", "-", "c++", "a - -"], 4)
    assert [answer.get("token") for answer in answers] == ["a - b", "-", "c++", None]
    assert [term["token"] for term in answers[3]["terms"]] == ["a", "-"]


def test_unknown_words_of_expressions(model: str) -> None:
    with pytest.raises(UserError, match=r"^'dogg' is .* Did you mean: dog\? 'zzz' is not in the vocabulary\.$"):
        run("--model", model, "dogg - zzz + fox", "zzz")
    with pytest.raises(UserError, match=r"^'-' is not in the vocabulary\. An expression is one argument"):
        run("--model", model, "dog", "-", "fox")
    with pytest.raises(UserError, match="found 'dog fox', expected a word, or words with"):
        run("--model", model, "dog fox")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--top", "0"], "--top: found 0, expected at least 1"),
        (["--data", "x"], "--data: found without --explain"),
        (["--explain-pairs", "5"], "--explain-pairs: found without --explain"),
        (["--explain", "--explain-pairs", "0"], "--explain-pairs: found 0"),
    ],
)
def test_wrong_usage_exits_2(model: str, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("--model", model, "dog", *flags)
    assert message in capsys.readouterr().err


def test_without_words_some_of_the_vocabulary_are_taken() -> None:
    few = make_vocabulary(["a", "b", "c"], [1, 9, 5])
    assert sample_words(few) == ["b", "c", "a"]
    many = make_vocabulary([f"w{i}" for i in range(700)], [1000 - i for i in range(700)])
    assert sample_words(many) == ["w99", "w159", "w249", "w399", "w629"]
