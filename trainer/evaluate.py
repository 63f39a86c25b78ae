"""Scores on word-similarity and analogy files.

Words are compared in lower case on both sides; of tokens that differ only in case the most frequent one counts.
Similarity is Spearman's rank correlation (equal values share their mean rank) of the file's scores and our cosines,
over the pairs whose two words are known. Analogies a : b :: c : d are answered by 3CosAdd (Mikolov et al. 2013): the
word other than a, b, c whose unit vector has the largest product with b − a + c, among the most frequent tokens;
questions with a word outside those are left out, and counted.

Shapes: V vocabulary rows, most frequent first; D dimensions, Q questions, N the most frequent tokens.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.errors import UserError
from trainer.evalsets import Pair, Question, read_evalsets
from trainer.store import Floats, Model, load_model
from trainer.vectors import add_model_arguments, frequency_order, pick_table, unit_rows

_BLOCK_QUESTIONS = 512


@dataclass(frozen=True, eq=False)
class RankedVectors:
    """Unit vectors in order of frequency.

    Attributes:
        unit_VD: float32, rows of length 1.
        rows: row by lower-cased token, the most frequent where several are equal.
    """

    unit_VD: Floats
    rows: dict[str, int]

    def find(self, words: Sequence[str]) -> list[int | None]:
        """Return the rows of words, None for unknown ones."""
        return [self.rows.get(word.lower()) for word in words]


def rank_vectors(model: Model, vectors: str = "input") -> RankedVectors:
    """Prepare a model's vectors for scoring."""
    order_V = frequency_order(model.vocabulary.counts)
    rows: dict[str, int] = {}
    tokens = model.vocabulary.tokens
    for row, token_id in enumerate(order_V.tolist()):
        rows.setdefault(tokens[token_id].lower(), row)
    return RankedVectors(unit_rows(pick_table(model, vectors)[order_V]), rows)


