"""How loss, learning rate and speed went: some points of a training, which its checkpoints keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: Points that are kept at most.
LIMIT = 500

#: Pairs, seconds and summed loss since the beginning, and the learning rate there; a list, since JSON knows no tuples.
Point = list[float]


def is_due(points: Sequence[Point], pairs: int, total: int) -> bool:
    """Tell whether a point is due after so many pairs of all."""
    last = points[-1][0] if points else 0
    return pairs - last >= total / (LIMIT * 0.8)


def note(points: list[Point], point: Point) -> None:
    """Add a point; where there are too many, every second of them goes, never the newest."""
    points.append(point)
    if len(points) > LIMIT:
        del points[-2::-2]


def columns(points: Sequence[Point]) -> dict[str, Any]:
    """Turn points into columns: `pairs`, `seconds`, `loss` (a pair's mean since the point before), `learning_rate`."""
    befores = [[0.0] * 4, *points][: len(points)]
    return {
        "pairs": [int(point[0]) for point in points],
        "seconds": [round(point[1], 3) for point in points],
        "loss": [round(mean_loss(*both), 6) for both in zip(befores, points, strict=True)],
        "learning_rate": [point[3] for point in points],
    }


def mean_loss(before: Point, after: Point) -> float:
    """Return a pair's mean loss between two points."""
    return (after[2] - before[2]) / max(1.0, after[0] - before[0])


def words_per_second(before: Point, after: Point, words_per_pair: float) -> float:
    """Return the speed between two points."""
    return (after[0] - before[0]) * words_per_pair / max(1e-9, after[1] - before[1])
