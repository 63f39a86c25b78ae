"""Instructions on many rows at once: their sum, the same change added to each, the outputs of one input.

Rows are given by their addresses (int64); D is the floats of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir
from numba.core import cgutils, types

from trainer.engines.kernels.numba.instructions.simd import LONG, Vectors, floats, longs, loop, row_at
from trainer.engines.kernels.numba.jit import instruction
from trainer.engines.kernels.numba.shape import ShapeType

WIDTHS = 13, 6, 2, 1  # vectors of a row that are worked on together: D=100 is 13 vectors of AVX2

Emit = Callable[[ir.Value, Sequence["ir.Value | None"]], None]


def _for_columns(builder: ir.IRBuilder, lanes: int, dim: ir.Value, emit: Emit, widths: Sequence[int] = WIDTHS) -> None:
    """Emit code for all columns: as many vectors at a time as the first width says, then the next, then the rest."""
    done, whole = LONG(0), builder.and_(dim, LONG(-lanes))
    for width in widths:
        wide = width * lanes
        many = builder.add(done, builder.mul(builder.udiv(builder.sub(whole, done), LONG(wide)), LONG(wide)))
        with loop(builder, done, many, wide) as column:
            emit(column, [None] * width)
        done = many
    rest = builder.sub(dim, whole)
    with builder.if_then(builder.icmp_signed(">", rest, LONG(0))):
        emit(whole, [Vectors(builder, lanes).first(rest)])


def _emit_sum(
    builder: ir.IRBuilder, kind: ShapeType, addresses: ir.Value, count: ir.Value, factor: ir.Value, target: ir.Value,
    dim: ir.Value,
) -> None:  # fmt: skip
    lanes = kind.shape.lanes
    addresses, target, v = longs(builder, addresses), floats(builder, target), Vectors(builder, kind.shape.lanes)

    def emit(column: ir.Value, masks: Sequence[ir.Value | None]) -> None:
        places = [builder.add(column, LONG(u * lanes)) for u in range(len(masks))]
        sums = [cgutils.alloca_once(builder, v.kind) for _ in masks]
        for one in sums:
            builder.store(v.constant(0), one)
        with loop(builder, LONG(0), count, 1) as number:
            source = row_at(builder, addresses, number)
            for one, place, mask in zip(sums, places, masks, strict=True):
                builder.store(v.add(builder.load(one), v.load(builder.gep(source, [place]), mask)), one)
        for one, place, mask in zip(sums, places, masks, strict=True):
            v.store(v.multiply(builder.load(one), v.splat(factor)), builder.gep(target, [place]), mask)

    _for_columns(builder, lanes, dim, emit)


def _emit_add(
    builder: ir.IRBuilder, kind: ShapeType, addresses: ir.Value, count: ir.Value, factor: ir.Value, change: ir.Value,
    dim: ir.Value,
) -> None:  # fmt: skip
    lanes = kind.shape.lanes
    addresses, change, v = longs(builder, addresses), floats(builder, change), Vectors(builder, kind.shape.lanes)

    def emit(column: ir.Value, masks: Sequence[ir.Value | None]) -> None:
        places = [builder.add(column, LONG(u * lanes)) for u in range(len(masks))]
        added = [
            v.multiply(v.load(builder.gep(change, [place]), mask), v.splat(factor))
            for place, mask in zip(places, masks, strict=True)
        ]
        with loop(builder, LONG(0), count, 1) as number:
            target = row_at(builder, addresses, number)
            for one, place, mask in zip(added, places, masks, strict=True):
                here = builder.gep(target, [place])
                v.store(v.add(v.load(here, mask), one), here, mask)

    _for_columns(builder, lanes, dim, emit)


def _emit_update(
    builder: ir.IRBuilder, kind: ShapeType, source: ir.Value, outputs: ir.Value, gradient: ir.Value, before: ir.Value,
    after: ir.Value, dim: ir.Value,
) -> None:  # fmt: skip
    lanes, v = kind.shape.lanes, Vectors(builder, kind.shape.lanes)
    source, gradient, before, after = (floats(builder, one) for one in (source, gradient, before, after))
    rows = [row_at(builder, longs(builder, outputs), LONG(k)) for k in range(kind.shape.outputs)]
    factors = [v.splat(builder.load(builder.gep(gradient, [LONG(k)]))) for k in range(kind.shape.outputs)]

    def emit(column: ir.Value, masks: Sequence[ir.Value | None]) -> None:
        places = [[builder.add(column, LONG(u * lanes))] for u in range(len(masks))]
        inputs = [v.load(builder.gep(source, place), mask) for place, mask in zip(places, masks, strict=True)]
        changed = [v.load(builder.gep(before, place), mask) for place, mask in zip(places, masks, strict=True)]
        for factor, one in zip(factors, rows, strict=True):
            for u, (place, mask) in enumerate(zip(places, masks, strict=True)):
                here = builder.gep(one, place)
                old = v.load(here, mask)
                changed[u] = v.multiply_add(factor, old, changed[u])
                v.store(v.multiply_add(factor, inputs[u], old), here, mask)
        for value, place, mask in zip(changed, places, masks, strict=True):
            v.store(value, builder.gep(after, place), mask)

    _for_columns(builder, lanes, dim, emit, widths=(2, 1))


_PLACE = types.int64
# sum_rows(shape, addresses, count, factor, target, dim): target = factor · Σ rows.
sum_rows: Callable[..., None] = instruction(_emit_sum, types.void, None, _PLACE, _PLACE, types.float32, _PLACE, _PLACE)
# add_to_rows(shape, addresses, count, factor, change, dim): each row += factor · change, as often as it is given.
add_to_rows: Callable[..., None] = instruction(
    _emit_add, types.void, None, _PLACE, _PLACE, types.float32, _PLACE, _PLACE
)
# update_outputs(shape, source, outputs, gradient, before, after, dim): the row at `after` becomes that at `before` + Σ
# gradientₖ · outputₖ; each output += gradientₖ · the row at `source`. Outputs' addresses are at `outputs`; all differ.
update_outputs: Callable[..., None] = instruction(_emit_update, types.void, None, *[_PLACE] * 6)
