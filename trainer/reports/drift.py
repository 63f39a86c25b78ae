"""The report's section about change: how far words moved since the model before, and which ones most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.common.page import numbers
from pipeline.common.page.axes import Axis, linear_axis
from pipeline.common.page.document import Figure, Section, Table, figures, paragraph, word
from pipeline.common.page.plots import Bar, histogram
from pipeline.common.page.svg import Html, escape, joined
from trainer.evaluation.drift import ALIGNED, WATCHED, Drift

_BINS = 20


def drift_section(drift: Drift | None, compared: str) -> Section:
    """Describe what changed since the model that ``compared`` names."""
    if drift is None:
        said = f"{compared} has vectors of other dimensions, or no word in common: there is nothing to compare."
        return Section("drift", "Change", "", paragraph(said))
    lead = f"Against {compared}, whose vectors were first turned onto these as a whole. " + (
        f"New words: {drift.new:,}; gone: {drift.gone:,}." if drift.new or drift.gone else "Both have the same words."
    )
    return Section("drift", "Change", lead, joined([figures([_histogram(drift)]), _moved(drift)]))


def _histogram(drift: Drift) -> Figure:
    low = float(np.floor(max(-1.0, min(0.8, float(drift.cosines_N.min()))) * 10 + 1e-9) / 10)
    counts, edges = np.histogram(np.clip(drift.cosines_N, low, 1.0), _BINS, (low, 1.0))
    size = len(drift.cosines_N)
    bars = [
        Bar(f"{_cosine(start)} to {_cosine(end)}", count / size, numbers.share(count / size))
        for start, end, count in zip(edges[:-1], edges[1:], counts.tolist(), strict=True)
    ]
    middle = float(np.median(drift.cosines_N))
    x = Axis(low, 1.0, "cosine of a word now and before", form=lambda value: numbers.tick(round(value, 6)))
    y = linear_axis([bar.value for bar in bars], "share of words", zero=True, room=True, form=_percent)
    return Figure(
        "cosines", "How far words moved",
        f"Of the {size:,} most frequent words that both models have, half have a cosine above {middle:.2f}; "
        f"the smallest is {drift.cosines_N.min():.2f}.",
        histogram(x, y, edges.tolist(), bars),
        Table(("cosine", "share of words"), [(bar.name, bar.shown) for bar in bars]),
        f"Half of {'the ' if size == ALIGNED else ''}{size:,} words have a cosine above {middle:.2f}.",
    )  # fmt: skip


def _moved(drift: Drift) -> Html:
    items = [
        Html(
            f"<li><b>{word(one.token)}</b><small>{escape(_cosine(one.cosine))}</small>"
            f"<p>{_list(one.before)} → {_list(one.now)}</p></li>"
        )
        for one in drift.moved
    ]
    watched = min(WATCHED, len(drift.cosines_N))
    heading = Html(
        f"<h3>Words that moved most, of the {watched:,} most frequent, and their nearest before and now</h3>"
    )
    return joined([heading, Html(f'<ol class="moved">\n{joined(items)}\n</ol>')])


def _percent(value: float) -> str:
    return f"{numbers.tick(round(value * 100, 6))}\u202f%"


def _cosine(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _list(words: Sequence[str]) -> Html:
    return joined([word(one) for one in words], ", ")
