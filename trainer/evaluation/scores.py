"""Scores on word-similarity and analogy files.

Words are compared in composed form (NFC) and lower case on both sides; of tokens that are then equal the most frequent
one counts. Similarity is Spearman's rank correlation (equal values share their mean rank) of the file's scores and our
cosines, over the pairs whose two words are known, or have n-grams in a model with subwords. Analogies a : b :: c : d
are answered by 3CosAdd (Mikolov et al. 2013): the word whose unit vector has the largest product with b − a + c, among
the most frequent tokens, other than a, b, c and what equals them; questions with a word outside of those tokens are
left out, and counted.

Shapes: D dimensions, Q questions, N the most frequent tokens.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from pipeline.storage import storage
from trainer.evaluation.eval_sets import EvalSets, Pair, Question
from trainer.evaluation.ranked import RankedVectors, rank_vectors
from trainer.models.store import Floats, Model
from trainer.vectors.search import Ids

ANALOGY_WORDS = 30_000  # questions are about, and answers among, so many of the most frequent tokens
_BLOCK_QUESTIONS = 512


def mean_ranks(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Return each value's rank from 0; equal values share the mean of theirs."""
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") - 1) / 2


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the rank correlation; None where there is none: fewer than three pairs, or one side all equal."""
    if len(first) < 3:
        return None
    ranks = mean_ranks(np.array(first)), mean_ranks(np.array(second))
    if min(np.ptp(ranks[0]), np.ptp(ranks[1])) == 0:
        return None
    return float(np.corrcoef(*ranks)[0, 1])


@dataclass(frozen=True)
class Similarity:
    """What pairs were scored, and how many different words of them are not known.

    Attributes:
        spearman: over ``pairs`` and ``oov``.
        pairs: of two known words.
        oov: with an unknown word, scored by n-grams.
        skipped: with an unknown word, not scored.
        of: all pairs.
        unknown_words: of all pairs.
    """

    spearman: float | None
    pairs: int
    skipped: int
    of: int
    unknown_words: int
    oov: int = 0

    @property
    def scored(self) -> int:
        return self.pairs + self.oov


@dataclass(frozen=True)
class Accuracy:
    """The share of right answers, None where no question was answered, and how many questions there were."""

    accuracy: float | None
    questions: int
    skipped: int
    of: int


@dataclass(frozen=True)
class Analogies(Accuracy):
    """The same by kind (Google's sections whose names start with "gram" are syntactic) and section, in their order."""

    unknown_words: int
    semantic: Accuracy
    syntactic: Accuracy
    sections: dict[str, Accuracy]


@dataclass(frozen=True)
class SetScores:
    similarity: dict[str, Similarity]
    analogies: dict[str, Analogies]


def score_sets(vectors: RankedVectors, sets: EvalSets, limit: int = ANALOGY_WORDS) -> SetScores:
    """Score vectors on every file, on analogies among the ``limit`` most frequent tokens."""
    return SetScores(
        {path: score_similarity(pairs, vectors) for path, pairs in sets.similarity.items()},
        {path: score_analogies(asked, vectors, limit) for path, asked in sets.analogies.items()},
    )


def score_similarity(pairs: Sequence[Pair], vectors: RankedVectors) -> Similarity:
    known, cosines_N = known_pairs(pairs, vectors)
    unknown = _unknown_words([word for pair in pairs for word in (pair.first, pair.second)], vectors)
    unseen = _unseen_pairs(pairs, {*known}, vectors)
    gold = [pairs[i].score for i in (*known, *unseen)]
    rho = spearman(gold, [*cosines_N.tolist(), *unseen.values()])
    skipped = len(pairs) - len(known) - len(unseen)
    return Similarity(rho, len(known), skipped, len(pairs), unknown, len(unseen))


def known_pairs(pairs: Sequence[Pair], vectors: RankedVectors) -> tuple[list[int], Floats]:
    """Return which pairs have two known words, and the cosines of those, float32."""
    rows = [vectors.find((pair.first, pair.second)) for pair in pairs]
    known = [i for i, found in enumerate(rows) if None not in found]
    places_N2 = np.array([rows[i] for i in known], np.int64).reshape(-1, 2)
    cosines_N: Floats = np.einsum("nd,nd->n", vectors.unit(places_N2[:, 0]), vectors.unit(places_N2[:, 1]))
    return known, cosines_N


def _unseen_pairs(pairs: Sequence[Pair], known: set[int], vectors: RankedVectors) -> dict[int, float]:
    """Return the cosines of the pairs that are not known, yet whose words both have a vector, by number."""
    found = dict[int, float]()
    for i, pair in enumerate(pairs if vectors.unseen is not None else ()):
        if i not in known:
            first_D, second_D = vectors.unit_of(pair.first), vectors.unit_of(pair.second)
            if first_D is not None and second_D is not None:
                found[i] = float(first_D @ second_D)
    return found


def answer_analogies(questions_Q4: Ids, unit_ND: Floats, first_N: Ids) -> Ids:
    """Return each question's answer among the rows of ``unit_ND``, int64 [Q]; −1 where there is none.

    Args:
        questions_Q4: rows of a, b, c, d.
        unit_ND: vectors of length 1.
        first_N: rows with equal numbers are spellings of one word: of a, b and c none is an answer.
    """
    answers_Q = np.empty(len(questions_Q4), np.int64)
    for start in range(0, len(questions_Q4), _BLOCK_QUESTIONS):
        asked_3Q = questions_Q4[start : start + _BLOCK_QUESTIONS, :3].T
        a, b, c = asked_3Q
        scores = (unit_ND[b] - unit_ND[a] + unit_ND[c]) @ unit_ND.T
        all_Q = np.arange(len(scores))
        for asked in asked_3Q:
            scores[all_Q, asked] = -np.inf
        best_Q = scores.argmax(axis=1)
        while (again_Q := all_Q[_is_asked(best_Q, asked_3Q, first_N) & (scores[all_Q, best_Q] > -np.inf)]).size:
            scores[again_Q, best_Q[again_Q]] = -np.inf
            best_Q = scores.argmax(axis=1)
        answers_Q[start : start + _BLOCK_QUESTIONS] = np.where(scores[all_Q, best_Q] > -np.inf, best_Q, -1)
    return answers_Q


def check_analogies(questions: Sequence[Question], vectors: RankedVectors, limit: int | None = None) -> Ids:
    """Return for each question 1 for the right answer, 0 for a wrong one, −1 where a word is not known, int64 [Q].

    Known are the ``limit`` most frequent tokens. The answer is right where it equals d once both are folded.
    """
    first_N = vectors.first_V[:limit]
    rows = [vectors.find(question.words) for question in questions]
    known = [i for i, found in enumerate(rows) if all(row is not None and row < len(first_N) for row in found)]
    questions_Q4 = np.array([rows[i] for i in known], np.int64).reshape(-1, 4)
    right = np.full(len(questions), -1)
    if known:
        answers_Q = answer_analogies(questions_Q4, vectors.unit(np.arange(len(first_N))), first_N)
        right[known] = (answers_Q >= 0) & (first_N[answers_Q] == questions_Q4[:, 3])
    return right


def score_analogies(questions: Sequence[Question], vectors: RankedVectors, limit: int = ANALOGY_WORDS) -> Analogies:
    right = check_analogies(questions, vectors, limit)
    names = np.array([question.section for question in questions], np.str_)
    syntactic = np.char.startswith(names, "gram") if len(names) else np.zeros(0, bool)
    unknown = _unknown_words([word for question in questions for word in question.words], vectors, limit)
    sections = dict.fromkeys(question.section for question in questions)
    return Analogies(
        **asdict(_accuracy(right)), unknown_words=unknown,
        semantic=_accuracy(right[~syntactic]), syntactic=_accuracy(right[syntactic]),
        sections={name: _accuracy(right[names == name]) for name in sections},
    )  # fmt: skip


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
    found, scores = score_sets(rank_vectors(model), sets), []
    for path, pairs in found.similarity.items():
        scores.append(Score(set_name(path), "Spearman’s ρ", pairs.spearman, pairs.scored, pairs.of))
    for path, asked in found.analogies.items():
        parts = asked.sections if len(asked.sections) > 1 else {}
        for part, one in {"": asked, **parts}.items():
            name = part or set_name(path)
            scores.append(Score(name, "accuracy", one.accuracy, one.questions, one.of, part=bool(part)))
    return scores


def set_name(path: str) -> str:
    """Call a set by its file's name, without folder and ending."""
    return os.path.splitext(storage.redact(path).rstrip("/").rpartition("/")[2])[0] or path


def _is_asked(best_Q: Ids, asked_3Q: Ids, first_N: Ids) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = (first_N[best_Q] == first_N[asked_3Q]).any(axis=0)
    return found


def _unknown_words(words: Iterable[str], vectors: RankedVectors, limit: int | None = None) -> int:
    bound = len(vectors.order_V) if limit is None else limit
    rows = [vectors.find_word(word) for word in {vectors.fold(word) for word in words}]
    return sum(row is None or row >= bound for row in rows)


def _accuracy(right: Ids) -> Accuracy:
    answered = int((right >= 0).sum())
    accuracy = float((right > 0).sum() / answered) if answered else None
    return Accuracy(accuracy, answered, len(right) - answered, len(right))
