"""The scorer of the comparisons says what gensim's own evaluation says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors

from tests.quality import score
from tests.quality.corpora import evaluation_sets

pytestmark = pytest.mark.unit


@pytest.fixture
def vectors() -> KeyedVectors:
    """Vectors of the words of the sets, in which a question of some words has an answer."""
    text = " ".join(evaluation_sets()[name].read_text(encoding="utf-8").lower() for name in ("wordsim353", "analogy"))
    words = sorted({word for word in text.split() if word.isalpha()})
    rng = np.random.default_rng(1)
    table = rng.standard_normal((len(words), 20)).astype(np.float32)
    table[:400] *= 0.1  # near to one another: then some questions are answered right
    table[:400] += 1
    order = rng.permutation(len(words))
    made = KeyedVectors(20)
    made.add_vectors([words[row] for row in order], table[order])
    return made


def test_it_agrees_with_gensim(vectors: KeyedVectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "ANALOGY_WORDS", 700)
    vectors.save_word2vec_format(str(tmp_path / "vectors.bin"), binary=True)
    found = score.score(*score.read_vectors(tmp_path / "vectors.bin"))
    sets = evaluation_sets()
    rho = vectors.evaluate_word_pairs(sets["wordsim353"])[1].statistic
    accuracy, sections = vectors.evaluate_word_analogies(sets["analogy"], restrict_vocab=700)
    assert found["wordsim353"] == pytest.approx(rho, abs=1e-4)
    assert found["analogy"] == pytest.approx(accuracy, abs=1e-4)
    for name, grammar in (("semantic", False), ("syntactic", True)):
        ours = [one for one in sections[:-1] if one["section"].startswith("gram") == grammar]
        right, wrong = (sum(len(one[kind]) for one in ours) for kind in ("correct", "incorrect"))
        assert right + wrong > 10
        assert found[name] == pytest.approx(right / (right + wrong), abs=1e-4)
    assert 0 < accuracy < 1
