"""Charts of a report: Vega-Lite by way of Altair, in the page's colours, as wide as the page lets them be.

Colours are the style sheet's variables, so that a chart follows the reader's light or dark setting without being drawn
again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

#: Colours of style.css.
INK, SOFT, RULE, PAGE = "var(--ink)", "var(--soft)", "var(--rule)", "var(--page)"
ACCENT, FILL, OTHER = "var(--accent)", "var(--fill)", "var(--other)"

SANS = '"Helvetica Neue", "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", Arial, system-ui, sans-serif'

_CONFIG = {
    "background": None,
    "font": SANS,
    "axis": {
        "labelColor": SOFT, "titleColor": SOFT, "gridColor": RULE, "domainColor": SOFT, "tickColor": SOFT,
        "labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": 140, "tickCount": 5,
        "labelOverlap": "greedy", "labelSeparation": 4,
    },
    "axisX": {"grid": False},
    "text": {"color": INK, "fontSize": 12},
    "view": {"stroke": None},
}  # fmt: skip
_HEIGHT, _ROW = 220, 24

Row = Mapping[str, object]
Spec = dict[str, Any]


def as_spec(chart: alt.LayerChart, height: int = _HEIGHT) -> Spec:
    """Return a chart as Vega-Lite's JSON."""
    spec: Spec = chart.properties(width="container", height=height).to_dict()
    del spec["$schema"]  # it names a place in the network, and nothing reads it
    return {**spec, "config": _CONFIG}


def chart(rows: Sequence[Row], **encoding: Any) -> alt.Chart:
    """Begin a chart of some rows."""
    return alt.Chart(alt.Data(values=list(rows))).encode(**encoding)


def line(rows: Sequence[Row], x: alt.X, y: alt.Y, tooltip: Sequence[alt.Tooltip], **mark: Any) -> alt.LayerChart:
    """Draw a line; a pointer near one of its points shows that point."""
    base = chart(rows, x=x, y=y)
    points = base.mark_circle(opacity=0, size=200, clip=True).encode(tooltip=list(tooltip))
    dot = {"point": {"color": ACCENT}} if len(rows) == 1 else {}
    return base.mark_line(**{"color": ACCENT, "strokeWidth": 1.8, "clip": True, **dot, **mark}) + points


def columns(rows: Sequence[Row], x_title: str, y_title: str) -> Spec:
    """Draw a column for each row: its `name`, its share of all as `value`, and how that is written as `shown`."""
    x = alt.X("name:O", sort=None, title=x_title, axis=alt.Axis(labelAngle=0))
    y = alt.Y("value:Q", title=y_title, axis=alt.Axis(format="~%"))
    tooltip = [alt.Tooltip("name:N", title=x_title), alt.Tooltip("shown:N", title=y_title)]
    return as_spec(alt.layer(chart(rows, x=x, y=y, tooltip=tooltip).mark_bar(color=FILL)))


def bars(rows: Sequence[Row]) -> Spec:
    """Draw a bar for each row, its name to the left: `name`, `value` and `shown`."""
    most = max(float(str(row["value"])) for row in rows) or 1.0
    x = alt.X("value:Q", axis=None, scale=alt.Scale(domain=[0, most * 1.3]))
    base = chart(rows, x=x, y=alt.Y("name:N", sort=None, title=None), tooltip=["name:N", "shown:N"])
    texts = base.mark_text(align="left", dx=5).encode(text="shown:N")
    return as_spec(base.mark_bar(color=FILL, height=14) + texts, _ROW * len(rows))


def before_and_now(rows: Sequence[Row], tooltip: Sequence[alt.Tooltip]) -> Spec:
    """Draw each row as a dot at `now`, joined with a ring at `before`, which may be None; `shown` at their `end`."""
    y = alt.Y("name:N", sort=None, title=None)
    found = [float(str(row[key])) for row in rows for key in ("now", "before") if row[key] is not None]
    scale = alt.Scale(domain=[min(0.0, *found), max(0.1, *found) * 1.8])
    x = alt.X("now:Q", title=None, scale=scale)
    old = [row for row in rows if row["before"] is not None]
    ring = chart(old, x=alt.X("before:Q", title=None, scale=scale), y=y, tooltip=list(tooltip))
    span = chart(old, x=x, x2="before:Q", y=y).mark_rule(color=ACCENT, strokeWidth=1.8)
    dots = chart(rows, x=x, y=y, tooltip=list(tooltip))
    texts = dots.mark_text(align="left", dx=9).encode(x=alt.X("end:Q", title=None, scale=scale), text="shown:N")
    layers = [dots.mark_circle(color=ACCENT, size=80, opacity=1), texts]
    if old:
        layers = [span, ring.mark_point(color=SOFT, fill=PAGE, size=70, opacity=1), *layers]
    return as_spec(alt.layer(*layers), (_ROW + 6) * len(rows))
