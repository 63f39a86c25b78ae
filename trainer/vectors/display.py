"""Neighbours for people: words and numbers in aligned columns on a terminal, whatever the script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from wcwidth import wcswidth

__all__ = ["Answer", "Entry", "SharedContext", "describe", "printable"]


class SharedContext(TypedDict):
    """A context that a query and its neighbour have in common: its weight, and its count with each of the two."""

    token: str
    weight: float
    counts: list[int]


class Entry(TypedDict, total=False):
    """A word of an answer; `weight` only in `terms`, `cosine` and `shared` only in `neighbors`.

    A word that is not in the vocabulary has no `rank`, but `ngrams`: by how many of them it is answered.
    """

    token: str
    count: int
    rank: int
    ngrams: int
    weight: int
    cosine: float
    shared: list[SharedContext]


class Answer(Entry, total=False):
    """A query and the words nearest to it.

    Attributes:
        word: the query's text. A single word also has `token`, `count` and `rank`.
        terms: the words of an expression, each with its weight.
        neighbors: nearest first.
    """

    word: str
    terms: list[Entry]
    neighbors: list[Entry]


def describe(answer: Answer, ranks: bool = False) -> str:
    """Format one query's neighbours for people, in aligned columns."""
    near = answer["neighbors"]
    tokens = [printable(entry["token"]) for entry in near]
    width = max(map(wcswidth, tokens), default=0)
    counts, places = (_right_aligned([entry[name] for entry in near]) for name in ("count", "rank"))
    lines = [_heading(answer, ranks)]
    for token, entry, count, place in zip(tokens, near, counts, places, strict=True):
        padding = " " * (width - wcswidth(token))
        lines.append(f"  {token}{padding}  {entry['cosine']:7.4f}  {count}" + (f"  {place}" if ranks else ""))
        if "shared" in entry:
            lines.append(f"      {_describe_shared(entry['shared'])}")
    return "\n".join(lines)


def printable(token: str) -> str:
    """Escape what would move a terminal's cursor or act on it; letters, marks and joiners stay."""
    return "".join(c if c.isprintable() or c in "\u200c\u200d" else ascii(c)[1:-1] for c in token)


def _heading(answer: Answer, ranks: bool) -> str:
    terms = answer.get("terms", [answer])
    parts = [("count", [f"{term['count']:,}" for term in terms])]
    if ranks:
        parts.append(("rank", [f"{term['rank']:,}" if "rank" in term else "none" for term in terms]))
    unseen = [f"{printable(term['token'])} is answered by its n-grams" for term in terms if "ngrams" in term]
    name = printable(answer["word"] if "terms" in answer else answer["token"])
    said = [f"{what} {' '.join(numbers)}" for what, numbers in parts]
    return f"{name}  ({'; '.join([*said, *unseen])})"


def _describe_shared(shared: Sequence[SharedContext]) -> str:
    if not shared:
        return "no context in common, as far as was read"
    return "both with " + ", ".join(
        f"{printable(entry['token'])} ({entry['counts'][0]:,}; {entry['counts'][1]:,})" for entry in shared
    )


def _right_aligned(numbers: Sequence[int]) -> list[str]:
    shown = [f"{number:,}" for number in numbers]
    width = max(map(len, shown), default=0)
    return [text.rjust(width) for text in shown]
