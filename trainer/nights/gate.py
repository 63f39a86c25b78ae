"""The gate: what a new version must show before it may replace the live one.

Shapes: C common words, N words that are asked about, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.dataset.manifest import CorpusTotals
from trainer.evalsets import EvalSets
from trainer.evaluate import rank_vectors, score_analogies, score_similarity
from trainer.nights.align import common_rows
from trainer.nights.settings import RetrainConfig
from trainer.store import Floats, Model
from trainer.vectors import Ids, frequency_order, top_rows, unit_rows

NEIGHBORS = 10
_COMPARED_WORDS = 50_000  # neighbours are looked for among the most frequent of the common words
_BLOCK_WORDS = 256


@dataclass(frozen=True)
class Check:
    """One figure and its limit.

    Attributes:
        name: what was measured.
        found: the figure.
        limit: what it must reach, or must not exceed.
        at_least: which of the two.
    """

    name: str
    found: float
    limit: float
    at_least: bool = True

    @property
    def passed(self) -> bool:
        """Whether it is inside its limit; NaN never is."""
        return self.found >= self.limit if self.at_least else self.found <= self.limit

    def __str__(self) -> str:
        """Say it in the house's words."""
        bound = "at least" if self.at_least else "at most"
        found = "no figure, too few words are known" if math.isnan(self.found) else f"{self.found:.4g}"
        return f"{self.name}: found {found}, expected {bound} {self.limit:g}"

    def to_dict(self) -> dict[str, Any]:
        """For lineage.json."""
        return {**asdict(self), "found": self.found if math.isfinite(self.found) else None, "passed": self.passed}


def score(model: Model, sets: EvalSets) -> dict[str, dict[str, float | None]]:
    """Scores of a model by kind and file; None where too few words are known."""
    if not sets:
        return {}
    vectors = rank_vectors(model)
    return {
        "similarity": {path: score_similarity(pairs, vectors)["spearman"] for path, pairs in sets.similarity.items()},
        "analogies": {path: score_analogies(asked, vectors)["accuracy"] for path, asked in sets.analogies.items()},
    }


def check_scores(
    new: Mapping[str, Mapping[str, float | None]], old: Mapping[str, Mapping[str, float | None]], config: RetrainConfig
) -> list[Check]:
    """Check a model's scores against the limits and the live version's scores; a file without a score fails."""
    checks = []
    for kind, limit in (("similarity", config.min_similarity), ("analogies", config.min_analogies)):
        for path, scored in new.get(kind, {}).items():
            found = math.nan if scored is None else scored
            checks.append(Check(f"{kind} {path}", found, limit))
            if (before := old.get(kind, {}).get(path)) is not None:
                drop = before - found
                checks.append(Check(f"{kind} {path}, drop from live", drop, config.max_score_drop, at_least=False))
    return checks


def check_corpus(corpus: CorpusTotals, live_tokens: int | None, config: RetrainConfig) -> list[Check]:
    """Hold the text's size and what was set aside against the limits.

    Args:
        corpus: of the new dataset.
        live_tokens: tokens of the live version's dataset, where the two are to be compared.
        config: has the limits.
    """
    share = corpus.dead_letter_bytes / max(1, corpus.bytes)
    checks = [Check("dead letters", share, config.max_dead_letters, at_least=False)]
    if live_tokens:
        checks.append(Check("tokens, as a share of live", corpus.tokens / live_tokens, config.min_token_ratio))
    return checks


def check_space(old: Model, new: Model, config: RetrainConfig) -> list[Check]:
    """Hold where the live version's frequent words are now against where they were."""
    frequent_N = frequency_order(old.vocabulary.counts)[: config.gate_words]
    known_N = new.vocabulary.encode(old.vocabulary.tokens)[frequent_N] >= 0
    checks = [Check("known words", float(known_N.mean()) if len(known_N) else 1.0, config.min_known_words)]
    old_C, new_C = common_rows(old, new, _COMPARED_WORDS)
    asked = min(int(known_N.sum()), len(old_C))
    if not asked:
        return checks
    old_CD, new_CD = unit_rows(old.input_VD[old_C]), unit_rows(new.input_VD[new_C])
    checks.append(Check("neighbour overlap", neighbor_overlap(old_CD, new_CD, asked), config.min_overlap))
    if old_CD.shape[1] == new_CD.shape[1]:
        cosine = float(np.einsum("nd,nd->n", old_CD[:asked], new_CD[:asked], dtype=np.float64).mean())
        checks.append(Check("mean cosine", cosine, config.min_cosine))
    return checks


def neighbor_overlap(old_CD: Floats, new_CD: Floats, asked: int, top: int = NEIGHBORS) -> float:
    """Share of the nearest neighbours of the first ``asked`` words that two spaces have in common, on average.

    Args:
        old_CD: unit vectors of the common words.
        new_CD: the same words' in the other space.
        asked: how many words to ask about.
        top: neighbours of each; with fewer other words, all of them.
    """
    shared = 0
    for start in range(0, asked, _BLOCK_WORDS):
        words = np.arange(start, min(start + _BLOCK_WORDS, asked))
        near = [_nearest(table_CD, words, top) for table_CD in (old_CD, new_CD)]
        shared += sum(len(a & b) for a, b in zip(*near, strict=True))
    return shared / (asked * max(1, min(top, len(old_CD) - 1)))


def _nearest(unit_CD: Floats, words: Ids, top: int) -> list[set[int]]:
    scores = unit_CD[words] @ unit_CD.T
    scores[np.arange(len(words)), words] = -np.inf
    return [set(top_rows(row, top).tolist()) for row in scores]
