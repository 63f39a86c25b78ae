"""What models score on evaluation sets: for reports."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.storage import storage
from trainer.evaluation.command import RankedVectors, rank_vectors, score_analogies, score_similarity
from trainer.evaluation.eval_sets import EvalSets, Pair, Question
from trainer.models.store import Model


@dataclass(frozen=True)
class Score:
    """What a model scores on one set.

    Attributes:
        name: of the set.
        measure: Spearman's ρ, or accuracy.
        value: from −1 or 0 to 1; None where too little could be scored.
        scored: lines that could be scored.
        of: all lines.
        part: it is a section of the set before it.
    """

    name: str
    measure: str
    value: float | None
    scored: int
    of: int
    part: bool = False


def score_model(model: Model, sets: EvalSets) -> list[Score]:
    """Score a model's input vectors on every set, and on the sections of analogy files."""
    if not sets:
        return []
    vectors = rank_vectors(model)
    return [
        *(_similarity(set_name(path), pairs, vectors) for path, pairs in sets.similarity.items()),
        *(one for path, asked in sets.analogies.items() for one in _analogies(set_name(path), asked, vectors)),
    ]


def set_name(path: str) -> str:
    """Call a set by its file's name, without folder and ending."""
    return os.path.splitext(storage.redact(path).rstrip("/").rpartition("/")[2])[0] or path


def _similarity(name: str, pairs: Sequence[Pair], vectors: RankedVectors) -> Score:
    found = score_similarity(pairs, vectors)
    return Score(name, "Spearman’s ρ", found["spearman"], found["pairs"], found["of"])


def _analogies(name: str, questions: Sequence[Question], vectors: RankedVectors) -> list[Score]:
    found = score_analogies(questions, vectors)

    def score(part: str, one: dict[str, Any]) -> Score:
        return Score(part or name, "accuracy", one["accuracy"], one["questions"], one["of"], part=bool(part))

    sections = found["sections"] if len(found["sections"]) > 1 else {}
    return [score("", found), *(score(section, one) for section, one in sections.items())]
