"""Drawing: the few SVG elements that plots are made of. Colours come from the page's style sheet, by class."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import NewType

#: Text that is markup already; everything else is escaped on its way into the page.
Html = NewType("Html", str)

FONT_PX = 12.0

Point = tuple[float, float]


def escape(text: object) -> Html:
    """Turn any text into markup that shows it."""
    return Html(html.escape(str(text)))


def joined(parts: Sequence[Html], separator: str = "\n") -> Html:
    """Join pieces of markup."""
    return Html(separator.join(parts))


class Canvas:
    """A drawing of a fixed shape, which the page scales to the width it has."""

    def __init__(self, width: float, height: float) -> None:
        """Begin with nothing; units are about a pixel each, the y axis points down."""
        self.width, self.height = width, height
        self._parts: list[str] = []

    def line(self, start: Point, end: Point, kind: str) -> None:
        """A straight line."""
        self._parts.append(
            f'<line class="{kind}" x1="{_n(start[0])}" y1="{_n(start[1])}" x2="{_n(end[0])}" y2="{_n(end[1])}"/>'
        )

    def path(self, points: Sequence[Point], kind: str) -> None:
        """A line through points."""
        steps = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        self._parts.append(f'<polyline class="{kind}" points="{steps}"/>')

    def bar(self, corner: Point, width: float, height: float, kind: str, title: str = "") -> None:
        """A rectangle from its upper left corner; ``title`` shows where a pointer rests."""
        box = f'x="{_n(corner[0])}" y="{_n(corner[1])}" width="{_n(max(0, width))}" height="{_n(max(0, height))}"'
        self._parts.append(f'<rect class="{kind}" {box}>{_title(title)}</rect>')

    def dot(self, center: Point, radius: float, kind: str, title: str = "") -> None:
        """A circle."""
        place = f'cx="{_n(center[0])}" cy="{_n(center[1])}" r="{_n(radius)}"'
        self._parts.append(f'<circle class="{kind}" {place}>{_title(title)}</circle>')

    def text(self, place: Point, text: str, kind: str, anchor: str = "start") -> None:
        """A line of text; ``anchor`` is start, middle or end."""
        where = f'x="{_n(place[0])}" y="{_n(place[1])}"'
        anchored = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self._parts.append(f'<text class="{kind}" {where}{anchored}>{escape(text)}</text>')

    def render(self, name: str, title: str, description: str, kind: str = "") -> Html:
        """The SVG element with its text alternative; ``name`` begins the ids, which must be one of a kind on a page."""
        return Html(
            f'<svg class="plot {kind}" viewBox="0 0 {_n(self.width)} {_n(self.height)}" role="img" '
            f'aria-labelledby="{name}-title {name}-desc">'
            f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>\n'
            + "\n".join(self._parts)
            + "</svg>"
        )


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""


def _n(value: float) -> str:
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text
