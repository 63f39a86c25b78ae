"""How far words moved from one model to another, once the one is turned onto the other.

Vectors of two trainings are alike up to a rotation at best. The rotation that brings the words of both nearest is that
of orthogonal Procrustes (Schönemann 1966); a word's cosine after it says how far the word moved (Hamilton et al. 2016).

Shapes: N words of both models, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trainer.evaluation.align import common_rows, rotation, turn
from trainer.models.store import Floats, Model
from trainer.vectors.search import top_rows, unit_rows

#: The most frequent words of both that the rotation goes by, and of those, the ones that may count as moved: few
#: occurrences move a word by themselves.
ALIGNED, WATCHED = 20_000, 5_000

_FUNCTION_WORDS = 100
_NEAR = 3  # neighbours that tell what a word was, and what it is


@dataclass(frozen=True)
class Moved:
    """A word that moved: its cosine, and its nearest words before and now."""

    token: str
    cosine: float
    before: tuple[str, ...]
    now: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Drift:
    """What changed between two models.

    Attributes:
        cosines_N: each common word's, most frequent first, after alignment.
        moved: the watched words of the smallest cosines, smallest first, without function words.
        new: words that only the new model has.
        gone: words that only the old one had.
    """

    cosines_N: npt.NDArray[np.float64]
    moved: tuple[Moved, ...]
    new: int
    gone: int


def function_words(size: int) -> int:
    """How many of the most frequent words count as function words, in a vocabulary of ``size`` words of any language.

    They occur next to everything: their neighbours say little, and change by chance.
    """
    return min(_FUNCTION_WORDS, size // 20)


def measure_drift(old: Model, now: Model, most: int = 18) -> Drift | None:
    """Compare the input vectors of two models; None where they have other dimensions or no word in common."""
    now_C, old_C = common_rows(now, old)
    now_ids, old_ids, common = now_C[:ALIGNED], old_C[:ALIGNED], len(now_C)
    if not common or old.input_VD.shape[1] != now.input_VD.shape[1]:
        return None
    old_ND, now_ND = unit_rows(old.input_VD[old_ids]), unit_rows(now.input_VD[now_ids])
    turned_ND = turn(old_ND, rotation(old_ND, now_ND))
    cosines_N = (turned_ND.astype(np.float64) * now_ND).sum(axis=1)
    tokens = now.vocabulary.column.take(pa.array(now_ids)).to_pylist()
    skipped = function_words(len(cosines_N))
    farthest = np.argsort(cosines_N[skipped:WATCHED], kind="stable")[:most] + skipped
    moved = tuple(
        Moved(tokens[row], float(cosines_N[row]), _near(old_ND, row, tokens), _near(now_ND, row, tokens))
        for row in farthest.tolist()
    )
    return Drift(cosines_N, moved, len(now.vocabulary) - common, len(old.vocabulary) - common)


def _near(unit_ND: Floats, row: int, tokens: list[str]) -> tuple[str, ...]:
    scores_N = unit_ND @ unit_ND[row]
    scores_N[row] = -np.inf
    return tuple(tokens[near] for near in top_rows(scores_N, _NEAR).tolist())
