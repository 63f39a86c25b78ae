"""Plots of one line a row: bars with their names, and values before and now on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.common.page.axes import linear_axis
from pipeline.common.page.numbers import fitted, text_width
from pipeline.common.page.plots import WIDTH, Bar
from pipeline.common.page.svg import FONT_PX, Canvas

_ROW, _GAP = 25.0, 8.0


def bar_rows(bars: Sequence[Bar]) -> Canvas:
    """Draw a bar for each name, longest lengths to the full width, the value at its end."""
    canvas = Canvas(WIDTH, _ROW * len(bars) + 4)
    names = [fitted(bar.name, WIDTH / 2 - _GAP, FONT_PX) for bar in bars]
    left = max(text_width(name, FONT_PX) for name in names) + _GAP
    room = WIDTH - left - max(text_width(bar.shown, FONT_PX) for bar in bars) - _GAP
    most = max(bar.value for bar in bars) or 1.0
    for number, bar in enumerate(bars):
        middle = _ROW * (number + 0.5) + 2
        length = max(1.0, room * bar.value / most)
        canvas.text((left - _GAP, middle + 4), names[number], "label", "end")
        canvas.bar((left, middle - 7), length, 14, "bar", f"{bar.name}: {bar.shown}")
        canvas.text((left + length + _GAP * 0.75, middle + 4), bar.shown, "label")
    return canvas


@dataclass(frozen=True)
class Change:
    """A score now and before, from 0 to 1; `before` is None where there is none to compare with."""

    name: str
    now: float
    before: float | None


def changes(rows: Sequence[Change]) -> Canvas:
    """Draw each score as a dot on a common scale, joined with the ring of the one before."""
    values = [value for row in rows for value in (row.now, row.before) if value is not None]
    axis = linear_axis(values, "", zero=True, room=True)
    compared = any(row.before is not None for row in rows)
    top, bottom = (24.0 if compared else 6.0), 22.0
    canvas = Canvas(WIDTH, top + 2 * _ROW * len(rows) + bottom)

    def across(value: float) -> float:
        return 6 + axis.place(value) * (WIDTH - 24)

    base = canvas.height - bottom
    for tick in axis.ticks(5):
        canvas.line((across(tick), top), (across(tick), base), "grid")
        canvas.text((across(tick), base + 15), axis.form(tick), "tick", "middle" if tick > axis.low else "start")
    if compared:
        canvas.dot((6, 8), 4.5, "ring")
        canvas.text((16, 12), "before", "tick")
        canvas.dot((76, 8), 4.5, "dot")
        canvas.text((86, 12), "now", "tick")
    for number, row in enumerate(rows):
        line = top + 2 * _ROW * number
        canvas.text((0, line + 16), fitted(row.name, WIDTH * 0.7, FONT_PX), "label halo")
        canvas.text((WIDTH, line + 16), _scores(row), "label strong halo", "end")
        height = line + 32
        canvas.line((across(axis.low), height), (across(axis.high), height), "grid")
        if row.before is not None:
            canvas.line((across(row.before), height), (across(row.now), height), "span")
            canvas.dot((across(row.before), height), 4.5, "ring", f"before: {row.before:.3f}")
        canvas.dot((across(row.now), height), 4.5, "dot", f"now: {row.now:.3f}")
    return canvas


def _scores(row: Change) -> str:
    return f"{row.now:.3f}" if row.before is None else f"{row.before:.3f} → {row.now:.3f}"
