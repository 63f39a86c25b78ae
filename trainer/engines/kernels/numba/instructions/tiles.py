"""The arithmetic of one window as two instructions of compiled code: gradients of its scores, updates of its rows.

Shapes: C inputs and M outputs of a window, D dimensions. Rows are given by their addresses (int64). Scores and what
becomes of them are COLUMNS to an input, whatever the outputs of a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir
from numba.core import cgutils, types

from trainer.engines.kernels.numba.instructions.simd import LONG, Vectors, floats, longs, loop, row_at
from trainer.engines.kernels.numba.jit import instruction
from trainer.engines.kernels.numba.shape import Shape, ShapeType

COLUMNS = 8


class _Tile:
    """Emits the scores of some inputs with the outputs of a tile, and their gradients."""

    def __init__(self, builder: ir.IRBuilder, shape: Shape, inputs: int) -> None:
        self.builder, self.shape, self.inputs = builder, shape, inputs
        self.vectors = Vectors(builder, shape.lanes)

    def sums(self, rows: list[ir.Value], outputs: list[ir.Value], dim: ir.Value) -> list[list[ir.Value]]:
        """Products of each input and output, their lanes not yet added up."""
        v, b, lanes = self.vectors, self.builder, self.shape.lanes
        slots = [[cgutils.alloca_once(b, v.kind) for _ in outputs] for _ in rows]
        for slot in (slot for line in slots for slot in line):
            b.store(v.constant(0), slot)
        whole = b.and_(dim, LONG(-lanes))
        with loop(b, LONG(0), whole, lanes) as column:
            self._accumulate(rows, outputs, slots, column, None)
        rest = b.sub(dim, whole)
        with b.if_then(b.icmp_signed(">", rest, LONG(0))):
            self._accumulate(rows, outputs, slots, whole, v.first(rest))
        return [[b.load(slot) for slot in line] for line in slots]

    def _accumulate(
        self, rows: list[ir.Value], outputs: list[ir.Value], slots: list[list[ir.Value]], column: ir.Value,
        mask: ir.Value | None,
    ) -> None:  # fmt: skip
        v, b = self.vectors, self.builder
        inputs = [v.load(b.gep(row, [column]), mask) for row in rows]
        for k, output in enumerate(outputs):
            value = v.load(b.gep(output, [column]), mask)
            for c, one in enumerate(inputs):
                b.store(v.multiply_add(one, value, b.load(slots[c][k])), slots[c][k])

    def gradients(
        self, sums: list[list[ir.Value]], place: ir.Value, bias: ir.Value, signs: ir.Value, rate: ir.Value,
        losses: ir.Value,
    ) -> None:  # fmt: skip
        """Store −rate·sign·σ(sign·score) and add to the losses, a register of scores after the other."""
        v, b, lanes = self.vectors, self.builder, self.shape.lanes
        flat = [one for line in sums for one in [*line, *[None] * (COLUMNS - len(line))]]
        flat += [None] * (-len(flat) % lanes)
        valid = self.inputs * COLUMNS
        for first in range(0, len(flat), lanes):
            sign = v.load(b.gep(signs, [LONG(first % COLUMNS)]))
            if valid - first < lanes:  # the rows after the last input have no meaning
                kept = [lane if lane < valid - first else lanes for lane in range(lanes)]
                sign = v.shuffle(sign, v.constant(0), kept)
            here = [LONG(first)]
            # The products with the sign that need no score are taken before there is one: this is a chain of waits.
            signed_bias = v.multiply(v.load(b.gep(bias, here)), sign)
            score = v.fused(v.sums(flat[first : first + lanes]), sign, signed_bias)
            gradient = self._gradient(score, sign, rate, losses)
            v.store(gradient, b.gep(place, here))

    def _gradient(self, score: ir.Value, sign: ir.Value, rate: ir.Value, losses: ir.Value) -> ir.Value:
        """−rate·sign·σ(score); adds to the losses, of which `window.take_losses` tells the terms."""
        v, b = self.vectors, self.builder
        h = v.sigmoid_less_half(score)
        linear, product = losses, b.gep(losses, [LONG(self.shape.lanes)])
        v.store(v.add(v.load(linear), v.positive(score)), linear)
        factor = v.multiply_add(v.absolute(h), v.constant(2), v.constant(1))
        v.store(v.multiply(v.load(product), factor), product)
        weight = b.fneg(v.multiply(sign, v.splat(rate)))
        return v.fused(weight, h, v.multiply(weight, v.constant(0.5)))


def _emit_score(
    builder: ir.IRBuilder, kind: ShapeType, inputs: ir.Value, pairs: ir.Value, outputs: ir.Value, bias: ir.Value,
    signs: ir.Value, rate: ir.Value, gradient: ir.Value, losses: ir.Value, dim: ir.Value,
) -> None:  # fmt: skip
    """Work off the inputs, tile after tile."""
    shape = kind.shape
    inputs, outputs = (longs(builder, address) for address in (inputs, outputs))
    bias, signs, gradient, losses = (floats(builder, address) for address in (bias, signs, gradient, losses))
    output_rows = [row_at(builder, outputs, LONG(k)) for k in range(shape.outputs)]
    done = cgutils.alloca_once_value(builder, LONG(0))
    again, end = builder.append_basic_block("tiles"), builder.append_basic_block("done")
    builder.branch(again)
    builder.position_at_end(again)
    first = builder.load(done)
    left = builder.sub(pairs, first)
    height = builder.select(builder.icmp_signed("<", left, LONG(shape.inputs)), left, LONG(shape.inputs))
    following = builder.append_basic_block("next")
    choice = builder.switch(height, following)
    for rows in range(1, shape.inputs + 1):
        block = builder.append_basic_block(f"rows{rows}")
        choice.add_case(LONG(rows), block)
        builder.position_at_end(block)
        tile = _Tile(builder, shape, rows)
        input_rows = [row_at(builder, inputs, builder.add(first, LONG(c))) for c in range(rows)]
        offset = builder.mul(first, LONG(COLUMNS))
        place, masks = (builder.gep(array, [offset]) for array in (gradient, bias))
        tile.gradients(tile.sums(input_rows, output_rows, dim), place, masks, signs, rate, losses)
        builder.store(builder.add(first, LONG(rows)), done)
        builder.branch(following)
    builder.position_at_end(following)
    builder.cbranch(builder.icmp_signed("<", builder.load(done), pairs), again, end)
    builder.position_at_end(end)


class _Block:
    """Emits the update of some columns: outputs and their sums stay in registers while the inputs stream by."""

    def __init__(self, builder: ir.IRBuilder, shape: Shape, masks: Sequence[ir.Value | None]) -> None:
        """A vector of columns for each mask; None for a whole one."""
        self.builder, self.shape, self.masks = builder, shape, masks
        self.vectors = Vectors(builder, shape.lanes)

    def _each(self, row: ir.Value, column: ir.Value) -> list[tuple[ir.Value, ir.Value]]:
        lanes = self.shape.lanes
        return [
            (self.builder.gep(row, [self.builder.add(column, LONG(u * lanes))]), mask)
            for u, mask in enumerate(self.masks)
        ]

    def load(self, row: ir.Value, column: ir.Value) -> list[ir.Value]:
        return [self.vectors.load(place, mask) for place, mask in self._each(row, column)]

    def store(self, values: list[ir.Value], row: ir.Value, column: ir.Value) -> None:
        for value, (place, mask) in zip(values, self._each(row, column), strict=True):
            self.vectors.store(value, place, mask)

    def emit(
        self, inputs: ir.Value, before: ir.Value, after: ir.Value, pairs: ir.Value, outputs: list[ir.Value],
        gradient: ir.Value, column: ir.Value,
    ) -> None:  # fmt: skip
        """Add to the outputs, and to the rows at `before`, stored at `after`; these and `inputs` are addresses."""
        v, b = self.vectors, self.builder
        old = [self.load(output, column) for output in outputs]
        slots = [[cgutils.alloca_once(b, v.kind) for _ in self.masks] for _ in outputs]
        for line, values in zip(slots, old, strict=True):
            for slot, value in zip(line, values, strict=True):
                b.store(value, slot)
        with loop(b, LONG(0), pairs, 1) as pair:
            values = self.load(row_at(b, inputs, pair), column)
            changed = values if before is inputs else self.load(row_at(b, before, pair), column)
            start = b.mul(pair, LONG(COLUMNS))
            for k, line in enumerate(slots):
                factor = v.splat(b.load(b.gep(gradient, [b.add(start, LONG(k))])))
                changed = [v.multiply_add(factor, o, one) for o, one in zip(old[k], changed, strict=True)]
                for slot, value in zip(line, values, strict=True):
                    b.store(v.multiply_add(factor, value, b.load(slot)), slot)
            self.store(changed, row_at(b, after, pair), column)
        for output, line in zip(outputs, slots, strict=True):
            self.store([b.load(slot) for slot in line], output, column)


def _emit_update_in_place(
    builder: ir.IRBuilder, kind: ShapeType, inputs: ir.Value, pairs: ir.Value, outputs: ir.Value, gradient: ir.Value,
    dim: ir.Value,
) -> None:  # fmt: skip
    _emit_update(builder, kind, inputs, inputs, inputs, pairs, outputs, gradient, dim)


def _emit_update(
    builder: ir.IRBuilder, kind: ShapeType, inputs: ir.Value, before: ir.Value, after: ir.Value, pairs: ir.Value,
    outputs: ir.Value, gradient: ir.Value, dim: ir.Value,
) -> None:  # fmt: skip
    shape = kind.shape
    in_place = before is inputs
    inputs, outputs = (longs(builder, address) for address in (inputs, outputs))
    gradient = floats(builder, gradient)
    before, after = (inputs if in_place else longs(builder, address) for address in (before, after))
    rows = [row_at(builder, outputs, LONG(k)) for k in range(shape.outputs)]
    lanes = shape.lanes
    wide = lanes * shape.vectors
    whole = builder.mul(builder.udiv(dim, LONG(wide)), LONG(wide))

    def emit(masks: Sequence[ir.Value | None], column: ir.Value) -> None:
        _Block(builder, shape, masks).emit(inputs, before, after, pairs, rows, gradient, column)

    with loop(builder, LONG(0), whole, wide) as column:
        emit([None] * shape.vectors, column)
    rest = builder.sub(dim, whole)
    mask = Vectors(builder, lanes).first
    if shape.vectors == 2:
        with builder.if_then(builder.icmp_signed(">", rest, LONG(lanes))):
            emit([None, mask(builder.sub(rest, LONG(lanes)))], whole)
        one = builder.and_(builder.icmp_signed(">", rest, LONG(0)), builder.icmp_signed("<=", rest, LONG(lanes)))
    else:
        one = builder.icmp_signed(">", rest, LONG(0))
    with builder.if_then(one):
        emit([mask(rest)], whole)


_PLACE = types.int64
score: Callable[..., None] = instruction(_emit_score, types.void, None, *[_PLACE] * 5, types.float32, *[_PLACE] * 3)
update: Callable[..., None] = instruction(_emit_update_in_place, types.void, None, *[_PLACE] * 5)
update_between: Callable[..., None] = instruction(_emit_update, types.void, None, *[_PLACE] * 7)
