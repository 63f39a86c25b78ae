"""The report's sections about words: the nearest ones of some, a map of frequent ones, and what frequency does.

Shapes: N words, D dimensions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from pipeline.common.page import charts, numbers
from pipeline.common.page.document import Block, Figure, Lists, Section, Table, Text
from trainer.errors import UserError
from trainer.evaluation.drift import function_words
from trainer.keyed_vectors.vectors import Vectors
from trainer.models.store import Floats, Model
from trainer.neighbors.command import Query, find_neighbors, parse_queries, sample_words
from trainer.reports.command import MOST_WORDS
from trainer.reports.wordmap import word_map
from trainer.vectors.display import Answer
from trainer.vectors.search import cosines, frequency_order, unit_rows
from trainer.vectors.unseen import unseen_words

_TOP = 8  # neighbours of a word
_MAPPED, _NEAR = 600, 5  # words on the map, and the near ones that each of them names
_BANDS, _PER_BAND, _SEARCHED = 24, 50, 20_000  # of frequency; words of each; the words that neighbours are of
_FEWEST, _PERPLEXITY = 10, 30  # words below which t-SNE says nothing that principal components do not


def neighbors_section(model: Model, words: Sequence[str] = ()) -> Section:
    """List the nearest words of the chosen ones, or of some frequent ones."""
    asked = list(words or sample_words(model.vocabulary))[:MOST_WORDS]
    queries = [_parse(model, one) for one in asked]
    found = find_neighbors(Vectors(model), [query for query in queries if query is not None], _TOP)
    unknown = [numbers.token(one) for one, query in zip(asked, queries, strict=True) if query is None]
    blocks: list[Block] = [Lists([_neighbors(entry) for entry in found])] if found else []
    if unknown:
        blocks.append(Text(f"Not in the vocabulary: {', '.join(unknown)}."))
    lead = "The words whose vectors point most nearly the same way, by cosine."
    return Section("neighbors", "Nearest words", lead, blocks)


def _parse(model: Model, text: str) -> Query | None:
    with contextlib.suppress(UserError):
        return parse_queries(model.vocabulary, [text], unseen_words(model))[0]
    return None


def _neighbors(entry: Answer) -> tuple[str, str, list[tuple[str, str]]]:
    words = [(numbers.token(near["token"]), numbers.cosine(near["cosine"])) for near in entry["neighbors"]]
    heading = numbers.token(entry.get("token", entry["word"]))
    return heading, numbers.count(entry["count"]) if "count" in entry else "", words


def map_section(model: Model) -> Section:
    """Map frequent words onto a plane."""
    skipped = function_words(len(model.vocabulary))
    ids = frequency_order(model.vocabulary.counts)[skipped : skipped + _MAPPED]
    words = [numbers.token(model.vocabulary.token(int(row)), 24) for row in ids]
    counts = [numbers.count(int(model.vocabulary.counts[row])) for row in ids]
    units_ND = unit_rows(model.input_VD[ids])
    near = [", ".join(words[row] for row in rows) for rows in _nearest(units_ND)]
    places = project(units_ND).tolist()
    ranks = f"ranks {skipped + 1:,} to {skipped + len(words):,} by frequency"
    said = f"the {len(words):,} words of {ranks}" if skipped else f"the {len(words):,} most frequent words"
    figure = Figure(
        "word-map", f"{said[0].upper()}{said[1:]}, near each other where their vectors are",
        f"A map of {said}. Words that are used alike are close together.",
        word_map("word-map", words, counts, near, places),
        Table(("word", "count", "nearest of these"), list(zip(words, counts, near, strict=True)), left=(0, 2)),
        "By t-SNE: who is near whom says much, directions and distances between groups say little. "
        "Drag to move; pinch, Ctrl and wheel, or the buttons zoom; names appear as there is room.",
        searched=True,
    )  # fmt: skip
    return Section("map", "Map", "", [figure])


def _nearest(units_ND: Floats) -> list[list[int]]:
    cosines_NN = cosines(units_ND, units_ND)
    np.fill_diagonal(cosines_NN, -np.inf)
    found: list[list[int]] = np.argsort(-cosines_NN, axis=1, kind="stable")[:, : min(_NEAR, len(units_ND) - 1)].tolist()
    return found


def project(units_ND: Floats) -> Floats:
    """Return unit vectors as points of a plane, [N, 2]: t-SNE (van der Maaten and Hinton 2008) from their main plane.

    Equal vectors give equal points: nothing is drawn at random, and one thread adds up in one order.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    size = len(units_ND)
    if len(np.unique(units_ND, axis=0)) < _FEWEST or units_ND.shape[1] < 2:
        left_NK, lengths_K, _ = np.linalg.svd(units_ND - units_ND.mean(axis=0), full_matrices=False)
        plane_NK = (left_NK * lengths_K)[:, :2]
        return np.pad(plane_NK, ((0, 0), (0, 2 - plane_NK.shape[1])))
    with threadpool_limits(1):
        tsne = TSNE(perplexity=min(_PERPLEXITY, (size - 1) / 3), init="pca", random_state=0)
        places_N2: Floats = tsne.fit_transform(units_ND)
    return places_N2


