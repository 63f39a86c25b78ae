"""gensim's evaluations of vectors: word pairs, analogies, and the distance of two texts.

Shapes: N pairs, D dimensions.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias, TypedDict

import numpy as np

from trainer.evaluation.eval_sets import parse_analogies, parse_similarity, read_text
from trainer.evaluation.ranked import RankedVectors, compose, fold_upper, rank_tables
from trainer.evaluation.scores import check_analogies, known_pairs
from trainer.keyed_vectors.similarity import Similarities
from trainer.vectors.arguments import Key, as_uri, require_keys, require_size, unit

logger = logging.getLogger(__name__)

Correlation: TypeAlias = Sequence[float]  # SciPy's result: the coefficient, its p-value


class Section(TypedDict):
    """What became of the questions of a section."""

    section: str
    correct: list[tuple[str, ...]]
    incorrect: list[tuple[str, ...]]


class WordTests(Similarities):
    """What is asked of files of judgements, and of texts."""

    def evaluate_word_pairs(
        self, pairs: str | os.PathLike[str], delimiter: str = "\t", encoding: str = "utf8",
        restrict_vocab: int | None = 300_000, case_insensitive: bool = True, dummy4unknown: bool = False,
    ) -> tuple[Correlation, Correlation, float]:  # fmt: skip
        """Score word similarity; it needs SciPy.

        Args:
            pairs: a file of `word word score` lines: a path or a URI.
            delimiter: what separates columns, if neither tabs, commas nor spaces.
            encoding: of the file.
            restrict_vocab: only the so many most frequent tokens are known.
            case_insensitive: compare words in upper case; of several equal tokens, take the most frequent.
            dummy4unknown: score pairs with unknown words 0 instead of leaving them out.

        Returns:
            Pearson's and Spearman's correlation, each with its p-value, and the percentage of pairs with unknown words.
        """
        from scipy import stats

        path = as_uri(pairs)
        asked = parse_similarity(read_text(path, encoding), path, None if delimiter == "\t" else delimiter)
        known, found_N = known_pairs(asked, self._ranked("evaluate_word_pairs", restrict_vocab, case_insensitive))
        cosines = np.zeros(len(asked))
        cosines[known] = found_N
        scored = range(len(asked)) if dummy4unknown else known
        if not scored:
            raise ValueError(f"{path}: no pair whose words are both in the vocabulary")
        gold, ours = [asked[i].score for i in scored], [float(cosines[i]) for i in scored]
        unknown = 100.0 * (len(asked) - len(known)) / len(asked)
        pearson, spearman = stats.pearsonr(gold, ours), stats.spearmanr(gold, ours)
        self.log_evaluate_word_pairs(pearson, spearman, unknown, path)
        return pearson, spearman, unknown

    def evaluate_word_analogies(
        self, analogies: str | os.PathLike[str], restrict_vocab: int | None = 300_000, case_insensitive: bool = True,
        dummy4unknown: bool = False, similarity_function: str = "most_similar",
    ) -> tuple[float, list[Section]]:  # fmt: skip
        """Answer analogies by 3CosAdd.

        Args:
            analogies: a file in Google's format: a path or a URI.
            restrict_vocab: only the so many most frequent tokens are known, and are answers.
            case_insensitive: compare words in upper case; of several equal tokens, take the most frequent.
            dummy4unknown: count questions with unknown words as wrong instead of leaving them out.
            similarity_function: `most_similar` is the only one.

        Returns:
            The share of right answers, and for each section and for all a dictionary with `section`, `correct` and
            `incorrect`, lists of questions.
        """
        if similarity_function != "most_similar":
            raise ValueError(f"similarity_function: found {similarity_function!r}, expected 'most_similar'")
        path = as_uri(analogies)
        questions = parse_analogies(read_text(path), path)
        ranked = self._ranked("evaluate_word_analogies", restrict_vocab, case_insensitive)
        right = check_analogies(questions, ranked)
        if dummy4unknown:
            right = np.maximum(right, 0)
        if not (right >= 0).any():
            raise ValueError(f"{path}: no question whose words are all in the vocabulary")
        sections: dict[str, Section] = {}
        for one in questions:
            sections.setdefault(one.section, {"section": one.section, "correct": [], "incorrect": []})
        total: Section = {"section": "Total accuracy", "correct": [], "incorrect": []}
        for question, answer in zip(questions, right.tolist(), strict=True):
            words = tuple(map(str.upper, question.words)) if case_insensitive else question.words
            for section in (sections[question.section], total):
                if answer >= 0:
                    (section["correct"] if answer else section["incorrect"]).append(words)
        for section in (*sections.values(), total):
            self.log_accuracy(section)
        return len(total["correct"]) / int((right >= 0).sum()), [*sections.values(), total]

    def wmdistance(self, document1: Sequence[Key], document2: Sequence[Key], norm: bool = True) -> float:
        """Return the Word Mover's Distance (Kusner et al. 2015) of two texts, each a list of tokens; it needs POT.

        Unknown words are left out. As in gensim, the distance is Inf where a text has no other, or where no two
        different words have different vectors. ``norm`` scales vectors to length 1 first.
        """
        from ot import emd2

        texts = [require_keys("wmdistance", text) for text in (document1, document2)]
        rows_of = [[(self._find(key), key) for key in text if key in self] for text in texts]
        counts = [Counter(key if row is None else row for row, key in text) for text in rows_of]
        if not all(counts):
            return float("inf")
        rows = sorted({*counts[0], *counts[1]}, key=lambda key: (isinstance(key, str), key))
        if len(rows) == 1:
            return 0.0
        vectors_ND = np.array([unit(row_D) if norm else row_D for row_D in self._rows(rows)], np.float64)
        distances_NN = np.sqrt(((vectors_ND[:, None] - vectors_ND[None]) ** 2).sum(axis=2))
        weights = [np.array([count[row] for row in rows], np.float64) / count.total() for count in counts]
        distances_NN[weights[0] == 0] = 0  # as gensim hands them over; they carry no weight
        distances_NN[:, weights[1] == 0] = 0
        return float("inf") if distances_NN.sum() < 1e-8 else float(emd2(*weights, distances_NN))

    @staticmethod
    def log_accuracy(section: Section) -> None:
        right, wrong = len(section["correct"]), len(section["incorrect"])
        if right + wrong:
            share = 100.0 * right / (right + wrong)
            logger.info("%s: %.1f%% (%i/%i)", section["section"], share, right, right + wrong)

    @staticmethod
    def log_evaluate_word_pairs(pearson: Correlation, spearman: Correlation, oov: float, pairs: str) -> None:
        logger.info("Pearson correlation coefficient against %s: %.4f", pairs, pearson[0])
        logger.info("Spearman rank-order correlation coefficient against %s: %.4f", pairs, spearman[0])
        logger.info("Pairs with unknown words ratio: %.1f%%", oov)

    def _ranked(self, name: str, restrict_vocab: int | None, case_insensitive: bool) -> RankedVectors:
        limit = None if restrict_vocab is None else require_size(f"{name}: restrict_vocab", restrict_vocab, 1)
        return rank_tables((self.vectors,), self.vocabulary, fold_upper if case_insensitive else compose, limit)
