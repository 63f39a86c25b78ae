"""Models whose words are made of n-grams, from random rows."""

from __future__ import annotations

import numpy as np

from pipeline.dataset.vocabulary import make_vocabulary
from trainer.models.store import Model
from trainer.subwords.ngrams import Subwords, compose
from trainer.subwords.table import SubwordTable

RULE = Subwords(3, 6, 50)
WORDS = ["the", "</s>", "a", "été", "москва", "東京", "running", "runner", "new_york", "__label__x", "𝔘nicode"]


def make_subword_model(rule: Subwords = RULE, tokens: list[str] | None = None, dim: int = 6, seed: int = 0) -> Model:
    tokens = tokens or WORDS
    draw, rows = np.random.default_rng(seed), len(tokens)
    rows_RD = draw.standard_normal((rows + rule.buckets, dim), np.float32)
    output_VD = draw.standard_normal((rows, dim), np.float32)
    vocabulary = make_vocabulary(tokens, range(rows + 4, 4, -1))
    info = {"config": {"dim": dim, "predict": "center"}, "lineage": {"dataset_id": "d"}, "metrics": {}}
    composed_VD = compose(rows_RD, *rule.parts(tokens))
    return Model(composed_VD, output_VD, vocabulary, info, SubwordTable(rule, rows_RD))
