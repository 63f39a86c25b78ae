"""Vectors in LLVM's language: what emits the arithmetic of the compiled step.

Plain loops over rows of about a hundred floats lose half of the time to checks for overlap, scalar remainders and
scalar exponentials; here each vector is a value, held in a register.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from llvmlite import ir
from numba.core import cgutils

FLOAT, WORD, LONG = ir.FloatType(), ir.IntType(32), ir.IntType(64)
FLOAT_BYTES = 4  # rows start anywhere: loads and stores must not count on more
CHUNK = 4  # floats of 128 bits: what instructions shuffle cheaply
FUSE = ("contract",)  # licence for one instruction that multiplies and adds; sums keep their order, NaN stays NaN

# σ(x) − ½ = x·A(x²)/B(x²), the minimax fit on ±SIGMOID_LIMIT, beyond which it is ±½ within 2e-7.
SIGMOID_LIMIT = 16.0
SIGMOID_ABOVE = (
    0.24999999249516086, 0.008398867973251501, 5.568989545852112e-05, 8.505156191562412e-08, 1.4708736701601507e-11,
)  # fmt: skip
SIGMOID_BELOW = (
    1.0, 0.11692877382986593, 0.0016335003088167393, 5.311210630177172e-06, 3.30220150045997e-09,
)  # fmt: skip


class Vectors:
    """Emits operations on vectors of `lanes` floats."""

    def __init__(self, builder: ir.IRBuilder, lanes: int) -> None:
        self.builder, self.lanes = builder, lanes
        self.kind = ir.VectorType(FLOAT, lanes)
        self.words = ir.VectorType(WORD, lanes)

    def constant(self, value: float) -> ir.Value:
        """The same number in each lane."""
        return self.pattern([value] * self.lanes)

    def pattern(self, values: Sequence[float]) -> ir.Value:
        """Given numbers, one a lane."""
        return ir.Constant(self.kind, [ir.Constant(FLOAT, _to_float32(value)) for value in values])

    def splat(self, value: ir.Value) -> ir.Value:
        """A float of the compiled code in each lane."""
        return self._spread(value, self.kind)

    def _spread(self, value: ir.Value, kind: ir.Type) -> ir.Value:
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, WORD(0))
        return self.builder.shuffle_vector(one, one, ir.Constant(self.words, [0] * self.lanes))

    def first(self, count: ir.Value) -> ir.Value:
        """A mask of the first so many lanes (int64)."""
        lanes = ir.Constant(self.words, list(range(self.lanes)))
        return self.builder.icmp_unsigned("<", lanes, self._spread(self.builder.trunc(count, WORD), self.words))

    def load(self, pointer: ir.Value, mask: ir.Value | None = None) -> ir.Value:
        """Floats from a pointer on; where a mask is given and not set, 0."""
        pointer = self.builder.bitcast(pointer, self.kind.as_pointer())
        if mask is None:
            return self.builder.load(pointer, align=FLOAT_BYTES)
        arguments = [pointer, WORD(FLOAT_BYTES), mask, self.constant(0)]
        return self._call(f"llvm.masked.load.v{self.lanes}f32.p0", self.kind, arguments)

    def store(self, value: ir.Value, pointer: ir.Value, mask: ir.Value | None = None) -> None:
        """Put floats from a pointer on; where a mask is given, those that are set."""
        pointer = self.builder.bitcast(pointer, self.kind.as_pointer())
        if mask is None:
            self.builder.store(value, pointer, align=FLOAT_BYTES)
        else:
            arguments = [value, pointer, WORD(FLOAT_BYTES), mask]
            self._call(f"llvm.masked.store.v{self.lanes}f32.p0", ir.VoidType(), arguments)

    def _call(self, name: str, result: ir.Type, arguments: list[ir.Value]) -> ir.Value:
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)

    def multiply(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.fmul(a, b, flags=FUSE)

    def add(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.fadd(a, b, flags=FUSE)

    def multiply_add(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """a·b + c, in one instruction where there is one."""
        return self.add(self.multiply(a, b), c)

    def fused(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """a·b + c as multiply_add, where c is a product too, and is to be one before a·b is known."""
        return self._call(f"llvm.fmuladd.v{self.lanes}f32", self.kind, [a, b, c])

    def absolute(self, a: ir.Value) -> ir.Value:
        return self._call(f"llvm.fabs.v{self.lanes}f32", self.kind, [a])

    def positive(self, a: ir.Value) -> ir.Value:
        """max(a, 0); NaN stays NaN."""
        return self.builder.select(self.builder.fcmp_ordered("<", a, self.constant(0)), self.constant(0), a)

    def sigmoid_less_half(self, a: ir.Value) -> ir.Value:
        """σ(a) − ½ as a rational function, within 2e-7; NaN stays NaN."""
        clipped = a
        for compare, limit in (("<", -SIGMOID_LIMIT), (">", SIGMOID_LIMIT)):
            bound = self.constant(limit)
            clipped = self.builder.select(self.builder.fcmp_ordered(compare, clipped, bound), bound, clipped)
        square = self.multiply(clipped, clipped)
        above, below = (self._polynomial(square, coefficients) for coefficients in (SIGMOID_ABOVE, SIGMOID_BELOW))
        return self.builder.fdiv(self.multiply(clipped, above), below)

    def _polynomial(self, a: ir.Value, coefficients: Sequence[float]) -> ir.Value:
        """Estrin's scheme, in three steps where Horner's takes four: nothing else is there to do meanwhile."""
        zeroth, first, second, third, fourth = map(self.constant, coefficients)
        square = self.multiply(a, a)
        low, high = self.multiply_add(first, a, zeroth), self.multiply_add(third, a, second)
        return self.multiply_add(self.multiply_add(fourth, square, high), square, low)

    def sums(self, vectors: Sequence[ir.Value]) -> ir.Value:
        """Lane i of the result is the sum of the lanes of vector i; there are as many as lanes, None for a zero.

        A tree of transposes: first within 128 bits, then across, each step halving the vectors.
        """
        left = list(vectors)
        for low, high in self._folds():
            left = [self._fold(left[i], left[i + 1], low, high) for i in range(0, len(left), 2)]
        (total,) = left
        return self.constant(0) if total is None else total

    def _folds(self) -> list[tuple[list[int], list[int]]]:
        """For each level, which lanes of two vectors are added to which."""
        lanes, chunks = self.lanes, range(self.lanes // CHUNK)
        unpack = [lane for c in chunks for lane in (CHUNK * c, lanes + CHUNK * c, CHUNK * c + 1, lanes + CHUNK * c + 1)]
        move = [lane for c in chunks for lane in (CHUNK * c, CHUNK * c + 1, lanes + CHUNK * c, lanes + CHUNK * c + 1)]
        folds = [(low, [lane + 2 for lane in low]) for low in (unpack, move)]
        if len(chunks) == 4:
            folds.append((self._chunks(0, 1, 4, 5), self._chunks(2, 3, 6, 7)))
            folds.append((self._chunks(0, 2, 4, 6), self._chunks(1, 3, 5, 7)))
        elif len(chunks) == 2:
            folds.append((self._chunks(0, 2), self._chunks(1, 3)))
        return folds

    def _chunks(self, *numbers: int) -> list[int]:
        return [CHUNK * number + lane for number in numbers for lane in range(CHUNK)]

    def _fold(self, a: ir.Value, b: ir.Value, low: list[int], high: list[int]) -> ir.Value:
        if a is None and b is None:
            return None
        a, b = (self.constant(0) if one is None else one for one in (a, b))
        return self.add(self.shuffle(a, b, low), self.shuffle(a, b, high))

    def shuffle(self, a: ir.Value, b: ir.Value, lanes: list[int]) -> ir.Value:
        """The named lanes of a, and of b from number `lanes` on."""
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(WORD, len(lanes)), lanes))


def _to_float32(value: float) -> float:
    import numpy as np

    return float(np.float32(value))


def floats(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    return builder.inttoptr(address, FLOAT.as_pointer())


def longs(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    return builder.inttoptr(address, LONG.as_pointer())


def row_at(builder: ir.IRBuilder, addresses: ir.Value, number: ir.Value) -> ir.Value:
    return floats(builder, builder.load(builder.gep(addresses, [number])))


@contextmanager
def loop(builder: ir.IRBuilder, start: ir.Value, stop: ir.Value, step: int) -> Iterator[ir.Value]:
    with cgutils.for_range_slice(builder, start, stop, LONG(step), LONG) as (index, _):
        yield index
