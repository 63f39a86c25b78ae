"""What a training may start from: models and files of word2vec, gensim and fastText; what is damaged is one line."""

from __future__ import annotations

import gzip
import hashlib
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset.schema import FormatError
from pipeline.dataset.vocabulary import make_vocabulary
from tests.support.subword_models import RULE, WORDS, make_subword_model
from trainer.engines.init import initial_tables, warm_tables
from trainer.errors import UserError
from trainer.exporting.command import export_model
from trainer.importing.start import load_start
from trainer.models.store import Model, load_model, save_model
from trainer.subwords.ngrams import Subwords

FORMS = ("word2vec", "word2vec-bin", "fasttext")


def plain_model(dim: int = 6) -> Model:
    return replace(make_subword_model(dim=dim), subwords=None)


def written(form: str, to: Path, model: Model | None = None) -> Path:
    export_model(plain_model() if model is None else model, form, str(to))
    return to


def zipped(path: Path) -> Path:
    path.write_bytes(gzip.compress(path.read_bytes()))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(FormatError) as caught:
        load_start(str(path))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("read_bytes", [1 << 22, 7])
@pytest.mark.parametrize("zip_it", [False, True])
def test_what_was_written_is_read(
    form: str, read_bytes: int, zip_it: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.importing.scan._READ_BYTES", read_bytes)
    monkeypatch.setattr("trainer.importing.word2vec._BLOCK_ROWS", 4)
    monkeypatch.setattr("trainer.importing.fasttext._BLOCK_BYTES", 20)
    path, model = written(form, tmp_path / "any.name"), plain_model()
    found = load_start(str(zipped(path) if zip_it else path))
    assert found.vocabulary.tokens == WORDS
    np.testing.assert_array_equal(found.input_VD, model.input_VD)
    np.testing.assert_array_equal(found.output_VD, model.output_VD if form == "fasttext" else np.empty((0, 6)))
    assert found.vocabulary.counts.tolist() == (model.vocabulary.counts.tolist() if form == "fasttext" else [0] * 11)
    entry = found.info["files"]["model.safetensors"]
    assert entry == {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def test_a_folder_is_a_model(tmp_path: Path) -> None:
    first = save_model(str(tmp_path), plain_model(), {})
    save_model(str(tmp_path), make_subword_model(seed=1), {})
    assert load_start(str(tmp_path)).info == load_model(str(tmp_path)).info
    assert load_start(str(tmp_path), first).info["version"] == first
    with pytest.raises(FormatError, match="no such folder"):
        load_start(str(tmp_path / "none"))
    path = written("word2vec", tmp_path / "file")
    with pytest.raises(UserError, match=f"--init-version: found {first} of a file"):
        load_start(str(path), first)


def test_fasttexts_ngrams(tmp_path: Path) -> None:
    model = make_subword_model()
    found = load_start(str(written("fasttext", tmp_path / "f", model)))
    assert found.subwords is not None
    assert model.subwords is not None
    assert found.subwords.rule == RULE
    np.testing.assert_array_equal(found.subwords.rows_RD, model.subwords.rows_RD)
    np.testing.assert_array_equal(found.input_VD, model.input_VD)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # gensim's and its dependencies' own
@pytest.mark.parametrize("sg", [0, 1])
def test_gensims_files(sg: int, tmp_path: Path) -> None:
    from gensim.models import FastText
    from gensim.models.fasttext import save_facebook_model

    sentences = [["the", "quick", "été", "fox"], ["lazy", "dog", "the", "fox"]] * 20
    made = FastText(sentences, vector_size=8, min_count=1, bucket=100, epochs=1, sg=sg, workers=1, seed=1)
    save_facebook_model(made, str(tmp_path / "fasttext"))
    made.wv.save_word2vec_format(str(tmp_path / "text.gz"))
    made.wv.save_word2vec_format(str(tmp_path / "binary"), binary=True)
    for name in ("fasttext", "text.gz", "binary"):
        found = load_start(str(tmp_path / name))
        assert found.vocabulary.tokens == made.wv.index_to_key
        np.testing.assert_allclose(found.input_VD, made.wv.vectors, atol=1e-6)
    assert (tmp_path / "text.gz").read_bytes()[:2] == b"\x1f\x8b"
    found = load_start(str(tmp_path / "fasttext"))
    np.testing.assert_array_equal(found.output_VD, made.syn1neg)
    assert found.subwords is not None
    vector = found.subwords.vector("quickly")
    assert vector is not None
    np.testing.assert_allclose(vector, made.wv["quickly"], atol=1e-6)


TEXTS = {
    "no end of the last line": "2 3\na 1 2 3\nb 4 5 6",
    "Windows' ends": "2 3\r\na 1 2 3\r\nb 4 5 6\r\n",
    "spaces at ends, as fastText writes": "2 3\na 1 2 3 \nb 4 5 6 \n",
    "exponents and signs": "2 3\na 1e0 +2 3.0\nb 4 .5e1 600E-2\n",
    "an empty last line": "2 3\na 1 2 3\nb 4 5 6\n\n",
}


@pytest.mark.parametrize("text", TEXTS)
def test_texts(text: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(TEXTS[text].encode())
    found = load_start(str(tmp_path / "f"))
    assert found.vocabulary.tokens == ["a", "b"]
    np.testing.assert_array_equal(found.input_VD, [[1, 2, 3], [4, 5, 6]])


def test_odd_words(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"5 2\n. . 1 2\na 3 4\n7 5 6\na 9 9\n\xff 7 8\n")
    found = load_start(str(tmp_path / "f"))
    assert found.vocabulary.tokens == [". .", "a", "7", "\ufffd"]  # of a word that comes twice, the first
    np.testing.assert_array_equal(found.input_VD, [[1, 2], [3, 4], [5, 6], [7, 8]])


DAMAGED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "text: cut off": (lambda _: b"2 3\na 1 2 3\n", "end of the file in word 2: it is cut off"),
    "text: too few numbers": (lambda _: b"2 3\na 1 2 3\nb 4 5\n", ":3: found b'b 4 5', expected a word and 3 numbers"),
    "text: no numbers": (lambda _: b"2 3\na 1 2 3\nb x y z\n", ":3: found b'b x y z', expected a word and 3"),
    "text: no number at first": (lambda _: b"2 3\na 1 x 3\nb 1 2 3\n", ":2: found b'a 1 x 3', expected a word and 3"),
    "text: too many words": (lambda _: b"1 3\na 1 2 3\nb 4 5 6\n", "found more after word 1"),
    "text: NaN": (lambda _: b"1 3\na 1 nan 3\n", "found NaN or Inf"),
    "no dimensions": (lambda _: b"1 0\na\n", "found no file of word2vec or fastText"),
    "any text": (lambda _: b"the quick brown fox\n", "found no file of word2vec or fastText"),
    "nothing": (lambda _: b"", "found no file of word2vec or fastText"),
    "too large": (lambda _: b"9999999999 99999\na 1 2\n", "too many for this memory"),
    "binary: cut off": (lambda data: data[:-8], "end of the file in word 11: it is cut off"),
    "binary: too many words": (lambda data: data + b"more", "found more after word 11"),
    "gzip: cut off": (lambda data: gzip.compress(data)[:-20], "damaged gzip"),
    "gzip: damaged": (lambda data: gzip.compress(data, mtime=0)[:-6] + b"\0" * 6, "damaged gzip"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_files(damage: str, tmp_path: Path) -> None:
    path = written("word2vec-bin", tmp_path / "f")
    change, said = DAMAGED[damage]
    path.write_bytes(change(path.read_bytes()))
    assert said in refusal(path)


def at(offset: int, form: str, value: float) -> Callable[[bytes], bytes]:
    """Write a number over what is there."""
    number = struct.pack(form, value)
    return lambda data: data[:offset] + number + data[offset + len(number) :]


FASTTEXT: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut off in the header": (lambda data: data[:20], "the header: it is cut off"),
    "cut off in a word": (lambda data: data[:95], "word 1: it is cut off"),
    "cut off in a table": (lambda data: data[:-1], "the output table: it is cut off"),
    "more": (lambda data: data + b"x", "found more after the output table"),
    "a later version": (at(4, "<i", 13), "found version 13 of fastText's format, expected 12 or earlier"),
    "other dimensions": (at(8, "<i", 7), "found an input table of (61, 6), expected (61, 7)"),
    "other buckets": (at(40, "<i", 49), "found an input table of (61, 6), expected (60, 6)"),
    "lengths": (at(48, "<i", 101), "subwords: found 3-101, expected MIN-MAX from 1 to 100"),
    "pruned": (at(84, "<q", 5), "found a quantized model, expected one that is not"),
    "entries": (at(64, "<i", 12), "found 12 entries, expected 11 words and 0 labels"),
    "a count": (at(96, "<q", -1), "found word 1 of kind 0 and count -1"),
}


@pytest.mark.parametrize("damage", FASTTEXT)
def test_damaged_fasttext_files(damage: str, tmp_path: Path) -> None:
    path = written("fasttext", tmp_path / "f", make_subword_model())
    change, said = FASTTEXT[damage]
    path.write_bytes(change(path.read_bytes()))
    assert said in refusal(path)


@pytest.mark.parametrize("form", FORMS)
def test_every_cut_is_noticed(form: str, tmp_path: Path) -> None:
    path = written(form, tmp_path / "f")
    data = path.read_bytes()
    for size in range(0, len(data) - 1, 13):
        path.write_bytes(data[:size])
        if form == "word2vec" and data[:size].count(b"\n") == len(WORDS):
            continue  # a last number that is cut off is a number, too
        refusal(path)


def test_without_the_outputs_of_words(tmp_path: Path) -> None:
    path = written("fasttext", tmp_path / "f", make_subword_model())
    data = path.read_bytes()
    for offset, value in ((32, 1), (36, 3)):  # hierarchical softmax; supervised
        path.write_bytes(at(offset, "<i", value)(data))
        assert load_start(str(path)).output_VD.shape == (0, 6)


NEW = ["running", "fresh", "the"]


def started(model: Model, rule: Subwords | None) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Tables of a new vocabulary before and after."""
    tables = initial_tables("normal", len(NEW), 6, 1, rule.buckets if rule else 0)
    before = [table.copy() for table in tables]
    return before, [*warm_tables(tables, make_vocabulary(NEW, [3, 2, 1]), model, rule)]


def test_a_start_by_the_same_rule_takes_all_rows() -> None:
    model = make_subword_model()
    (input_RD, output_VD), found = started(model, RULE)
    assert model.subwords is not None
    rows_RD, known = model.subwords.rows_RD, [WORDS.index("running"), WORDS.index("the")]
    np.testing.assert_array_equal(found[0][[0, 2]], rows_RD[known])
    np.testing.assert_array_equal(found[0][1], input_RD[1])
    np.testing.assert_array_equal(found[0][3:], rows_RD[len(WORDS) :])
    np.testing.assert_array_equal(found[1][[0, 2]], model.output_VD[known])
    np.testing.assert_array_equal(found[1][1], output_VD[1])


@pytest.mark.parametrize("rule", [None, Subwords(3, 5, 50), Subwords(3, 6, 51)])
def test_a_start_by_another_rule_takes_words(rule: Subwords | None) -> None:
    model = make_subword_model()
    (input_RD, _), found = started(model, rule)
    np.testing.assert_array_equal(found[0][[0, 2]], model.input_VD[[WORDS.index("running"), WORDS.index("the")]])
    np.testing.assert_array_equal(found[0][[1, *range(3, len(input_RD))]], input_RD[[1, *range(3, len(input_RD))]])


def test_without_outputs_they_start_as_usual(tmp_path: Path) -> None:
    model = load_start(str(written("word2vec", tmp_path / "f")))
    (_, output_VD), found = started(model, None)
    np.testing.assert_array_equal(found[1], output_VD)
    np.testing.assert_array_equal(found[0][0], model.input_VD[WORDS.index("running")])
