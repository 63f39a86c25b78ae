"""The check of rare words asks what it says, and ranks are what they are."""

from __future__ import annotations

from collections import Counter

import numpy as np

from tests.quality.rare_words import ENDINGS, KNOWN, MIN_COUNT, ranks, rare_forms


def test_forms_of_known_words() -> None:
    counts = Counter({"parler": KNOWN, "maison": KNOWN, "journal": KNOWN, "dire": KNOWN - 1, "mur": KNOWN})
    asked = ["parlaient", "maisons", "journaux", "dires", "murs", "parlerons"]  # too rare a lemma, too short, no rule
    counts.update(dict.fromkeys(asked, MIN_COUNT - 1))
    counts["parlait"] = MIN_COUNT  # known
    assert rare_forms(counts, ENDINGS["french"]) == {"parlaient": "parler", "maisons": "maison", "journaux": "journal"}


def test_a_rank_counts_the_words_that_are_nearer() -> None:
    table = np.array([[1, 0], [2, 2], [0, 1]], np.float32)
    assert ranks(np.array([[1, 0.1], [0.1, 5]], np.float32), ["a", "b"], ["a", "b", "c"], table).tolist() == [1, 2]
