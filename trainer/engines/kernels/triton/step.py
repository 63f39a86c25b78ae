"""What the steps of both architectures share, in Triton: drawing negatives, the gradient of a score, rows of a table.

Shapes: V vocabulary rows, D dimensions; within a window M outputs (the word, its negatives, padding up to a power of
two), S columns of a slice of D.

Rows are read past L1 (".cg"), which other multiprocessors' updates do not reach, and changed by relaxed atomic
additions: no update is lost, and they are added in no fixed order.
"""

from __future__ import annotations

import triton
import triton.language as tl

MAX_REDRAWS = 64

_REDRAWS = tl.constexpr(MAX_REDRAWS)
_ROUNDS = tl.constexpr(7)  # of Philox: the fewest that pass every test (Salmon et al., SC 2011)


@triton.jit
def draw(alias_V, rows, key, pair, m, attempt, wanted):
    """Negatives of the window that begins at `pair`, by Walker's alias table: low half threshold, high half alias."""
    column, chance, _unused, _spare = tl.philox(key, pair + m * 0, m, m * 0 + attempt, m * 0, n_rounds=_ROUNDS)
    column = tl.umulhi(column, rows.to(tl.uint32))
    entry = tl.load(alias_V + column, mask=wanted, other=0)
    threshold = (entry & 0xFFFFFFFF).to(tl.uint32)
    return tl.where(chance < threshold, column.to(tl.int32), (entry >> 32).to(tl.int32))


@triton.jit
def draw_outputs(
    alias_V, rows, key, pair, word, other, m,
    negatives: tl.constexpr, redraw_output: tl.constexpr, redraw_input: tl.constexpr,
):  # fmt: skip
    """Output ids [M] of a window, and which of them are there: no padding, nothing that was drawn again too often."""
    is_negative = (m > 0) & (m <= negatives)
    ids = draw(alias_V, rows, key, pair, m, 0, is_negative)
    excluded = is_negative & (m < 0)
    if redraw_output or redraw_input:
        excluded = is_negative & ((redraw_output & (ids == word)) | (redraw_input & (ids == other)))
        attempt = 1
        while (tl.max(excluded.to(tl.int32)) > 0) & (attempt < _REDRAWS):
            ids = tl.where(excluded, draw(alias_V, rows, key, pair, m, attempt, excluded), ids)
            excluded = is_negative & ((redraw_output & (ids == word)) | (redraw_input & (ids == other)))
            attempt += 1
    return tl.where(m == 0, word, ids), (m == 0) | (is_negative & (excluded == 0))


@triton.jit
def gradient(score, sign, rate, is_term):
    """(label − σ(score))·rate, and the loss in two parts: a term, and a factor of 1 to 2 to take the logarithm of.

    `sign` is −1 for the word, 1 for negatives; the loss is log(1 + exp(sign·score)). NaN comes through the factor.
    """
    signed = score * sign
    power = tl.exp(-tl.abs(signed))
    share = 1.0 / (1.0 + power)
    change = tl.where(is_term, -sign * rate * tl.where(signed > 0, share, power * share), 0.0)
    return change, tl.where(is_term & (signed > 0), signed, 0.0), tl.where(is_term, 1.0 + power, 1.0)


@triton.jit
def load_rows(table_VD, ids, there, d, dim: tl.constexpr, slices: tl.constexpr):
    """Rows as a tuple of slices [rows, S]; zeros where none is there."""
    start = table_VD + ids.to(tl.int64)[:, None] * dim + d[None, :]
    parts = ()
    for s in tl.static_range(slices):
        column = d + s * d.shape[0]
        mask = there[:, None] & (column < dim)[None, :]
        parts = parts + (tl.load(start + s * d.shape[0], mask=mask, other=0.0, cache_modifier=".cg"),)
    return parts


@triton.jit
def add_rows(table_VD, ids, there, d, change, s: tl.constexpr, dim: tl.constexpr):
    """Add slice `s` of a change [rows, S]."""
    column = d + s * d.shape[0]
    start = table_VD + ids.to(tl.int64)[:, None] * dim + column[None, :]
    tl.atomic_add(start, change, mask=there[:, None] & (column < dim)[None, :], sem="relaxed")
