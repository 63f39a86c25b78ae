"""What all readers of trained vectors share: which table, lengths, order of frequency, cosines, nearest rows.

A table may be a mapped file that is larger than memory: it is walked in blocks of rows, by several threads, and no
copy of it is made. Each row's numbers are summed in one order, whatever the blocks and threads, so that equal rows
have equal cosines and a search has one answer.

Shapes: V vocabulary rows, D dimensions, B queries, R rows of a block.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from trainer.config import usable_cores
from trainer.errors import UserError
from trainer.models.store import Floats, Model

VECTORS = ("input", "output", "average")

_BLOCK_ROWS = 1 << 16
_BLOCK_NUMBERS = 1 << 20  # of a table, read at once by a thread: 4 MiB
_SMALLEST_NORM = np.float32(1e-12)
_SQUARES = 1e-30, 1e30  # outside of it, sums of squares may leave float32's range
_CHUNKS = 16  # per row asked for: how finely maxima are taken before the best rows are looked for

Ids = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that evaluate, neighbors and export have in common."""
    parser.add_argument("--model", required=True, metavar="DIR", help="the model's folder: a path or a URI")
    parser.add_argument("--vectors", choices=VECTORS, default="input", help="which table, or their mean (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def pick_table(model: Model, vectors: str) -> Floats:
    """Return the table that ``--vectors`` names, rows in id order; the mean of both is made in memory."""
    tables = pick_tables(model, vectors)
    if len(tables) == 1:
        return tables[0]
    average_VD = tables[0] + tables[1]
    average_VD *= np.float32(0.5)
    return average_VD


def pick_tables(model: Model, vectors: str) -> tuple[Floats, ...]:
    """Return the table that ``--vectors`` names, or the two whose mean it is."""
    if vectors not in VECTORS:
        raise UserError(f"--vectors: found {vectors!r}, expected one of {', '.join(VECTORS)}")
    tables = {"input": (model.input_VD,), "output": (model.output_VD,)}
    return tables.get(vectors, (model.input_VD, model.output_VD))


def frequency_order(counts_V: npt.NDArray[np.number]) -> Ids:
    """Return the ids, most frequent first; equal counts by id. An id itself says nothing about frequency."""
    counts_V = np.asarray(counts_V, np.int64)
    if (counts_V[1:] <= counts_V[:-1]).all():  # a fresh vocabulary: nothing to sort
        return np.arange(len(counts_V), dtype=np.int64)
    return np.argsort(-counts_V, kind="stable").astype(np.int64)


def unit_rows(table_VD: Floats) -> Floats:
    """Return the rows scaled to length 1; rows of zeros stay zeros."""
    unit_VD = np.empty_like(table_VD)
    for start in range(0, len(table_VD), _BLOCK_ROWS):
        block = table_VD[start : start + _BLOCK_ROWS]
        norms = np.maximum(np.linalg.norm(block, axis=1), _SMALLEST_NORM)
        unit_VD[start : start + _BLOCK_ROWS] = block / norms[:, None]
    return unit_VD


def row_norms(table_VD: Floats) -> Doubles:
    """Return the rows' lengths, float64 [V]; NaN or Inf where a row holds one of them."""
    squares_V = np.empty(len(table_VD), np.float64)

    def fill(start: int, stop: int) -> None:
        block = table_VD[start:stop]
        squares_R = np.einsum("ij,ij->i", block, block).astype(np.float64)
        odd = np.flatnonzero(~((squares_R > _SQUARES[0]) & (squares_R < _SQUARES[1])))
        if odd.size:
            exact = block[odd].astype(np.float64)
            squares_R[odd] = np.einsum("ij,ij->i", exact, exact)
        squares_V[start:stop] = squares_R

    _in_blocks(fill, table_VD)
    return np.sqrt(squares_V)


def exact_units(rows_ND: npt.NDArray[np.number]) -> Doubles:
    """Return rows of any finite length scaled to length 1, float64 [N, D]; rows of zeros stay zeros."""
    exact_ND = np.asarray(rows_ND, np.float64)
    exact_ND = exact_ND / _not_zero(np.abs(exact_ND).max(axis=1, initial=0.0))[:, None]  # whose squares may overflow
    exact_ND /= _not_zero(np.sqrt(np.einsum("ij,ij->i", exact_ND, exact_ND)))[:, None]
    return exact_ND


def cosines(table_VD: Floats, queries_BD: npt.NDArray[np.number], norms_V: Doubles | None = None) -> Floats:
    """Return the cosines float32 [B, V] of queries with all rows; a row or query of zeros has none but 0.

    Args:
        table_VD: finite numbers.
        queries_BD: of any length.
        norms_V: the rows' lengths, where they are known already.
    """
    norms_V = row_norms(table_VD) if norms_V is None else norms_V
    exact_BD = exact_units(queries_BD)
    unit_BD = exact_BD.astype(np.float32)
    scores_BV = np.empty((len(unit_BD), len(table_VD)), np.float32)

    def fill(start: int, stop: int) -> None:
        # A product of two matrices would sum in an order of its own for each size of a block, and OpenBLAS's threads
        # wait for one another where a machine is busy.
        block, divisors_R = table_VD[start:stop], _not_zero(norms_V[start:stop])
        odd = np.flatnonzero(~((divisors_R > _SQUARES[0] ** 0.5) & (divisors_R < _SQUARES[1] ** 0.5)))
        for query, (unit_D, exact_D) in enumerate(zip(unit_BD, exact_BD, strict=True)):
            with np.errstate(over="ignore", invalid="ignore"):
                products_R = np.einsum("ij,j->i", block, unit_D) / divisors_R
            if odd.size:
                products_R[odd] = np.einsum("ij,j->i", block[odd].astype(np.float64), exact_D) / divisors_R[odd]
            scores_BV[query, start:stop] = products_R

    _in_blocks(fill, table_VD)
    return scores_BV


def top_rows(scores_V: npt.NDArray[np.number], top: int) -> Ids:
    """Return the rows of the ``top`` largest scores, best first, equal scores by row; −inf rows never."""
    size = min(top, len(scores_V))
    if size <= 0:
        return np.empty(0, np.int64)
    # As many chunks as rows are asked for have a score of at least `bound`: all the best rows do, and few others.
    chunk = max(1, len(scores_V) // (size * _CHUNKS))
    maxima = np.maximum.reduceat(scores_V, np.arange(0, len(scores_V), chunk))
    bound = np.partition(maxima, len(maxima) - size)[len(maxima) - size]
    rows = np.flatnonzero(scores_V >= bound)
    rows = rows[np.isfinite(scores_V[rows])]
    best: Ids = rows[np.lexsort((rows, -scores_V[rows]))][:size]
    return best


def _not_zero(norms: Doubles) -> Doubles:
    return np.where(norms == 0, 1.0, norms)


def _in_blocks(fill: Callable[[int, int], None], table_VD: Floats) -> None:
    """Call ``fill`` with the bounds of all blocks, on as many threads as there are cores: NumPy frees the GIL."""
    size = max(1, _BLOCK_NUMBERS // max(1, table_VD.shape[1]))
    starts = range(0, len(table_VD), size)
    threads = min(usable_cores(), len(starts))
    if threads < 2:
        for start in starts:
            fill(start, start + size)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="rows") as pool:
        for done in [pool.submit(fill, start, start + size) for start in starts]:
            done.result()
