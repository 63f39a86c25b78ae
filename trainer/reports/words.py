"""The report's sections about words: the nearest ones of some, and a map of frequent ones."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.common.page import numbers
from pipeline.common.page.document import Figure, Section, Table, figures, paragraph, word
from pipeline.common.page.svg import Html, escape, joined
from pipeline.common.page.wordmap import word_map
from trainer.errors import UserError
from trainer.keyed_vectors.vectors import Vectors
from trainer.models.store import Model
from trainer.neighbors.command import Query, find_neighbors, parse_queries, sample_words
from trainer.reports.projection import tsne
from trainer.vectors.search import frequency_order, unit_rows

#: Words whose neighbours a page may show.
MOST_WORDS = 100

_TOP = 8  # neighbours of a word
_MAPPED, _SKIPPED = 300, 100  # words on the map, and the more frequent ones before them


def neighbors_section(model: Model, words: Sequence[str] = ()) -> Section:
    """List the nearest words of the chosen ones, or of some frequent ones."""
    asked = list(words or sample_words(model.vocabulary))[:MOST_WORDS]
    queries = [_parse(model, one) for one in asked]
    found = find_neighbors(Vectors(model), [query for query in queries if query is not None], _TOP)
    unknown = [numbers.token(one) for one, query in zip(asked, queries, strict=True) if query is None]
    parts = [Html(f'<div class="words">\n{joined([_neighbors(entry) for entry in found])}\n</div>')] if found else []
    if unknown:
        parts.append(paragraph(f"Not in the vocabulary: {', '.join(unknown)}."))
    lead = "The words whose vectors point most nearly the same way, by cosine."
    return Section("neighbors", "Nearest words", lead, joined(parts))


def _parse(model: Model, text: str) -> Query | None:
    with contextlib.suppress(UserError):
        return parse_queries(model.vocabulary, [text])[0]
    return None


def _neighbors(entry: dict[str, Any]) -> Html:
    items = [
        Html(f"<li>{word(near['token'])}<span>{escape(_cosine(near['cosine']))}</span></li>")
        for near in entry["neighbors"]
    ]
    count = f"<small>{escape(numbers.count(entry['count']))}</small>" if "count" in entry else ""
    heading = f"<h3>{word(entry.get('token', entry['word']))}{count}</h3>"
    return Html(f"<div>{heading}\n<ol>\n{joined(items)}\n</ol></div>")


def map_section(model: Model) -> Section:
    """Map frequent words onto a plane."""
    size = len(model.vocabulary)
    skipped = min(_SKIPPED, size // 20)
    ids = frequency_order(model.vocabulary.counts)[skipped : skipped + _MAPPED]
    words = [numbers.token(model.vocabulary.token(int(row)), 24) for row in ids]
    places = [(float(x), float(y)) for x, y in tsne(unit_rows(model.input_VD[ids]).astype(np.float64))]
    counts = [numbers.count(int(model.vocabulary.counts[row])) for row in ids]
    rows = [(one, count, f"{x:.1f}", f"{y:.1f}") for one, count, (x, y) in zip(words, counts, places, strict=True)]
    ranks = f"ranks {skipped + 1:,} to {skipped + len(words):,} by frequency"
    said = f"the {len(words):,} words of {ranks}" if skipped else f"the {len(words):,} most frequent words"
    one = Figure(
        "word-map", f"{said[0].upper()}{said[1:]}, near each other where their vectors are",
        f"A map of {said}. Words that are used alike are close together; directions and distances between "
        "groups say little.",
        word_map(words, places, 920, 640), Table(("word", "count", "x", "y"), rows),
        "By t-SNE; the axes have no meaning of their own. A word without a name shows it to the pointer.",
        word_map(words, places, 400, 520),
    )  # fmt: skip
    return Section("map", "Map", "", figures([one]))


def _cosine(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
