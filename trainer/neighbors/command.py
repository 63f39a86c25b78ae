"""The tokens whose vectors point most nearly the same way as a word's: largest cosine first.

Each WORD has a list of its own, without itself. It is a word or an expression of words, as in "king - man + woman",
whose signs are between spaces; the unit vectors of the words are added up. A word is taken as it is written or,
where the vocabulary has no such token, composed (NFC), then in lower case, then with compatibility characters replaced
(NFKC). A model with subwords answers for any other word by its n-grams, and says so.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, cast

import numpy as np

from pipeline.common.flags import parse_size
from pipeline.dataset.vocabulary import Vocabulary
from trainer.errors import UserError
from trainer.keyed_vectors.vectors import Vectors, load
from trainer.neighbors.expressions import SIGNS, parse_expression
from trainer.neighbors.prompt import at_terminal, converse
from trainer.vectors.arguments import Key
from trainer.vectors.display import Answer, Entry, describe
from trainer.vectors.search import add_model_arguments, frequency_order
from trainer.vectors.spelling import explain_unknown, find_word, has_spaces
from trainer.vectors.unseen import UnseenWords

if TYPE_CHECKING:
    from trainer.neighbors.shared_contexts import Contexts

_BLOCK_QUERIES = 16  # whose cosines with the whole vocabulary are held at once
_SHARED_CONTEXTS = 5
_EXPLAIN_PAIRS = 16 << 20  # about half a second
_SAMPLE_RANKS = (100, 160, 250, 400, 630, 1000)  # by frequency: after the function words, still well trained


class Source(TypedDict):
    """What the shared contexts were counted in: a dataset, and how many of its pairs."""

    dataset_id: str
    pairs: int
    of: int


Explain = Callable[[Sequence[Answer]], Source]


@dataclass(frozen=True)
class Query:
    """What is asked.

    Attributes:
        text: as it was written.
        terms: ids of its words, or the words that have none, with signs.
        is_word: one word, not an expression.
    """

    text: str
    terms: tuple[tuple[Key, int], ...]
    is_word: bool


def parse_queries(vocabulary: Vocabulary, texts: Sequence[str], unseen: UnseenWords | None = None) -> list[Query]:
    """Find the words of all queries; with ``unseen`` a word need not be in the vocabulary.

    Raises:
        UserError: words that are not known, or no expression.
    """

    def find(word: str) -> Key | None:
        row = find_word(vocabulary, word)
        if row is None and unseen is not None and word not in SIGNS and unseen.ngrams(word):
            return unseen.spell(word)
        return row

    queries, unknown = [], []
    for text in texts:
        row = find_word(vocabulary, text)
        if row is not None:  # whatever signs it holds
            queries.append(Query(text, ((row, 1),), is_word=True))
            continue
        terms = parse_expression(text, spaces=has_spaces(vocabulary))
        found = [(find(term.word), term.weight) for term in terms]
        unknown += [term.word for term, (key, _) in zip(terms, found, strict=True) if key is None]
        keys = tuple((key, weight) for key, weight in found if key is not None)
        queries.append(Query(text, keys, is_word=text.strip() == terms[0].word))
    if unknown:
        hint = ' An expression is one argument, as in "king - man + woman".' if SIGNS & set(unknown) else ""
        raise UserError(explain_unknown(vocabulary, list(dict.fromkeys(unknown))) + hint)
    return queries


def sample_words(vocabulary: Vocabulary) -> list[str]:
    """Return a few tokens to show a model by: frequent ones, yet not the most frequent, if there are that many."""
    order = frequency_order(vocabulary.counts)
    ranks = [rank for rank in _SAMPLE_RANKS if rank <= len(order)] or range(1, min(len(order), len(_SAMPLE_RANKS)) + 1)
    return [vocabulary.token(int(order[rank - 1])) for rank in ranks]


def find_neighbors(vectors: Vectors, queries: Sequence[Query], top: int) -> list[Answer]:
    """Return for each query its text, what is known of its words, and the ``top`` nearest words."""
    answers = list[Answer]()
    for start in range(0, len(queries), _BLOCK_QUERIES):
        block = queries[start : start + _BLOCK_QUERIES]
        scores_BV = vectors.cosines(np.array([vectors.mean(query.terms) for query in block]))
        for query, scores_V in zip(block, scores_BV, strict=True):
            nearest = vectors.nearest(scores_V, top, [key for key, _ in query.terms if isinstance(key, int)])
            near: list[Entry] = [{"cosine": round(float(scores_V[row]), 6), **_entry(vectors, row)} for row in nearest]
            answers.append({"word": query.text, **_about(vectors, query), "neighbors": near})
    return answers


def explain_answers(answers: Sequence[Answer], contexts: Contexts) -> None:
    """Add to each neighbour what it `shared` most: context words of the query's added words and of its own."""
    for answer in answers:
        asked = _added_words(answer)
        for near in answer["neighbors"]:
            near["shared"] = contexts.shared(asked, near["token"], _SHARED_CONTEXTS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    parser.add_argument("--version", metavar="ID", help="a version of the model (the current one)")
    parser.add_argument(
        "words", nargs="*", metavar="WORD",
        help='a word, or an expression such as "king - man + woman"; put -- before one that starts with -; '
        "without any, a terminal gets a prompt, and anything else some frequent words",
    )  # fmt: skip
    parser.add_argument("--top", type=int, default=10, metavar="N", help="neighbours a word (%(default)s)")
    parser.add_argument("--ranks", action="store_true", help="show places by frequency too, 1 the most frequent")
    parser.add_argument(
        "--interactive", action="store_true",
        help="ask for words at a prompt, or read one a line from a pipe; with --json each answer is one line",
    )  # fmt: skip
    parser.add_argument(
        "--explain", action="store_true",
        help="show the context words that a neighbour shares most with the word, by their mutual information",
    )  # fmt: skip
    parser.add_argument("--data", metavar="URI", help="with --explain: a dataset, if not the one that the model names")
    parser.add_argument(
        "--explain-pairs", type=parse_size, metavar="N",
        help=f"with --explain: how many pairs of the dataset are read, by whole row groups ({_EXPLAIN_PAIRS >> 20}Mi)",
    )  # fmt: skip
    parser.set_defaults(refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Look the words up and print their neighbours; wrong usage exits 2."""
    _require_flags(args)
    vectors = load(args.model, version=args.version, vectors=args.vectors)
    explain = _make_explain(args, vectors) if args.explain else None
    prompt = args.interactive or (not (args.words or args.json) and at_terminal())
    if args.words or not prompt:
        texts = args.words or sample_words(vectors.vocabulary)
        answers = find_neighbors(vectors, parse_queries(vectors.vocabulary, texts, vectors.unseen), args.top)
        explained = {"explained": explain(answers)} if explain else {}
        if args.json:
            print(json.dumps({"vectors": args.vectors, "words": answers} | explained))
        else:
            print("\n\n".join(describe(answer, args.ranks) for answer in answers))
    return _converse(args, vectors, explain) if prompt else 0


def _require_flags(args: argparse.Namespace) -> None:
    if args.top < 1:
        args.refuse(f"--top: found {args.top}, expected at least 1")
    for flag, value in (("--data", args.data), ("--explain-pairs", args.explain_pairs)):
        if value is not None and not args.explain:
            args.refuse(f"{flag}: found without --explain, expected only with it")
    if args.explain_pairs == 0:
        args.refuse("--explain-pairs: found 0, expected at least 1")


def _make_explain(args: argparse.Namespace, vectors: Vectors) -> Explain:
    """Open the dataset; return what adds the shared contexts to answers, and says what was read."""
    from trainer.neighbors.shared_contexts import count_contexts, open_lineage  # not for those who only look words up

    dataset = open_lineage(args.model, vectors.info, args.data)
    vocabulary = dataset.vocabulary()

    def explain(answers: Sequence[Answer]) -> Source:
        words = {near["token"] for answer in answers for near in answer["neighbors"]}
        words.update(word for answer in answers for word in _added_words(answer))
        contexts = count_contexts(dataset, vocabulary, words, args.explain_pairs or _EXPLAIN_PAIRS)
        explain_answers(answers, contexts)
        if not args.json:
            print(f"contexts are those of {contexts.read:,} of {contexts.of:,} pairs", file=sys.stderr, flush=True)
        return {"dataset_id": dataset.dataset_id, "pairs": contexts.read, "of": contexts.of}

    return explain


def _converse(args: argparse.Namespace, vectors: Vectors, explain: Explain | None) -> int:
    def answer(text: str) -> str:
        queries = parse_queries(vectors.vocabulary, [text], vectors.unseen)
        (found,) = answers = find_neighbors(vectors, queries, args.top)
        explained = {"explained": explain(answers)} if explain else {}
        if args.json:
            return json.dumps({"vectors": args.vectors} | found | explained)
        return describe(found, ranks=True) + "\n"

    def explain_failure(text: str, reason: str) -> str | None:
        return json.dumps({"word": text, "error": reason}) if args.json else None

    return converse(answer, explain_failure, lambda word: find_word(vectors.vocabulary, word) is not None)


def _about(vectors: Vectors, query: Query) -> Answer:
    if query.is_word:
        return cast(Answer, _entry(vectors, query.terms[0][0]))
    return {"terms": [{**_entry(vectors, key), "weight": weight} for key, weight in query.terms]}


def _entry(vectors: Vectors, key: Key) -> Entry:
    if isinstance(key, str):
        return {"token": key, "count": 0, "ngrams": vectors.unseen.ngrams(key) if vectors.unseen is not None else 0}
    return {
        "token": vectors.vocabulary.token(key), "count": int(vectors.counts[key]), "rank": int(vectors.ranks[key]),
    }  # fmt: skip


def _added_words(answer: Answer) -> list[str]:
    """The words whose company a neighbour is expected to keep: not those that are subtracted."""
    return [str(term["token"]) for term in answer.get("terms", [answer]) if term.get("weight", 1) > 0]
