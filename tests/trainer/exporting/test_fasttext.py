"""fastText's file in gensim: words, unknown words, and what it can go on training with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset.schema import FormatError
from pipeline.dataset.vocabulary import make_vocabulary
from tests.support.subword_models import WORDS, make_subword_model
from trainer.errors import UserError
from trainer.exporting.command import export_model
from trainer.models.store import Model, load_model, save_model
from trainer.subwords.ngrams import Subwords

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # gensim's and its dependencies' own

RULES = [Subwords(3, 6, 1000), Subwords(1, 2, 7), Subwords(4, 4, 2**16)]
UNKNOWN = ["walking", "невский", "東京都", "ab", "𝔘nicod"]
COUNTS = [3, 9, 1, 1, 200, 3, 0, 4, 9, 9, 2]  # not in order, with equal ones and one that is nothing


def made(rule: Subwords = RULES[0], dim: int = 6) -> Model:
    model = make_subword_model(rule, dim=dim)
    return replace(model, vocabulary=make_vocabulary(WORDS, COUNTS))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.exporting.formats._BLOCK_VALUES", 20)
    monkeypatch.setattr("trainer.exporting.fasttext._BLOCK_NUMBERS", 20)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("rule", RULES)
def test_gensim_has_our_vectors(rule: Subwords, tmp_path: Path) -> None:
    from gensim.models.fasttext import load_facebook_model, load_facebook_vectors

    save_model(str(tmp_path / "m"), made(rule), {})
    model, to = load_model(str(tmp_path / "m")), str(tmp_path / "vectors.bin")
    export_model(model, "fasttext", to)
    found = load_facebook_vectors(to)
    assert sorted(found.key_to_index) == sorted(WORDS)
    assert [found.get_vecattr(word, "count") for word in WORDS] == [max(count, 1) for count in COUNTS]
    for row, word in enumerate(WORDS):
        if word != "</s>":  # gensim gives it n-grams, fastText does not
            np.testing.assert_allclose(found[word], model.input_VD[row], atol=1e-6)
    assert model.subwords is not None
    for word in UNKNOWN:
        expected = model.subwords.vector(word)
        if expected is not None:
            np.testing.assert_allclose(found[word], expected, atol=1e-6)
    whole = load_facebook_model(to)
    assert (whole.wv.min_n, whole.wv.max_n, whole.wv.bucket) == (rule.shortest, rule.longest, rule.buckets)
    np.testing.assert_array_equal(whole.syn1neg, model.output_VD[[WORDS.index(word) for word in found.index_to_key]])


@pytest.mark.parametrize("vectors", ["input", "output", "average"])
def test_a_model_without_subwords_has_no_ngrams(vectors: str, tmp_path: Path) -> None:
    from gensim.models.fasttext import load_facebook_vectors

    model = replace(made(), subwords=None)
    export_model(model, "fasttext", str(tmp_path / "out"), vectors)
    found = load_facebook_vectors(str(tmp_path / "out"))
    table_VD = {"input": model.input_VD, "output": model.output_VD}.get(
        vectors, (model.input_VD + model.output_VD) * np.float32(0.5)
    )
    for row, word in enumerate(WORDS):
        np.testing.assert_array_equal(found[word], table_VD[row])
    assert "walking" not in found


def test_how_it_was_trained_is_said(tmp_path: Path) -> None:
    from gensim.models.fasttext import load_facebook_model

    config = {"epochs": 3, "negatives": 7, "architecture": "cbow"}
    model = replace(made(), info={"config": config, "lineage": {}, "metrics": {}})
    export_model(model, "fasttext", str(tmp_path / "out"))
    found = load_facebook_model(str(tmp_path / "out"))
    assert (found.epochs, found.negative, found.sg) == (3, 7, 0)


def test_what_the_format_cannot_hold(tmp_path: Path) -> None:
    for token in ("", "a\0b"):
        model = replace(made(), vocabulary=make_vocabulary([token, *WORDS[1:]], COUNTS))
        with pytest.raises(
            FormatError, match=r"--format fasttext: found the token .* \(id 0\), expected none empty or"
        ):
            export_model(model, "fasttext", str(tmp_path / "out"))
    with pytest.raises(UserError, match="--vectors: found output with --format fasttext, expected input"):
        export_model(made(), "fasttext", str(tmp_path / "out"), "output")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["word2vec", "parquet"])
def test_other_formats_hold_words_alone(form: str, tmp_path: Path) -> None:
    for model, name in ((made(), "with"), (replace(made(), subwords=None), "without")):
        export_model(model, form, str(tmp_path / name))
    assert (tmp_path / "with").read_bytes() == (tmp_path / "without").read_bytes()