def frequency_section(model: Model) -> Section:
    """Describe what a word's frequency does to the length of its vector, and to how near its nearest word is."""
    order_V = frequency_order(model.vocabulary.counts)
    edges = np.unique(np.geomspace(1, len(order_V) + 1, _BANDS + 1).astype(np.int64))
    searched_SD = model.input_VD[order_V[:_SEARCHED]]
    rows = []
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        ranks_N = np.arange(start - 1, end - 1)[:: max(1, (end - start) // _PER_BAND)][:_PER_BAND]
        band_ND = model.input_VD[order_V[ranks_N]]
        cosines_NS = cosines(searched_SD, band_ND)
        own = np.flatnonzero(ranks_N < len(searched_SD))
        cosines_NS[own, ranks_N[own]] = -1  # no word is its own nearest
        norms = np.linalg.norm(band_ND.astype(np.float64), axis=1)
        rows.append(
            {"rank": (start * (end - 1)) ** 0.5, "ranks": f"{start:,} to {end - 1:,}",
             "norm": float(np.median(norms)), "low": float(np.quantile(norms, 0.1)),
             "high": float(np.quantile(norms, 0.9)), "cosine": float(np.median(cosines_NS.max(axis=1)))}
        )  # fmt: skip
    lead = "Medians over words of about the same rank; rare words have little to learn from."
    return Section("frequency", "Frequency", lead, [_by_rank(rows, *about) for about in _MEASURES])


_MEASURES = (
    ("norms", "norm", "Length of vectors, by frequency", "norm of the vector", "The band spans 80 % of the words."),
    ("similarity", "cosine", "Cosine of a word and its nearest, by frequency", "cosine of the nearest word",
     f"The nearest is looked for among the {_SEARCHED:,} most frequent words."),
)  # fmt: skip


def _by_rank(rows: Sequence[dict[str, Any]], name: str, key: str, title: str, measure: str, note: str) -> Figure:
    x = alt.X("rank:Q", scale=alt.Scale(type="log", nice=False), axis=alt.Axis(format="~s"))
    y = alt.Y(f"{key}:Q", title=measure, scale=alt.Scale(zero=key == "norm"))
    tooltip = [alt.Tooltip("ranks:N"), alt.Tooltip(f"{key}:Q", title=measure, format=".3f")]
    drawing = charts.line(rows, x, y, tooltip)
    if key == "norm":
        band = charts.chart(rows, x=x, y=alt.Y("low:Q", title=measure), y2="high:Q")
        drawing = band.mark_area(color=charts.FILL, opacity=0.3) + drawing
    cells = [(str(row["ranks"]), f"{row[key]:.3f}") for row in rows]
    said = f"From {cells[0][1]} for the most frequent to {cells[-1][1]} for the rarest."
    return Figure(name, title, said, charts.as_spec(drawing), Table(("ranks", measure), cells, left=()), note)
