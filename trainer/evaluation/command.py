"""Scores on word-similarity and analogy files.

Words are compared in composed form (NFC) and lower case on both sides; of tokens that are then equal the most frequent
one counts. Similarity is Spearman's rank correlation (equal values share their mean rank) of the file's scores and our
cosines, over the pairs whose two words are known. Analogies a : b :: c : d are answered by 3CosAdd (Mikolov et al.
2013): the word whose unit vector has the largest product with b − a + c, among the most frequent tokens, other than
a, b, c and what equals them; questions with a word outside of those tokens are left out, and counted.

Shapes: V vocabulary rows, most frequent first; D dimensions, Q questions, N the most frequent tokens.
"""

from __future__ import annotations

import argparse
import json
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.dataset.schema import FormatError
from pipeline.dataset.vocabulary import Vocabulary
from trainer.evaluation.eval_sets import Pair, Question, read_evalsets
from trainer.models.mapped import map_model
from trainer.models.store import Floats, Model
from trainer.vectors.search import Ids, add_model_arguments, frequency_order, pick_tables, unit_rows

_BLOCK_QUESTIONS = 512

Fold = Callable[[str], str]


@dataclass(frozen=True, eq=False)
class RankedVectors:
    """A model's tokens in order of frequency; vectors are read from its tables as they are asked for.

    Attributes:
        tables: the table that is scored, or the two whose mean is, rows in id order.
        order_V: ids, most frequent first.
        rows: place by frequency of a folded token, the most frequent where several are equal.
        fold: makes words equal that are to be taken for one.
        first_V: for each place that of the most frequent token that is equal to it.
    """

    tables: tuple[Floats, ...]
    order_V: Ids
    rows: dict[str, int]
    fold: Fold
    first_V: Ids

    def find(self, words: Sequence[str]) -> list[int | None]:
        """Return the places of words, None for unknown ones."""
        return [self.find_word(word) for word in words]

    def find_word(self, word: str) -> int | None:
        """Return a word's place, as it is folded, or with compatibility characters replaced too (NFKC)."""
        row = self.rows.get(self.fold(word))
        return row if row is not None else self.rows.get(self.fold(unicodedata.normalize("NFKC", word)))

    def unit(self, places: Sequence[int] | Ids) -> Floats:
        """Return vectors scaled to length 1, float32.

        Raises:
            FormatError: they hold NaN or Inf.
        """
        ids = self.order_V[np.asarray(places, np.int64)]
        rows_ND = self.tables[0][ids]
        for other in self.tables[1:]:
            rows_ND = (rows_ND + other[ids]) * np.float32(0.5)
        if not np.isfinite(rows_ND).all():
            raise FormatError("found NaN or Inf in the model's vectors, expected finite numbers")
        return unit_rows(rows_ND)


def fold_case(word: str) -> str:
    """Compose a word (NFC) and put it into lower case."""
    return word.lower() if word.isascii() else _composed(_composed(word).lower())


def fold_upper(word: str) -> str:
    """Compose a word (NFC) and put it into upper case, as gensim compares words."""
    return word.upper() if word.isascii() else _composed(_composed(word).upper())


def compose(word: str) -> str:
    """Compose a word (NFC) and leave its case."""
    return word if word.isascii() else _composed(word)


def rank_vectors(model: Model, vectors: str = "input") -> RankedVectors:
    """Prepare a model's vectors for scoring."""
    return rank_tables(pick_tables(model, vectors), model.vocabulary)


def rank_tables(
    tables: tuple[Floats, ...], vocabulary: Vocabulary, fold: Fold = fold_case, limit: int | None = None
) -> RankedVectors:
    """Prepare tables for scoring, with the ``limit`` most frequent tokens alone if there is one."""
    order_V = frequency_order(vocabulary.counts)[:limit]
    rows: dict[str, int] = {}
    first_V = np.empty(len(order_V), np.int64)
    tokens = vocabulary.tokens
    for place, token_id in enumerate(order_V.tolist()):
        first_V[place] = rows.setdefault(fold(tokens[token_id]), place)
    return RankedVectors(tables, order_V, rows, fold, first_V)


