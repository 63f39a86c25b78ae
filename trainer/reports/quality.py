"""The report's section about quality: each evaluation set, with the previous model's score."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import altair as alt

from pipeline.common.page import charts, numbers
from pipeline.common.page.document import Block, Figure, Section, Table, Text
from trainer.evaluation.scores import Score

_MOST_SECTIONS = 40

Compared = tuple[Score, Score | None]


def quality_section(now: Sequence[Score], before: Sequence[Score]) -> Section:
    """Put scores next to those of the previous model on the same sets, if there is one."""
    olds: Sequence[Score | None] = before or [None] * len(now)
    pairs = list(zip(now, olds, strict=True))
    lead = "Word similarity by Spearman’s rank correlation, analogies by the share of right answers."
    wholes = [pair for pair in pairs if not pair[0].part]
    if all(score.value is None for score, _ in wholes):
        return Section("quality", "Quality", lead, [Text("No score: too few words of the sets are known.")])
    title = "Scores, and those of the previous model" if before else "Scores"
    blocks: list[Block] = [_figure("scores", title, wholes)]
    for number, (whole, _) in enumerate(pairs):
        parts = list(itertools.takewhile(lambda pair: pair[0].part, pairs[number + 1 :]))[:_MOST_SECTIONS]
        if not whole.part and any(score.value is not None for score, _ in parts):
            blocks.append(_figure(f"sections-{number}", f"{whole.name} by section, {whole.measure}", parts))
    return Section("quality", "Quality", lead, blocks)


def _figure(name: str, title: str, pairs: Sequence[Compared]) -> Figure:
    rows = [
        {
            "name": numbers.token(f"{score.name}, {score.measure}" if not score.part else score.name),
            "now": score.value,
            "before": (before := _value(old)),
            "end": max(score.value, score.value if before is None else before),
            "shown": f"{f'{_shown(before)} → ' if before is not None else ''}{_shown(score.value)}",
            "scored": f"{score.scored:,} of {score.of:,}",
        }
        for score, old in pairs
        if score.value is not None
    ]
    compared = any(old is not None for _, old in pairs)
    tooltip = [alt.Tooltip("name:N"), alt.Tooltip("now:Q", format=".3f")]
    tooltip += [alt.Tooltip("before:Q", format=".3f")] * compared + [alt.Tooltip("scored:N")]
    cells = [
        [score.name, score.measure, _shown(score.value), *([_shown(_value(old))] if compared else []),
         f"{score.scored:,}", f"{score.of:,}"]
        for score, old in pairs
    ]  # fmt: skip
    headings = ["set", "measure", "score", *(["before"] if compared else []), "scored", "of"]
    scored = "; ".join(f"{row['name']} {row['scored']}" for row in rows)
    said = "; ".join(" ".join(row) for row in cells)
    note = f"Scored: {scored}." if name == "scores" else ""
    note += " A ring is the previous model." if compared else ""
    return Figure(name, title, said, charts.before_and_now(rows, tooltip), Table(headings, cells, left=(0, 1)), note)


def _value(score: Score | None) -> float | None:
    return None if score is None or not score.scored else score.value


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}".replace("-", "−")
