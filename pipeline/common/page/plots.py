"""Plots on two axes: lines and histograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.common.page.axes import Axis
from pipeline.common.page.numbers import text_width
from pipeline.common.page.svg import FONT_PX, Canvas, Point

WIDTH, HEIGHT = 400.0, 240.0

_TOP, _BOTTOM, _RIGHT, _GAP = 30.0, 38.0, 10.0, 7.0
_TICK_PX = FONT_PX - 1


@dataclass(frozen=True)
class Series:
    """One line.

    Attributes:
        points: x and y in the axes' numbers, x ascending.
        kind: class in the style sheet: `line`, `line other` or `line faint`.
    """

    points: Sequence[Point]
    kind: str = "line"


@dataclass(frozen=True)
class Mark:
    """A point that is named on the drawing, at its upper right or at another `corner`: "upper left", "lower left"."""

    x: float
    y: float
    text: str
    dot: bool = True
    corner: str = ""
    kind: str = "label"


@dataclass(frozen=True)
class Bar:
    """One column or row: its name, its length, and the label next to it."""

    name: str
    value: float
    shown: str = ""


class Frame:
    """A drawing with two axes; places go by the axes' numbers."""

    def __init__(self, x: Axis, y: Axis, x_ticks: Sequence[float] | None = None) -> None:
        """Draw the axes; ``x_ticks`` takes the place of the axis' own choice."""
        self.canvas = Canvas(WIDTH, HEIGHT)
        self._x, self._y = x, y
        y_ticks = y.ticks(5)
        self._left = max(text_width(y.form(tick), _TICK_PX) for tick in [*y_ticks, y.low]) + _GAP
        self._draw_y(y_ticks)
        if x_ticks is None:
            x_ticks = x.ticks(6)
        self._draw_x(x_ticks)

    def at(self, x: float, y: float) -> Point:
        """Return where a pair of numbers is on the drawing."""
        across, up = self._x.place(x), self._y.place(y)
        return (
            self._left + across * (WIDTH - _RIGHT - self._left),
            HEIGHT - _BOTTOM - up * (HEIGHT - _BOTTOM - _TOP),
        )

    def _draw_y(self, ticks: Sequence[float]) -> None:
        self.canvas.text((0, FONT_PX), self._y.title, "axis")
        for tick in ticks:
            _, height = self.at(self._x.low, tick)
            self.canvas.line((self._left, height), (WIDTH - _RIGHT, height), "grid")
            self.canvas.text((self._left - _GAP, height + 4), self._y.form(tick), "tick", "end")

    def _draw_x(self, ticks: Sequence[float]) -> None:
        base = HEIGHT - _BOTTOM
        self.canvas.line((self._left, base), (WIDTH - _RIGHT, base), "base")
        end = -1.0
        for tick in ticks:
            text = self._x.form(tick)
            half = text_width(text, _TICK_PX) / 2
            place, _ = self.at(tick, self._y.low)
            middle = min(place, WIDTH - half)
            if middle - half > end + _GAP / 2:
                self.canvas.line((place, base), (place, base + 4), "base")
                self.canvas.text((middle, base + 16), text, "tick", "middle")
                end = middle + half
        self.canvas.text((WIDTH - _RIGHT, HEIGHT - 4), self._x.title, "axis", "end")


def line_plot(
    x: Axis, y: Axis, series: Sequence[Series], marks: Sequence[Mark] = (), uprights: Sequence[float] = ()
) -> Canvas:
    """Draw lines, named points, and vertical hairlines at some x."""
    frame = Frame(x, y)
    for place in uprights:
        frame.canvas.line(frame.at(place, y.low), frame.at(place, y.high), "upright")
    for one in series:
        points = [frame.at(*point) for point in one.points]
        frame.canvas.path(points, one.kind)
        if len(points) == 1:
            frame.canvas.dot(points[0], 2.5, "dot")
    for mark in marks:
        _draw_mark(frame, mark)
    return frame.canvas


def _draw_mark(frame: Frame, mark: Mark) -> None:
    px, py = frame.at(mark.x, mark.y)
    if mark.dot:
        frame.canvas.dot((px, py), 2.5, "dot")
    kind = f"{mark.kind} halo"
    left = "left" in mark.corner or px + 6 + text_width(mark.text, FONT_PX) > WIDTH
    height = py + 15 if "lower" in mark.corner else max(FONT_PX, py - 6)
    frame.canvas.text((px - 5 if left else px + 6, height), mark.text, kind, "end" if left else "start")


def histogram(
    x: Axis, y: Axis, edges: Sequence[float], bars: Sequence[Bar], ticks: Sequence[float] | None = None
) -> Canvas:
    """Draw touching columns between neighbouring edges, how each is written above it where there is room.

    Args:
        x: from the first edge to the last one.
        y: from 0.
        edges: one more than there are bars.
        bars: from left to right.
        ticks: in place of the x axis' own.
    """
    frame = Frame(x, y, ticks)
    for low, high, bar in zip(edges[:-1], edges[1:], bars, strict=True):
        left, top = frame.at(low, bar.value)
        right, base = frame.at(high, y.low)
        frame.canvas.bar((left + 0.5, top), right - left - 1, base - top, "bar", f"{bar.name}: {bar.shown}")
        if text_width(bar.shown, _TICK_PX) < right - left:
            frame.canvas.text(((left + right) / 2, top - 4), bar.shown, "tick", "middle")
    return frame.canvas