def mean_ranks(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
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


def score_similarity(pairs: Sequence[Pair], vectors: RankedVectors) -> dict[str, Any]:
    """Return `spearman`, `pairs` scored, `skipped` and `of` all, and how many different words were `unknown_words`."""
    known, cosines_N = known_pairs(pairs, vectors)
    unknown = _unknown_words([word for pair in pairs for word in (pair.first, pair.second)], vectors)
    return {
        "spearman": spearman([pairs[i].score for i in known], cosines_N.tolist()),
        "pairs": len(known),
        "skipped": len(pairs) - len(known),
        "of": len(pairs),
        "unknown_words": unknown,
    }


def known_pairs(pairs: Sequence[Pair], vectors: RankedVectors) -> tuple[list[int], Floats]:
    """Return which pairs have two known words, and the cosines of those, float32."""
    rows = [vectors.find((pair.first, pair.second)) for pair in pairs]
    known = [i for i, found in enumerate(rows) if None not in found]
    places_N2 = np.array([rows[i] for i in known], np.int64).reshape(-1, 2)
    cosines_N: Floats = np.einsum("nd,nd->n", vectors.unit(places_N2[:, 0]), vectors.unit(places_N2[:, 1]))
    return known, cosines_N


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


def score_analogies(questions: Sequence[Question], vectors: RankedVectors, limit: int = 30_000) -> dict[str, Any]:
    """Score questions among the ``limit`` most frequent tokens.

    Returns:
        `accuracy` (None where no question was answered), `questions` answered, `skipped` and `of` all, `unknown_words`;
        the same without the last for `semantic`, `syntactic` (Google's sections whose names start with "gram") and, in
        `sections`, by section in the file's order.
    """
    right = check_analogies(questions, vectors, limit)
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
    parser.set_defaults(refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Score the files and print the result; wrong usage exits 2.

    Raises:
        UserError: a file that is not there.
        FormatError: a damaged model, or a line that cannot be read.
    """
    if not args.similarity and not args.analogies:
        args.refuse("evaluate: found neither --similarity nor --analogies, expected at least one file")
    if args.analogy_vocab < 1:
        args.refuse(f"--analogy-vocab: found {args.analogy_vocab}, expected at least 1")
    sets = read_evalsets(args.similarity, args.analogies)
    vectors = rank_vectors(map_model(args.model, args.version), args.vectors)
    result = {
        "vectors": args.vectors,
        "tokens": len(vectors.order_V),
        "dim": vectors.tables[0].shape[1],
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
        lines.append(f"  {_correlation(score)} over {_share(score, 'pairs')}; {score['unknown_words']:,} unknown words")
    for score in result["analogies"]:
        groups = {"total": score, "semantic": score["semantic"], "syntactic": score["syntactic"]} | score["sections"]
        width = max(map(len, groups))
        lines.append(f"{score['file']}: analogies; {score['unknown_words']:,} unknown words")
        for name, group in groups.items():
            accuracy = "  none" if group["accuracy"] is None else f"{group['accuracy']:.4f}"
            lines.append(f"  {name:<{width}}  {accuracy}  {_share(group, 'questions')}")
    return "\n".join(lines)


def _correlation(score: dict[str, Any]) -> str:
    if score["spearman"] is not None:
        return f"Spearman {score['spearman']:.4f}"
    reason = "fewer than 3 pairs are known" if score["pairs"] < 3 else "all scores or all cosines are equal"
    return f"no correlation ({reason})"


def _share(score: dict[str, Any], what: str) -> str:
    verb = "answered" if what == "questions" else "known"
    return f"{score[what]:,} of {score['of']:,} {what} {verb}, {score['skipped']:,} skipped"


def _is_asked(best_Q: Ids, asked_3Q: Ids, first_N: Ids) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = (first_N[best_Q] == first_N[asked_3Q]).any(axis=0)
    return found


def _unknown_words(words: Iterable[str], vectors: RankedVectors, limit: int | None = None) -> int:
    bound = len(vectors.order_V) if limit is None else limit
    rows = [vectors.find_word(word) for word in {vectors.fold(word) for word in words}]
    return sum(row is None or row >= bound for row in rows)


def _accuracy(right: npt.NDArray[Any]) -> dict[str, Any]:
    answered = int((right >= 0).sum())
    accuracy = float((right > 0).sum() / answered) if answered else None
    return {"accuracy": accuracy, "questions": answered, "skipped": len(right) - answered, "of": len(right)}


def _composed(word: str) -> str:
    return unicodedata.normalize("NFC", word)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value
