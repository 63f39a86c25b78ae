"""A map of words to search in, to move and to zoom.

It is raw Vega: Vega-Lite has no `label` transform, which names as many words as there is room for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.common.page.charts import ACCENT, INK, OTHER, SANS, SOFT, Spec

_PINCH = {"source": "view", "type": "touchmove", "filter": "event.touches.length === 2", "consume": True}
_WHEEL = {"source": "view", "type": "wheel", "filter": "event.ctrlKey || event.metaKey", "consume": True}
_DOUBLE = {"source": "view", "type": "dblclick", "consume": True}
_DRAG = "[mousedown, window:mouseup] > window:mousemove!"
_MIDDLE = "[(xdom[0] + xdom[1]) / 2, (ydom[0] + ydom[1]) / 2]"


def word_map(
    name: str, words: Sequence[str], counts: Sequence[str], near: Sequence[str], places: Sequence[Sequence[float]]
) -> Spec:
    """Draw a point for each word.

    Args:
        name: of the figure: its search box and buttons have ids that begin with it.
        words: most important ones first: they are named first.
        counts: of the words, as they are shown.
        near: to each word, as they are shown.
        places: x and y of each word, in any unit.
    """
    rows = zip(words, counts, near, places, strict=True)
    values = [
        {"word": word, "count": count, "near": nearest, "x": round(x, 3), "y": round(y, 3), "rank": rank}
        for rank, (word, count, nearest, (x, y)) in enumerate(rows)
    ]
    hit = {"type": "formula", "as": "hit", "expr": "needle !== '' && indexof(lower(datum.word), needle) >= 0"}
    return {
        "padding": 1,
        "background": None,
        "signals": _signals(name, values),
        "data": [
            {"name": "words", "values": values, "transform": [hit]},
            {"name": "found", "source": "words", "transform": [{"type": "filter", "expr": "datum.hit"}]},
        ],
        "scales": [
            {"name": "x", "zero": False, "domain": {"signal": "xdom"}, "range": {"signal": "[0, width]"}},
            {"name": "y", "zero": False, "domain": {"signal": "ydom"}, "range": {"signal": "[height, 0]"}},
        ],
        "marks": [
            {
                "type": "group",
                "clip": True,
                "encode": {"update": {"width": {"signal": "width"}, "height": {"signal": "height"}}},
                "marks": [_points(), _names(), _found()],
            },
        ],
    }


def _signals(name: str, values: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Name what the map reacts to: its size, the search box, a drag, a zoom and where it is anchored."""
    button_in, button_out, button_all = (
        {"source": f"#{name}-{end}", "type": "click"} for end in ("in", "out", "all")
    )  # fmt: skip
    reset = [{"events": button_all}, {"events": {"signal": "needle"}}]

    def domain(axis: str, index: int, size: str, sign: str) -> dict[str, Any]:
        ends = [min(one[axis] for one in values), max(one[axis] for one in values)]
        margin = (ends[1] - ends[0]) * 0.05 or 1.0
        whole = [ends[0] - margin, ends[1] + margin]
        moved = ", ".join(f"start.{axis}[{end}] {sign} span(start.{axis}) * delta[{index}] / {size}" for end in (0, 1))
        zoomed = ", ".join(f"anchor[{index}] + ({axis}dom[{end}] - anchor[{index}]) * zoom" for end in (0, 1))
        return {"name": f"{axis}dom", "value": whole, "on": [
            {"events": {"signal": "delta"}, "update": f"[{moved}]"},
            {"events": {"signal": "zoom"}, "update": f"[{zoomed}]"},
            *({**one, "update": f"[{whole[0]}, {whole[1]}]"} for one in reset),
        ]}  # fmt: skip

    return [
        {"name": "width", "init": "max(240, containerSize()[0])",
         "on": [{"events": "window:resize", "update": "max(240, containerSize()[0])"}]},
        {"name": "height", "update": "clamp(width * 0.66, 440, 680)"},
        {"name": "query", "value": "", "bind": {"element": f"#{name}-search", "event": "input", "debounce": 120}},
        {"name": "needle", "update": "lower(trim(query))"},
        {"name": "start", "value": None, "on": [
            {"events": "mousedown", "update": "{x: slice(xdom), y: slice(ydom), at: xy()}"}]},
        {"name": "delta", "value": [0, 0], "on": [
            {"events": _DRAG, "update": "start ? [start.at[0] - x(), y() - start.at[1]] : [0, 0]"}]},
        {"name": "fingers", "value": 1, "on": [
            {"events": {**_PINCH, "type": "touchstart"}, "update": "pinchDistance(event)"},
            {"events": {"signal": "spread"}, "update": "spread"}]},
        {"name": "anchor", "value": [0, 0], "on": [
            {"events": [_WHEEL, _DOUBLE], "update": "[invert('x', x()), invert('y', y())]"},
            {"events": [button_in, button_out, _PINCH], "update": _MIDDLE}]},
        {"name": "zoom", "value": 1, "on": [
            {"events": _WHEEL, "force": True, "update": "pow(1.004, clamp(event.deltaY, -120, 120))"},
            {"events": [button_in, _DOUBLE], "force": True, "update": "0.6"},
            {"events": button_out, "force": True, "update": "1 / 0.6"},
            {"events": _PINCH, "force": True, "update": "fingers / pinchDistance(event)"}]},
        {"name": "spread", "value": 1, "on": [{"events": _PINCH, "update": "pinchDistance(event)"}]},
        domain("x", 0, "width", "+"),
        domain("y", 1, "height", "+"),
    ]  # fmt: skip


