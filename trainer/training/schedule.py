"""How the learning rate falls over a run."""

from __future__ import annotations

import math


def learning_rate(schedule: str, start: float, fraction: float, floor: float = 1e-4) -> float:
    """The rate once a fraction of all the pairs of a run was seen.

    linear is word2vec.c's: in proportion to the pairs that are left, never below the floor. cosine falls slowly
    at both ends (Loshchilov and Hutter 2017, without restarts), from the start to the floor.

    Args:
        schedule: linear, cosine or constant.
        start: the rate at the first pair.
        fraction: from 0 to 1.
        floor: the lowest rate, as a share of `start`.
    """
    if schedule == "constant":
        return start
    left = 1.0 - min(max(fraction, 0.0), 1.0)
    if schedule == "cosine":
        return start * (floor + (1.0 - floor) * 0.5 * (1.0 - math.cos(math.pi * left)))
    return start * max(left, floor)
