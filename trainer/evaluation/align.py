"""Turning a model into the space of an earlier one, so that words stay where they were for those who read its vectors.

The rotation is the solution of the orthogonal Procrustes problem (Schönemann 1966).

Shapes: C common words, D dimensions, V rows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from trainer.models.store import Floats, Model
from trainer.subwords.table import SubwordTable
from trainer.vectors.search import Ids, frequency_order, unit_rows

_BLOCK_ROWS = 1 << 16

Doubles = npt.NDArray[np.float64]


def common_rows(old: Model, new: Model, words: int | None = None) -> tuple[Ids, Ids]:
    """Rows in both models of the tokens that both have, the old one's most frequent first.

    Args:
        old: by whose counts they are ordered.
        new: the other model.
        words: how many at most.

    Returns:
        Rows in ``old`` and rows in ``new``, int64 [C].
    """
    order_V = frequency_order(old.vocabulary.counts)
    rows_V = new.vocabulary.encode(old.vocabulary.tokens).astype(np.int64)[order_V]
    known = np.flatnonzero(rows_V >= 0)[:words]
    return order_V[known], rows_V[known]


def rotation(source_CD: npt.ArrayLike, target_CD: npt.ArrayLike) -> Doubles:
    """The orthogonal matrix R, float64 [D, D], for which ``source_CD @ R`` is nearest to ``target_CD``."""
    product_DD = np.asarray(source_CD, np.float64).T @ np.asarray(target_CD, np.float64)
    left_DD, _, right_DD = np.linalg.svd(product_DD)
    turned: Doubles = left_DD @ right_DD
    return turned


def turn(table_VD: Floats, rotation_DD: Doubles) -> Floats:
    """``table_VD @ rotation_DD`` in double precision, a block of rows at a time."""
    turned_VD = np.empty_like(table_VD)
    for start in range(0, len(table_VD), _BLOCK_ROWS):
        turned_VD[start : start + _BLOCK_ROWS] = table_VD[start : start + _BLOCK_ROWS].astype(np.float64) @ rotation_DD
    return turned_VD


def align(new: Model, old: Model, words: int) -> tuple[Model, int]:
    """Turn all tables of ``new`` by one rotation, which leaves all their products as they are.

    It is fitted to unit input vectors, so that no word counts for more than another.

    Args:
        new: the model to turn.
        old: the model whose space it gets.
        words: common words to fit to, the old model's most frequent ones.

    Returns:
        The turned model, and how many words the rotation was fitted to: 0, and the same model, where the two have too
        few words in common to fix a rotation, or differ in dimensions.
    """
    dim = new.input_VD.shape[1]
    old_C, new_C = common_rows(old, new, words)
    if old.input_VD.shape[1] != dim or len(old_C) < dim:
        return new, 0
    turned_DD = rotation(unit_rows(new.input_VD[new_C]), unit_rows(old.input_VD[old_C]))
    subwords = new.subwords and SubwordTable(new.subwords.rule, turn(new.subwords.rows_RD, turned_DD))
    turned = replace(
        new, input_VD=turn(new.input_VD, turned_DD), output_VD=turn(new.output_VD, turned_DD), subwords=subwords
    )
    return turned, len(old_C)
