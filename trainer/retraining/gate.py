"""The gate: what a new version must show before it may replace the live one.

Shapes: C common words, N words that are asked about, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np

from pipeline.dataset.manifest import CorpusTotals
from pipeline.dataset.schema import canonical_json, sha256_hex
from pipeline.storage import storage
from trainer.errors import UserError
from trainer.evaluation.align import common_rows
from trainer.evaluation.eval_sets import EvalSets
from trainer.evaluation.ranked import rank_vectors
from trainer.evaluation.scores import score_sets
from trainer.models.store import Floats, Model
from trainer.retraining.config import RetrainConfig
from trainer.vectors.search import Ids, frequency_order, top_rows, unit_rows

NEIGHBORS = 10
LEAST_PAIRS = 3  # of which there is a rank correlation
_COMPARED_WORDS = 50_000  # neighbours are looked for among the most frequent of the common words
_BLOCK_WORDS = 256
_LIMITS = (
    "min_similarity", "min_analogies", "max_score_drop", "gate_words", "min_known_words", "min_overlap", "min_cosine",
    "min_token_ratio", "max_dead_letters",
)  # fmt: skip

#: Scores by kind and file.
Values: TypeAlias = dict[str, dict[str, float | None]]


class Check(msgspec.Struct):
    """One figure and its limit.

    Attributes:
        name: what was measured.
        found: the figure; None where it could not be measured, or is no number.
        limit: what it must reach, or must not exceed.
        at_least: which of the two.
        why: why it could not be measured.
        passed: whether it is inside its limit.
    """

    name: str
    found: float | None
    limit: float
    at_least: bool = True
    why: str = ""
    passed: bool = False

    def __post_init__(self) -> None:
        """Judge."""
        if self.found is None or not math.isfinite(self.found):
            self.found, self.why, self.passed = None, self.why or "not a number", False
        else:
            self.passed = self.found >= self.limit if self.at_least else self.found <= self.limit

    @property
    def bound(self) -> str:
        """The limit in words."""
        return f"at {'least' if self.at_least else 'most'} {self.limit:g}"

    @property
    def shown(self) -> str:
        """The figure in words."""
        return f"not measured ({self.why})" if self.found is None else f"{self.found:.4f}"

    def __str__(self) -> str:
        """Say it in the house's words."""
        found = self.shown if self.found is None else f"found {self.found:.4g}"
        return f"{self.name}: {found}, expected {self.bound}"


def gate_digest(own: RetrainConfig, sets: EvalSets, parent: str) -> str:
    """What the verdict on a version follows from: the limits, the files, the version that it is compared with."""
    limits = {name: getattr(own, name) for name in _LIMITS}
    return sha256_hex(canonical_json({"limits": limits, "files": sets.sha256, "parent": parent}))


class Measured(NamedTuple):
    """A score, None where too little could be scored; how many lines of the file were scored, and of how many."""

    value: float | None
    scored: int
    of: int


Scores = Mapping[str, Mapping[str, Measured]]


def require_measurable(sets: EvalSets) -> None:
    """Refuse files of pairs that no model can be measured on, before the night costs hours.

    Raises:
        UserError: the first such file.
    """
    for path, pairs in sets.similarity.items():
        if len(pairs) < LEAST_PAIRS or len({pair.score for pair in pairs}) < 2:
            raise UserError(
                f"--similarity {storage.redact(path)}: found {len(pairs)} pairs with {len({p.score for p in pairs})} "
                f"different scores, expected at least {LEAST_PAIRS} pairs with 2 different scores"
            )


def score(model: Model, sets: EvalSets) -> Scores:
    """Scores of a model by kind and file."""
    if not sets:
        return {}
    found = score_sets(rank_vectors(model), sets)
    return {
        "similarity": {path: Measured(one.spearman, one.scored, one.of) for path, one in found.similarity.items()},
        "analogies": {path: Measured(one.accuracy, one.questions, one.of) for path, one in found.analogies.items()},
    }


def values_of(scores: Scores) -> Values:
    """The scores alone, by kind and file: for lineage.json."""
    return {kind: {path: one.value for path, one in found.items()} for kind, found in scores.items()}


def check_scores(new: Scores, old: Scores, config: RetrainConfig) -> list[Check]:
    """Check a model's scores against the limits, and against those of the live version.

    A set that the live version could not be measured on has no drop: the new version's own score alone counts.
    """
    checks = []
    for kind, limit, unit in (
        ("similarity", config.min_similarity, "pairs"),
        ("analogies", config.min_analogies, "questions"),
    ):
        for path, found in new.get(kind, {}).items():
            why = f"{found.scored:,} of {found.of:,} {unit} have words that the model knows"
            checks.append(Check(f"{kind} {path}", found.value, limit, why=why if found.value is None else ""))
            before = old[kind][path].value if path in old.get(kind, {}) else None
            if before is not None and found.value is not None:
                drop = before - found.value
                checks.append(Check(f"{kind} {path}, drop from live", drop, config.max_score_drop, at_least=False))
    return checks


def check_corpus(corpus: CorpusTotals, live_tokens: int | None, config: RetrainConfig) -> list[Check]:
    """Check the text's size and what was set aside against the limits.

    Args:
        corpus: of the new dataset.
        live_tokens: tokens of the live version's dataset, where the two are to be compared.
        config: has the limits.
    """
    share = corpus.dead_letter_bytes / corpus.bytes if corpus.bytes else None
    why = "" if corpus.bytes else "the text has no bytes"
    checks = [Check("dead letters", share, config.max_dead_letters, at_least=False, why=why)]
    if live_tokens:
        checks.append(Check("tokens, as a share of live", corpus.tokens / live_tokens, config.min_token_ratio))
    return checks


def check_space(old: Model, new: Model, config: RetrainConfig) -> list[Check]:
    """Check where the live version's frequent words are now against where they were.

    The cosine is left out where the two have different numbers of dimensions: there is none.
    """
    frequent_N = frequency_order(old.vocabulary.counts)[: config.gate_words]
    known_N = new.vocabulary.encode(old.vocabulary.tokens)[frequent_N] >= 0
    known = float(known_N.mean()) if len(known_N) else None
    checks = [Check("known words", known, config.min_known_words, why="" if len(known_N) else "there are none")]
    old_C, new_C = common_rows(old, new, _COMPARED_WORDS)
    asked = min(int(known_N.sum()), len(old_C))
    if not asked or len(old_C) < 2:
        why = f"the two versions have {len(old_C)} words in common"
        figures = (("neighbour overlap", config.min_overlap), ("mean cosine", config.min_cosine))
        return checks + [Check(name, None, limit, why=why) for name, limit in figures]
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
