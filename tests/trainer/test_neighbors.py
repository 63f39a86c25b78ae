"""Neighbours against a brute-force oracle; words that are not there; output for people."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.dataset.vocab import Vocabulary, make_vocabulary
from trainer import neighbors
from trainer.errors import UserError
from trainer.neighbors import (
    close_spellings,
    describe,
    display_width,
    find_neighbors,
    find_word,
    printable,
    sample_words,
)
from trainer.store import Model, save_model

INFO: dict[str, Any] = {"config": {}, "lineage": {}, "metrics": {}}


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
    for row, found in zip(rows, find_neighbors(table, vocabulary, rows, top), strict=True):
        scores = (unit @ unit[row]).astype(np.float64)
        near = found["neighbors"]
        ids = [int(entry["token"][1:]) for entry in near]
        assert (found["token"], found["count"]) == (f"w{row}", 50 - row)
        assert len(set(ids)) == len(ids) == min(top, 49)
        assert row not in ids
        np.testing.assert_allclose([entry["cosine"] for entry in near], scores[ids], atol=2e-6)
        others = np.delete(scores, row)
        np.testing.assert_allclose(scores[ids], np.sort(others)[::-1][:top], atol=2e-6)
        assert [entry["count"] for entry in near] == [50 - i for i in ids]


def test_a_word_is_left_out_by_id_not_by_spelling() -> None:
    vocabulary = vocabulary_of("Dog", "dog", "cat")
    (found,) = find_neighbors(np.eye(3, dtype=np.float32) + 1, vocabulary, [1], 10)
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
        ("ﬀ", None),
        ("", None),
    ],
)
def test_words_are_found_as_written_first(word: str, expected: int | None) -> None:
    assert find_word(vocabulary_of("dog", "Dog", "café", "fire"), word) == expected


def test_decomposed_vocabulary_is_found_as_written() -> None:
    word = unicodedata.normalize("NFD", "café")
    assert find_word(vocabulary_of("café", word), word) == 1


def test_close_spellings_come_nearest_first() -> None:
    rng = np.random.default_rng(0)
    noise = ["".join(rng.choice(list("bdgkmqsvxz"), 7)) for _ in range(5000)]
    vocabulary = vocabulary_of(*dict.fromkeys(noise), "london", "longdon", "Paris", "λόγος", "λόγον")
    assert close_spellings(vocabulary, "lodnon")[:2] == ["london", "longdon"]
    assert close_spellings(vocabulary, "PARISS")[0] == "Paris"
    assert set(close_spellings(vocabulary, "λόγο")) == {"λόγος", "λόγον"}
    assert close_spellings(vocabulary, "777777") == []
    assert close_spellings(vocabulary, "") == []


def test_equally_close_spellings_come_by_frequency() -> None:
    assert close_spellings(make_vocabulary(["cats", "cate", "cat2"], [1, 9, 5]), "cat") == ["cate", "cat2", "cats"]


def test_display_width() -> None:
    assert [display_width(text) for text in ("abc", "日本", "e\u0301", "ｱ", "한", "a\u200db", "")] == [
        3,
        4,
        1,
        1,
        2,
        2,
        0,
    ]


def test_columns_stay_aligned() -> None:
    tokens = ["abc", "日本語", "cafe\u0301", "x\x1b[31m"]
    near = [{"token": token, "cosine": 0.5, "count": 10**i} for i, token in enumerate(tokens)]
    lines = describe({"token": "w", "count": 5, "neighbors": near}).split("\n")
    assert lines[0] == "w  (count 5)"
    assert len({display_width(line) for line in lines[1:]}) == 1
    assert "\x1b" not in "".join(lines)


def test_escapes_only_what_acts_on_a_terminal() -> None:
    assert printable("a\tb\n\x1b\u202ec") == r"a\tb\n\x1b\u202ec"
    assert printable("naïve 日本 \u0928\u200d") == "naïve 日本 \u0928\u200d"


@pytest.fixture
def model(tmp_path: Path) -> str:
    table = np.array([[1, 0], [0.9, 0.1], [0, 1], [-1, 0.2]], np.float32)
    vocabulary = make_vocabulary(["dog", "fox", "bread", "butter"], [9, 7, 5, 3])
    save_model(str(tmp_path), "v", Model(table, table[::-1], vocabulary, INFO), {})
    return str(tmp_path)


def run(*flags: str) -> int:
    parser = argparse.ArgumentParser()
    neighbors.add_arguments(parser)
    return neighbors.run(parser.parse_args(flags))


def test_each_word_has_its_own_list(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", model, "Dog", "bread", "--top", "2", "--json") == 0
    words = json.loads(capsys.readouterr().out)["words"]
    assert [(w["word"], w["token"], w["count"]) for w in words] == [("Dog", "dog", 9), ("bread", "bread", 5)]
    assert [[entry["token"] for entry in w["neighbors"]] for w in words] == [["fox", "bread"], ["butter", "fox"]]
    assert run("--model", model, "dog", "bread", "--top", "2") == 0
    blocks = capsys.readouterr().out.rstrip("\n").split("\n\n")
    assert [len(block.split("\n")) for block in blocks] == [3, 3]
    assert blocks[0].split("\n")[1].split() == ["fox", "0.9939", "7"]


def test_the_other_table(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", model, "butter", "--vectors", "output", "--top", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["words"][0]["neighbors"][0]["token"] == "bread"


def test_unknown_words(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"^found no 'dogg' \(close spellings: dog\), 'zzz' among the model's 4 tokens"):
        run("--model", model, "dogg", "fox", "zzz")
    with pytest.raises(UserError, match="--top: found 0, expected at least 1"):
        run("--model", model, "dog", "--top", "0")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["neighbors", "evaluate", "export"])
def test_starts_without_the_training_stack(name: str) -> None:
    code = f"import sys, trainer.{name}; print(sorted({{'torch', 'numba', 'apache_beam', 'scipy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_words_some_of_the_vocabulary_are_taken() -> None:
    few = make_vocabulary(["a", "b", "c"], [1, 9, 5])
    assert sample_words(few) == ["b", "c", "a"]
    many = make_vocabulary([f"w{i}" for i in range(700)], [1000 - i for i in range(700)])
    assert sample_words(many) == ["w99", "w159", "w249", "w399", "w629"]
