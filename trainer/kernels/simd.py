"""Vectors of LANES floats as values of compiled code: held in registers, no loop for the compiler to guess about.

A loop that LLVM vectorises by itself checks for overlap of its arrays each time and ends in a scalar remainder;
on rows of about a hundred floats that costs as much as the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models, register_default
from numba.extending import intrinsic

# As many as a register holds; without AVX-512 eight, a register of AVX2 and two of NEON.
LANES = 16 if llvm.get_host_cpu_features().get("avx512f") else 8

_FLOAT, _WORD = ir.FloatType(), ir.IntType(32)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_FLOAT_BYTES = 4  # rows start anywhere: loads and stores must not count on more


class VectorType(types.Type):
    """Numba's name for the type."""

    def __init__(self) -> None:
        super().__init__(name=f"Vector{LANES}")


vector = VectorType()


@register_default(VectorType)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, _VECTOR)


def _address(context: Any, builder: Any, array_type: Any, array: Any, row: Any, column: Any) -> Any:
    view = context.make_array(array_type)(context, builder, array)
    columns = cgutils.unpack_tuple(builder, view.shape)[1]
    position = builder.add(builder.mul(row, columns), column)
    return builder.bitcast(builder.gep(view.data, [position]), _VECTOR.as_pointer())


def _load(_context: Any, array: Any, _row: Any, _column: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_address(context, builder, signature.args[0], *arguments), align=_FLOAT_BYTES)

    return vector(array, types.int64, types.int64), emit


def _store(_context: Any, array: Any, _row: Any, _column: Any, _value: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *place, value = arguments
        builder.store(value, _address(context, builder, signature.args[0], *place), align=_FLOAT_BYTES)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, vector), emit


def _splat(_context: Any, _value: Any) -> Any:
    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), arguments[0], _WORD(0))
        return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_WORD, LANES), [0] * LANES))

    return vector(types.float32), emit


def _multiply_add(_context: Any, _a: Any, _b: Any, _c: Any) -> Any:
    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        a, b, c = arguments
        return builder.fadd(builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))

    return vector(vector, vector, vector), emit


def _total(_context: Any, _value: Any) -> Any:
    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_FLOAT, [_FLOAT, _VECTOR])
        reduce = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{LANES}f32")
        return builder.call(reduce, [_FLOAT(0.0), arguments[0]], fastmath=("reassoc",))

    return types.float32(vector), emit


# load(array_2d, row, column): LANES floats from there on; all float32 and C-contiguous.
load = cast(Callable[[Any, int, int], Any], intrinsic(_load))
# store(array_2d, row, column, vector)
store = cast(Callable[[Any, int, int, Any], None], intrinsic(_store))
# splat(float32): the same number in each lane
splat = cast(Callable[[Any], Any], intrinsic(_splat))
# multiply_add(a, b, c): a·b + c, in one instruction where there is one
multiply_add = cast(Callable[[Any, Any, Any], Any], intrinsic(_multiply_add))
# total(vector): the sum of its lanes
total = cast(Callable[[Any], Any], intrinsic(_total))
