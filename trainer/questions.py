"""What is asked of vectors: tokens, indexes and vectors, alone or in lists, with weights or without.

Shapes: D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from trainer.vectors import Doubles

Key: TypeAlias = str | int  # a token, or its index
Vector: TypeAlias = npt.NDArray[Any]
Part: TypeAlias = Key | Vector | tuple[Key | Vector, float]  # of a question, with a weight of its own or without
Found: TypeAlias = list[tuple[str, float]]


def unit(row_D: Vector) -> Doubles:
    """Return a vector scaled to length 1; one of zeros stays one."""
    exact_D = np.asarray(row_D, np.float64)
    norm = float(np.sqrt(exact_D @ exact_D))
    return exact_D / norm if norm else exact_D


def listed(parts: Part | Sequence[Part] | None) -> Sequence[Part]:
    """One part alone stands for a list of it; a matrix for its rows; None for nothing."""
    if parts is None:
        return []
    if isinstance(parts, np.ndarray):
        return [parts] if parts.ndim == 1 else list(parts)
    return [parts] if isinstance(parts, str | int | np.integer) else parts  # type: ignore[return-value]


def weighted(part: Part, weight: float) -> tuple[Key | Vector, float]:
    """Give a part that brings no weight the one given."""
    if isinstance(part, tuple):
        return part[0], float(part[1])
    return part, weight
