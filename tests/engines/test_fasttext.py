"""The real fastText: its n-grams are ours, it answers from our file as we do, and we start from its files."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.dataset.vocabulary import make_vocabulary
from tests.bench.peers import fasttext_python
from tests.support.subword_models import WORDS, make_subword_model
from trainer.exporting.command import export_model
from trainer.importing.start import load_start
from trainer.keyed_vectors.vectors import Vectors
from trainer.models.store import Model
from trainer.subwords.ngrams import Subwords

pytestmark = pytest.mark.engines

UNKNOWN = ["walking", "невский", "東京都", "ab", "𝔘nicod", "e\u0301te", "x", "__label__y", "</S>"]
RULES = [Subwords(3, 6, 2_000_000), Subwords(1, 4, 7), Subwords(5, 5, 1 << 21)]
#: Prints what fastText says of each word: its vector, and the rows that it is the mean of.
ASK = """
import json, sys, fasttext
model = fasttext.load_model(sys.argv[1])
asked = json.load(sys.stdin)
print(json.dumps({
    "words": model.words,
    "vectors": [model.get_word_vector(word).tolist() for word in asked],
    "rows": [model.get_subwords(word)[1].tolist() for word in asked],
    "output": model.get_output_matrix().tolist(),
}))
"""


@pytest.fixture(scope="module")
def python() -> Path:
    return fasttext_python()


def ask(python: Path, file: Path, words: list[str]) -> dict[str, Any]:
    command = [str(python), "-W", "ignore", "-c", ASK, str(file)]
    done = subprocess.run(command, input=json.dumps(words), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("rule", RULES)
def test_it_reads_our_file(python: Path, rule: Subwords, tmp_path: Path) -> None:
    words = [*WORDS, *(f"w{number}ord" for number in range(300))]
    model = make_subword_model(rule, words, dim=8)
    export_model(model, "fasttext", str(tmp_path / "vectors.bin"))
    found, ours = ask(python, tmp_path / "vectors.bin", [*words, *UNKNOWN]), Vectors(model)
    assert found["words"] == words
    known, unknown = found["vectors"][: len(words)], found["vectors"][len(words) :]
    np.testing.assert_allclose(known, ours.vectors, atol=1e-6)
    parts = rule.parts(words)
    for row in range(len(words)):
        assert found["rows"][row] == parts.rows[parts.offsets[row] : parts.offsets[row + 1]].tolist()
    assert model.subwords is not None
    for word, vector, rows in zip(UNKNOWN, unknown, found["rows"][len(words) :], strict=True):
        assert rows == rule.unseen(word, len(words)).tolist()
        expected = model.subwords.vector(word)
        np.testing.assert_allclose(vector, np.zeros(8) if expected is None else expected, atol=1e-6)
    np.testing.assert_array_equal(np.array(found["output"], np.float32), model.output_VD)


def test_rows_follow_the_frequency(python: Path, tmp_path: Path) -> None:
    counts = [3, 9, 1, 1, 200, 3, 7, 4, 9, 9, 2]
    model: Model = replace(make_subword_model(RULES[1]), vocabulary=make_vocabulary(WORDS, counts))
    export_model(model, "fasttext", str(tmp_path / "vectors.bin"))
    found = ask(python, tmp_path / "vectors.bin", WORDS)
    assert found["words"] == [WORDS[row] for row in np.argsort(-np.array(counts), kind="stable")]
    np.testing.assert_allclose(found["vectors"], model.input_VD, atol=1e-6)


def test_a_model_without_subwords(python: Path, tmp_path: Path) -> None:
    model = replace(make_subword_model(), subwords=None)
    export_model(model, "fasttext", str(tmp_path / "vectors.bin"))
    found = ask(python, tmp_path / "vectors.bin", [*WORDS, "walking"])
    np.testing.assert_array_equal(np.array(found["vectors"][:-1], np.float32), model.input_VD)
    assert not any(found["vectors"][-1])


#: Trains three models on some lines and saves all that fastText saves. With fewer threads it leaves part of its table
#: as memory happens to be, and now and then ends with "Encountered NaN".
TRAIN = """
import json, sys, fasttext
folder = sys.argv[1]
for name, options in {"subwords": {"minn": 2, "maxn": 4, "bucket": 500}, "words": {"minn": 0, "maxn": 0},
                      "tree": {"loss": "hs", "bucket": 500}}.items():
    model = fasttext.train_unsupervised(f"{folder}/text", dim=12, minCount=1, t=1, thread=12, verbose=0, **options)
    model.save_model(f"{folder}/{name}.bin")
    with open(f"{folder}/{name}.vec", "w") as file:
        print(len(model.words), 12, file=file)
        for word in model.words:
            print(word, *model.get_word_vector(word).tolist(), file=file)
    asked = [*model.words, "walking"]
    answer = {"words": model.words, "vectors": [model.get_word_vector(word).tolist() for word in asked]}
    json.dump(answer | {"output": model.get_output_matrix().tolist()}, open(f"{folder}/{name}.json", "w"))
"""


def test_we_start_from_its_files(python: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("the walk to the été and running to walks\nмосква is walked by the runner\n" * 50)
    subprocess.run([str(python), "-W", "ignore", "-c", TRAIN, str(tmp_path)], check=True)
    for name in ("subwords", "words", "tree"):
        theirs = json.loads((tmp_path / f"{name}.json").read_text())
        known = np.array(theirs["vectors"][:-1])
        found, text = (load_start(str(tmp_path / f"{name}{ending}")) for ending in (".bin", ".vec"))
        assert found.vocabulary.tokens == text.vocabulary.tokens == theirs["words"]
        assert "</s>" in theirs["words"]
        np.testing.assert_allclose(found.input_VD, known, atol=1e-6)
        np.testing.assert_allclose(text.input_VD, known, atol=1e-6)
        outputs = np.empty((0, 12)) if name == "tree" else np.array(theirs["output"], np.float32)
        np.testing.assert_array_equal(found.output_VD, outputs)
        if name == "words":
            assert found.subwords is None
        else:
            assert found.subwords is not None
            np.testing.assert_allclose(found.subwords.vector("walking"), theirs["vectors"][-1], atol=1e-6)  # type: ignore[arg-type]
