"""What the compiled step is built for: floats of a vector, rows of a tile.

A Shape goes along as an argument whose Numba type holds its numbers: each shape is compiled, and cached, apart.
"""

from __future__ import annotations

import functools
import platform
from dataclasses import dataclass

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import types
from numba.core.datamodel import models, register_default
from numba.core.pythonapi import PythonAPI
from numba.extending import NativeValue, overload_attribute, typeof_impl, unbox

MAX_OUTPUTS = 6


@dataclass(frozen=True)
class Shape:
    """Sizes that the code is unrolled by; the registers of a processor bound them.

    Attributes:
        lanes: floats of a vector: 4, 8 or 16.
        inputs: rows of a tile of scores.
        outputs: its columns, at most MAX_OUTPUTS.
        vectors: of a row, that an update keeps in registers for each output.
    """

    lanes: int
    inputs: int
    outputs: int
    vectors: int


def shape_for(outputs: int, lanes: int | None = None, registers: int | None = None) -> Shape:
    """The shape for windows of ``outputs`` outputs (its word and K negatives).

    They are spread over as few tiles as they need, evenly.

    Args:
        outputs: at least 1.
        lanes: by default as many floats as a register of this processor holds.
        registers: vector registers, by default those of this processor.
    """
    lanes = lanes or host_lanes()
    registers = registers or host_registers(lanes)
    tiles = -(-outputs // MAX_OUTPUTS)
    columns = -(-outputs // tiles)
    wide = registers >= 32
    # A tile keeps inputs·outputs sums, its inputs and one output in registers; an update outputs and their sums.
    return Shape(lanes, inputs=4 if wide else 2, outputs=columns, vectors=2 if wide else 1)


@functools.lru_cache
def host_lanes() -> int:
    """Floats of a vector register: 16 with AVX-512, 8 with AVX, otherwise 4."""
    features = llvm.get_host_cpu_features()
    return 16 if features.get("avx512f") else 8 if features.get("avx") else 4


def host_registers(lanes: int) -> int:
    """Vector registers: 32 with AVX-512 and on ARM, otherwise 16."""
    return 32 if lanes == 16 or platform.machine() in ("aarch64", "arm64") else 16


class ShapeType(types.Type):
    """Numba's type of one Shape."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        super().__init__(name=str(shape))


@typeof_impl.register(Shape)  # type: ignore[untyped-decorator]
def _typeof(shape: Shape, _context: object) -> ShapeType:
    return ShapeType(shape)


@register_default(ShapeType)
class _NoValue(models.OpaqueModel):  # type: ignore[misc]
    """All that there is to know is in the type."""


@unbox(ShapeType)  # type: ignore[untyped-decorator]
def _unbox(_type: ShapeType, _object: object, context: PythonAPI) -> NativeValue:
    return NativeValue(ir.Constant(context.context.get_value_type(_type), None))


def _constant(name: str) -> None:
    @overload_attribute(ShapeType, name)
    def get(shape):  # type: ignore[no-untyped-def]  # Numba compares the signatures, annotations too
        value = getattr(shape.shape, name)
        return lambda shape: value


for _name in ("lanes", "inputs", "outputs", "vectors"):
    _constant(_name)
