"""Words as points of a plane, with as many of their names as fit."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.common.page.numbers import text_width
from pipeline.common.page.svg import FONT_PX, Canvas, Point

_EDGE = 12.0

Box = tuple[float, float, float, float]


def word_map(words: Sequence[str], places: Sequence[Point], width: float, height: float) -> Canvas:
    """Draw a point for each word, and its name where that covers neither another name nor a point.

    Args:
        words: most important ones first: they are named first.
        places: of the words, in any unit.
        width: of the drawing.
        height: of the drawing.
    """
    canvas = Canvas(width, height)
    points = _fitted(places, width, height)
    taken: list[Box] = [(x - 2, y - 2, x + 2, y + 2) for x, y in points]
    named = []
    for number, (word, point) in enumerate(zip(words, points, strict=True)):
        found = _room(word, point, taken, number, width, height)
        if found is not None:
            taken.append(found)
            named.append((word, found, point))
    for word, (x, y) in zip(words, points, strict=True):
        canvas.dot((x, y), 1.8, "speck", word)
    for word, (left, top, _, bottom), _ in named:
        canvas.text((left + 1, top + (bottom - top) * 0.78), word, "word")
    return canvas


def _fitted(places: Sequence[Point], width: float, height: float) -> list[Point]:
    low_x, high_x = min(x for x, _ in places), max(x for x, _ in places)
    low_y, high_y = min(y for _, y in places), max(y for _, y in places)
    wide, tall = max(high_x - low_x, 1e-9), max(high_y - low_y, 1e-9)
    return [
        (
            _EDGE + (x - low_x) / wide * (width - 5 * _EDGE),  # names are to the right of most points
            _EDGE + (y - low_y) / tall * (height - 2 * _EDGE),
        )
        for x, y in places
    ]


def _room(word: str, point: Point, taken: Sequence[Box], own: int, width: float, height: float) -> Box | None:
    x, y = point
    wide, tall = text_width(word, FONT_PX) + 2, FONT_PX * 1.05
    corners = ((x + 3, y - tall / 2), (x - 3 - wide, y - tall / 2), (x - wide / 2, y - tall - 3), (x - wide / 2, y + 3))
    for left, top in corners:
        box = (left, top, left + wide, top + tall)
        inside = left >= 0 and top >= 0 and box[2] <= width and box[3] <= height
        if inside and not any(_overlap(box, other) for number, other in enumerate(taken) if number != own):
            return box
    return None


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
