"""What all readers of trained vectors share: which table, unit length, order of frequency, nearest rows.

Shapes: V vocabulary rows, D dimensions, B queries, N rows found.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.errors import UserError
from trainer.store import Floats, Model

VECTORS = ("input", "output", "average")

_BLOCK_ROWS = 1 << 16
_SMALLEST_NORM = np.float32(1e-12)

Ids = npt.NDArray[np.int64]


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that evaluate, neighbors and export have in common."""
    parser.add_argument("--model", required=True, metavar="DIR", help="the model's folder: a path or a URI")
    parser.add_argument("--vectors", choices=VECTORS, default="input", help="which table, or their mean (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def pick_table(model: Model, vectors: str) -> Floats:
    """Return the table that ``--vectors`` names, rows in id order.

    Raises:
        UserError: no such table.
    """
    if vectors == "input":
        return model.input_VD
    if vectors == "output":
        return model.output_VD
    if vectors != "average":
        raise UserError(f"--vectors: found {vectors!r}, expected one of {', '.join(VECTORS)}")
    average_VD = model.input_VD + model.output_VD
    average_VD *= np.float32(0.5)
    return average_VD


def frequency_order(counts_V: npt.NDArray[Any]) -> Ids:
    """Return the ids, most frequent first; equal counts by id. An id itself says nothing about frequency."""
    return np.argsort(-np.asarray(counts_V, np.int64), kind="stable").astype(np.int64)


def unit_rows(table_VD: Floats) -> Floats:
    """Return the rows scaled to length 1; rows of zeros stay zeros."""
    unit_VD = np.empty_like(table_VD)
    for start in range(0, len(table_VD), _BLOCK_ROWS):
        block = table_VD[start : start + _BLOCK_ROWS]
        unit_VD[start : start + _BLOCK_ROWS] = block / _norms(block)[:, None]
    return unit_VD


def cosines(table_VD: Floats, queries_BD: Floats) -> Floats:
    """Return the cosines float32 [B, V] of queries with all rows; no normalised copy of the table is made."""
    unit_BD = unit_rows(queries_BD)
    scores_BV = np.empty((len(unit_BD), len(table_VD)), np.float32)
    for start in range(0, len(table_VD), _BLOCK_ROWS):
        block = table_VD[start : start + _BLOCK_ROWS]
        np.divide(unit_BD @ block.T, _norms(block), out=scores_BV[:, start : start + _BLOCK_ROWS])
    return scores_BV


def top_rows(scores_V: Floats, top: int) -> Ids:
    """Return the rows of the ``top`` largest scores, best first, equal scores by row; −inf rows never."""
    size = min(top, len(scores_V))
    if size <= 0:
        return np.empty(0, np.int64)
    best = np.argpartition(scores_V, len(scores_V) - size)[-size:]
    # Which of several equal scores argpartition keeps is its own business: take all that tie, then the first ones.
    rows = np.flatnonzero(scores_V >= scores_V[best].min())
    rows = rows[np.isfinite(scores_V[rows])]
    return rows[np.lexsort((rows, -scores_V[rows]))][:size]


def _norms(block: Floats) -> Floats:
    norms: Floats = np.maximum(np.linalg.norm(block, axis=1), _SMALLEST_NORM)
    return norms