def _points() -> dict[str, Any]:
    tooltip = "{title: datum.word, count: datum.count, nearest: datum.near}"
    return {
        "name": "points", "type": "symbol", "from": {"data": "words"},
        "encode": {
            "enter": {"tooltip": {"signal": tooltip}},
            "update": {
                "x": {"scale": "x", "field": "x"}, "y": {"scale": "y", "field": "y"},
                "size": {"signal": "datum.hit ? 90 : 28"},
                "fill": {"signal": f"datum.hit ? '{OTHER}' : '{ACCENT}'"},
                "fillOpacity": {"signal": "datum.hit ? 1 : needle === '' ? 0.6 : 0.2"},
                "zindex": {"signal": "datum.hit ? 1 : 0"},
            },
            "hover": {"fillOpacity": {"value": 1}, "size": {"value": 120}},
        },
    }  # fmt: skip


def _names() -> dict[str, Any]:
    return {
        "name": "names", "type": "text", "from": {"data": "points"}, "interactive": False,
        "encode": {
            "enter": {
                "text": {"field": "datum.word"}, "font": {"value": SANS}, "fontSize": {"value": 12},
            },
            "update": {
                "fill": {"signal": f"needle === '' ? '{INK}' : '{SOFT}'"},
                "fillOpacity": {"signal": "needle === '' ? 1 : datum.datum.hit ? 0 : 0.5"},
            },
        },
        "transform": [{
            "type": "label", "size": {"signal": "[width, height]"}, "offset": [3],
            "anchor": ["right", "left", "top", "bottom"],
            "sort": {"field": "datum.datum.rank"},
        }],
    }  # fmt: skip


def _found() -> dict[str, Any]:
    """What the search finds is named whether there is room or not."""
    return {
        "name": "found-names", "type": "text", "from": {"data": "found"}, "interactive": False,
        "encode": {
            "enter": {
                "text": {"field": "word"}, "font": {"value": SANS}, "fontSize": {"value": 13},
                "fontWeight": {"value": "bold"}, "fill": {"value": INK}, "baseline": {"value": "middle"},
            },
            "update": {
                "x": {"scale": "x", "field": "x", "offset": {"signal": "scale('x', datum.x) < width * 0.7 ? 8 : -8"}},
                "y": {"scale": "y", "field": "y"},
                "align": {"signal": "scale('x', datum.x) < width * 0.7 ? 'left' : 'right'"},
            },
        },
    }  # fmt: skip