def mean_ranks(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return each value's rank from 0; equal values share the mean of theirs."""
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") - 1) / 2


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the rank correlation; 0.0 where there is none: fewer than three pairs, or one side all equal."""
    if len(first) < 3:
        return 0.0
    ranks = mean_ranks(np.array(first)), mean_ranks(np.array(second))
    if min(np.ptp(ranks[0]), np.ptp(ranks[1])) == 0:
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def score_similarity(pairs: Sequence[Pair], vectors: RankedVectors) -> dict[str, Any]:
    """Return `spearman`, `pairs` scored, `of` all, and how many different words were `unknown_words`."""
    gold, ours = [], []
    for pair in pairs:
        i, j = vectors.find((pair.first, pair.second))
        if i is not None and j is not None:
            gold.append(pair.score)
            ours.append(float(vectors.unit_VD[i] @ vectors.unit_VD[j]))
    unknown = _unknown_words([word for pair in pairs for word in (pair.first, pair.second)], vectors)
    return {"spearman": spearman(gold, ours), "pairs": len(gold), "of": len(pairs), "unknown_words": unknown}


def answer_analogies(questions_Q4: npt.NDArray[np.int64], unit_ND: Floats) -> npt.NDArray[np.int64]:
    """Return each question's answer among the rows of ``unit_ND``, int64 [Q]."""
    answers_Q = np.empty(len(questions_Q4), np.int64)
    for start in range(0, len(questions_Q4), _BLOCK_QUESTIONS):
        a, b, c, _ = questions_Q4[start : start + _BLOCK_QUESTIONS].T
        scores = (unit_ND[b] - unit_ND[a] + unit_ND[c]) @ unit_ND.T
        for asked in (a, b, c):
            scores[np.arange(len(scores)), asked] = -np.inf
        answers_Q[start : start + _BLOCK_QUESTIONS] = scores.argmax(axis=1)
    return answers_Q


def score_analogies(questions: Sequence[Question], vectors: RankedVectors, limit: int = 30_000) -> dict[str, Any]:
    """Score questions among the ``limit`` most frequent tokens.

    Returns:
        `accuracy`, `questions` answered, `of` all, `unknown_words`; the same three for `semantic`, `syntactic`
        (Google's sections whose names start with "gram") and, in `sections`, by section in the file's order.
    """
    rows = [vectors.find(question.words) for question in questions]
    known = [i for i, found in enumerate(rows) if all(row is not None and row < limit for row in found)]
    questions_Q4 = np.array([rows[i] for i in known], np.int64).reshape(-1, 4)
    right = np.full(len(questions), -1)  # -1: not answered
    right[known] = answer_analogies(questions_Q4, vectors.unit_VD[:limit]) == questions_Q4[:, 3]
    names = np.array([question.section for question in questions], np.str_)
    syntactic = np.char.startswith(names, "gram") if len(names) else np.zeros(0, bool)
    unknown = _unknown_words([word for question in questions for word in question.words], vectors, limit)
    sections = dict.fromkeys(question.section for question in questions)
    return _accuracy(right) | {
        "unknown_words": unknown,
        "semantic": _accuracy(right[~syntactic]),
        "syntactic": _accuracy(right[syntactic]),
        "sections": {name: _accuracy(right[names == name]) for name in sections},
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``evaluate``."""
    add_model_arguments(parser)
    parser.add_argument("--similarity", action="append", default=[], metavar="FILE", help="lines: word word score")
    parser.add_argument("--analogies", action="append", default=[], metavar="FILE", help="Google's question format")
    parser.add_argument("--version", metavar="ID", help="a version of the model (the current one)")
    parser.add_argument(
        "--analogy-vocab", type=int, default=30_000, metavar="N",
        help="ask only about, and answer only with, the N most frequent tokens (%(default)s)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Score the files and print the result.

    Raises:
        UserError: no file given or found, or a wrong number.
        FormatError: a damaged model, or a line that cannot be read.
    """
    if not args.similarity and not args.analogies:
        raise UserError("evaluate: found neither --similarity nor --analogies, expected at least one file")
    if args.analogy_vocab < 1:
        raise UserError(f"--analogy-vocab: found {args.analogy_vocab}, expected at least 1")
    sets = read_evalsets(args.similarity, args.analogies)
    vectors = rank_vectors(load_model(args.model, args.version), args.vectors)
    result = {
        "vectors": args.vectors,
        "tokens": len(vectors.unit_VD),
        "dim": vectors.unit_VD.shape[1],
        "similarity": [{"file": path} | score_similarity(pairs, vectors) for path, pairs in sets.similarity.items()],
        "analogies": [
            {"file": path} | score_analogies(asked, vectors, args.analogy_vocab)
            for path, asked in sets.analogies.items()
        ],
    }
    print(json.dumps(_rounded(result)) if args.json else describe(result))
    return 0


def describe(result: dict[str, Any]) -> str:
    """Format the result for people."""
    lines = [f"{result['tokens']:,} tokens, {result['dim']} dimensions, {result['vectors']} vectors"]
    for score in result["similarity"]:
        lines.append(f"{score['file']}: similarity")
        lines.append(
            f"  Spearman {score['spearman']:.4f} over {score['pairs']:,} of {score['of']:,} pairs; "
            f"{score['unknown_words']:,} unknown words"
        )
    for score in result["analogies"]:
        groups = {"total": score, "semantic": score["semantic"], "syntactic": score["syntactic"]} | score["sections"]
        width = max(map(len, groups))
        lines.append(f"{score['file']}: analogies; {score['unknown_words']:,} unknown words")
        lines += [
            f"  {name:<{width}}  {group['accuracy']:.4f}  {group['questions']:,} of {group['of']:,} questions answered"
            for name, group in groups.items()
        ]
    return "\n".join(lines)


def _unknown_words(words: Sequence[str], vectors: RankedVectors, limit: int | None = None) -> int:
    bound = len(vectors.unit_VD) if limit is None else limit
    return sum(vectors.rows.get(word, bound) >= bound for word in {word.lower() for word in words})


def _accuracy(right: npt.NDArray[Any]) -> dict[str, Any]:
    answered = int((right >= 0).sum())
    return {"accuracy": float((right > 0).sum() / max(1, answered)), "questions": answered, "of": len(right)}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value
