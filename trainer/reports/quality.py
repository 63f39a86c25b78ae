"""The report's section about quality: each evaluation set, with the previous model's score."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from pipeline.common.page import numbers
from pipeline.common.page.document import Figure, Section, Table, figures, paragraph
from pipeline.common.page.plots import Bar
from pipeline.common.page.rows import Change, bar_rows, changes
from trainer.evaluation.scores import Score

_MOST_SECTIONS = 40


def quality_section(now: Sequence[Score], before: Sequence[Score]) -> Section:
    """Put scores next to those of the previous model on the same sets, if there is one."""
    olds: Sequence[Score | None] = before or [None] * len(now)
    pairs = list(zip(now, olds, strict=True))
    wholes = [score for score in now if not score.part]
    rows = [
        Change(f"{score.name}, {score.measure}", score.value, _value(old))
        for score, old in pairs
        if not score.part and score.value is not None
    ]
    said = "; ".join(
        f"{row.name} {row.now:.3f}" + (f", before {row.before:.3f}" if row.before is not None else "") for row in rows
    )
    lead = "Word similarity by Spearman’s rank correlation, analogies by the share of right answers."
    if not rows:
        return Section("quality", "Quality", lead, paragraph("No score: too few words of the sets are known."))
    one = Figure(
        "scores", "Scores, and those of the previous model" if before else "Scores", f"{said}.",
        changes(rows), _table([pair for pair in pairs if not pair[0].part], bool(before)),
        f"Scored: {'; '.join(f'{s.name} {numbers.count(s.scored)} of {numbers.count(s.of)}' for s in wholes)}.",
    )  # fmt: skip
    return Section("quality", "Quality", lead, figures([one, *_sections(now)]))


def _sections(scores: Sequence[Score]) -> list[Figure]:
    """Plot the sections of each analogy file."""
    drawn = []
    for number, whole in enumerate(scores):
        parts = list(itertools.takewhile(lambda score: score.part, scores[number + 1 :]))[:_MOST_SECTIONS]
        if whole.part or not parts:
            continue
        bars = [Bar(numbers.token(part.name), part.value or 0.0, _shown(part.value)) for part in parts]
        said = "; ".join(f"{bar.name} {bar.shown}" for bar in bars)
        rows = [(part.name, _shown(part.value), f"{part.scored:,}", f"{part.of:,}") for part in parts]
        table = Table(("section", whole.measure, "scored", "of"), rows)
        title = f"{whole.name} by section, {whole.measure}"
        drawn.append(Figure(f"sections-{number}", title, f"{said}.", bar_rows(bars), table))
    return drawn


def _table(pairs: Sequence[tuple[Score, Score | None]], compared: bool) -> Table:
    headings = ["set", "measure", "score", *(["before"] if compared else []), "scored", "of"]
    rows = []
    for score, old in pairs:
        before = _value(old)
        middle = ["" if before is None else f"{before:.3f}"] if compared else []
        rows.append([score.name, score.measure, _shown(score.value), *middle, f"{score.scored:,}", f"{score.of:,}"])
    return Table(headings, rows, left=(0, 1))


def _value(score: Score | None) -> float | None:
    return None if score is None or not score.scored else score.value


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
