"""The report's section about change: how far words moved since the model before, and which ones most."""

from __future__ import annotations

import numpy as np

from pipeline.common.page import charts, numbers
from pipeline.common.page.document import Figure, Section, Table, Text
from trainer.evaluation.drift import ALIGNED, WATCHED, Drift

_BINS = 20


def drift_section(drift: Drift | None, compared: str) -> Section:
    """Describe what changed since the model that ``compared`` names."""
    if drift is None:
        said = f"{compared} has vectors of other dimensions, or no word in common: there is nothing to compare."
        return Section("drift", "Change", "", [Text(said)])
    lead = f"Against {compared}, whose vectors were first rotated onto these as a whole. " + (
        f"New words: {drift.new:,}; gone: {drift.gone:,}." if drift.new or drift.gone else "Both have the same words."
    )
    rows = [
        (numbers.token(one.token), numbers.cosine(one.cosine), _list(one.before), _list(one.now)) for one in drift.moved
    ]
    title = f"Words that moved most, of the {min(WATCHED, len(drift.cosines_N)):,} most frequent without function words"
    moved = Table(("word", "cosine", "nearest before", "nearest now"), rows, (0, 2, 3), title)
    return Section("drift", "Change", lead, [_histogram(drift), moved])


def _histogram(drift: Drift) -> Figure:
    low = float(np.floor(max(-1.0, min(0.8, float(drift.cosines_N.min()))) * 10 + 1e-9) / 10)
    counts, edges = np.histogram(np.clip(drift.cosines_N, low, 1.0), _BINS, (low, 1.0))
    size, middle = len(drift.cosines_N), float(np.median(drift.cosines_N))
    rows = [
        {"name": numbers.cosine(start), "value": count / size, "shown": numbers.share(count / size)}
        for start, count in zip(edges.tolist(), counts.tolist(), strict=False)
    ]
    half = f"Half of {'the ' if size == ALIGNED else ''}{size:,} words have a cosine above {numbers.cosine(middle)}"
    return Figure(
        "cosines", "How far words moved", f"{half}; the smallest is {drift.cosines_N.min():.2f}.",
        charts.columns(rows, "cosine of a word now and before, from", "share of words"),
        Table(("cosine from", "share of words"), [(str(row["name"]), str(row["shown"])) for row in rows], left=()),
        f"{half}.",
    )  # fmt: skip


def _list(words: tuple[str, ...]) -> str:
    return ", ".join(numbers.token(word, 24) for word in words)
