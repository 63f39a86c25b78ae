"""Scores on word-similarity and analogy files."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TypeVar

from trainer.evaluation.eval_sets import read_evalsets
from trainer.evaluation.ranked import rank_vectors
from trainer.evaluation.scores import ANALOGY_WORDS, Accuracy, SetScores, Similarity, score_sets
from trainer.models.mapped import map_model
from trainer.vectors.search import add_model_arguments

T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    parser.add_argument("--similarity", action="append", default=[], metavar="FILE", help="lines: word word score")
    parser.add_argument("--analogies", action="append", default=[], metavar="FILE", help="Google's question format")
    parser.add_argument("--version", metavar="ID", help="a version of the model (the current one)")
    parser.add_argument(
        "--analogy-vocab", type=int, default=ANALOGY_WORDS, metavar="N",
        help="ask only about, and answer only with, the N most frequent tokens (%(default)s)",
    )  # fmt: skip
    parser.set_defaults(refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Score the files and print the result; wrong usage exits 2."""
    if not args.similarity and not args.analogies:
        args.refuse("evaluate: found neither --similarity nor --analogies, expected at least one file")
    if args.analogy_vocab < 1:
        args.refuse(f"--analogy-vocab: found {args.analogy_vocab}, expected at least 1")
    sets = read_evalsets(args.similarity, args.analogies)
    vectors = rank_vectors(map_model(args.model, args.version), args.vectors)
    found = score_sets(vectors, sets, args.analogy_vocab)
    tokens, dim = len(vectors.order_V), vectors.tables[0].shape[1]
    if args.json:
        by_kind = {
            kind: [{"file": path, **asdict(one)} for path, one in scored.items()]
            for kind, scored in (("similarity", found.similarity), ("analogies", found.analogies))
        }
        print(json.dumps(_rounded({"vectors": args.vectors, "tokens": tokens, "dim": dim, **by_kind})))
    else:
        print(f"{tokens:,} tokens, {dim} dimensions, {args.vectors} vectors\n{describe(found)}")
    return 0


def describe(found: SetScores) -> str:
    lines = []
    for path, pairs in found.similarity.items():
        by_ngrams = f", {pairs.oov:,} scored by n-grams" if pairs.oov else ""
        known = f"{pairs.pairs:,} of {pairs.of:,} pairs known{by_ngrams}, {pairs.skipped:,} skipped"
        lines.append(f"{path}: similarity")
        lines.append(f"  {_correlation(pairs)} over {known}; {pairs.unknown_words:,} unknown words")
    for path, asked in found.analogies.items():
        groups = {"total": asked, "semantic": asked.semantic, "syntactic": asked.syntactic, **asked.sections}
        width = max(map(len, groups))
        lines.append(f"{path}: analogies; {asked.unknown_words:,} unknown words")
        lines += [f"  {name:<{width}}  {_share(group)}" for name, group in groups.items()]
    return "\n".join(lines)


def _correlation(found: Similarity) -> str:
    if found.spearman is not None:
        return f"Spearman {found.spearman:.4f}"
    reason = "fewer than 3 pairs are known" if found.scored < 3 else "all scores or all cosines are equal"
    return f"no correlation ({reason})"


def _share(found: Accuracy) -> str:
    accuracy = "  none" if found.accuracy is None else f"{found.accuracy:.4f}"
    return f"{accuracy}  {found.questions:,} of {found.of:,} questions answered, {found.skipped:,} skipped"


def _rounded(value: T) -> T:
    """Round all floats of a JSON value to four places."""
    return json.loads(json.dumps(value), parse_float=lambda text: round(float(text), 4))  # type: ignore[no-any-return]
