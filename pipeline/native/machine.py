"""What the machine can do and Numba has no name for: words and blocks of bytes, bit scans, wide products.

A block is 64 bytes. A mask of a block is a uint64 whose bit k says something of byte k. Loads may start anywhere, but
must end inside the array: texts that these functions read have PADDING bytes after their end.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

BLOCK = 64
#: Bytes of a word.
WORD = 8
#: Bytes after a text's end that may be read (and mean nothing).
PADDING = BLOCK

#: Numbers of 32 bits that are copied at once.
SEVERAL = 8

_BYTE, _WORD = ir.IntType(8), ir.IntType(64)
_BYTES = ir.VectorType(_BYTE, BLOCK)
_DEFINED = ir.Constant(ir.IntType(1), 0)  # a word without a bit set has an answer too

Node = Any  # of Numba and llvmlite, whose objects have no types


def _multiply_high(_context: Node, _a: Node, _b: Node) -> Node:
    def emit(_context: Node, builder: Node, _signature: Node, arguments: Node) -> Node:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), _WORD)

    return types.uint64(types.uint64, types.uint64), emit


def _bits(instruction: str, *flag: Node) -> Node:
    """Make the function of a word that one of the machine's instructions is."""

    def typed(_context: Node, _word: Node) -> Node:
        def emit(_context: Node, builder: Node, _signature: Node, arguments: Node) -> Node:
            return getattr(builder, instruction)(arguments[0], *flag)

        return types.int64(types.uint64), emit

    return typed


def _address(context: Node, builder: Node, array_type: Node, array: Node, index: Node) -> Node:
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def _load_word(_context: Node, array: Node, _index: Node) -> Node:
    def emit(context: Node, builder: Node, signature: Node, arguments: Node) -> Node:
        place = _address(context, builder, signature.args[0], *arguments)
        return builder.load(builder.bitcast(place, _WORD.as_pointer()), align=1)

    return types.uint64(array, types.int64), emit


def _prefetch(_context: Node, array: Node, _index: Node) -> Node:
    def emit(context: Node, builder: Node, signature: Node, arguments: Node) -> Node:
        place = _address(context, builder, signature.args[0], *arguments)
        number = ir.IntType(32)
        pointer = builder.bitcast(place, _BYTE.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, number, number, number])
        instruction = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], kind)
        read, into_nearest_cache, data = number(0), number(3), number(1)
        builder.call(instruction, [pointer, read, into_nearest_cache, data])
        return context.get_dummy_value()

    return types.void(array, types.int64), emit


def _load_block(context: Node, builder: Node, array_type: Node, array: Node, index: Node) -> Node:
    place = _address(context, builder, array_type, array, index)
    return builder.load(builder.bitcast(place, _BYTES.as_pointer()), align=1)


def _splat(value: int) -> Node:
    return ir.Constant(_BYTES, [value & 0xFF] * BLOCK)


def _in_range(builder: Node, block: Node, first: int, count: int) -> Node:
    """Bytes from ``first`` on, ``count`` of them: one subtraction and one unsigned comparison."""
    return builder.icmp_unsigned("<", builder.sub(block, _splat(first)), _splat(count))


def _letter(builder: Node, block: Node) -> Node:
    return _in_range(builder, builder.or_(block, _splat(0x20)), ord("a"), 26)


def _digit(builder: Node, block: Node) -> Node:
    return _in_range(builder, block, ord("0"), 10)


def _space(builder: Node, block: Node) -> Node:
    controls = builder.or_(_in_range(builder, block, 0x09, 5), _in_range(builder, block, 0x1C, 4))
    return builder.or_(controls, builder.icmp_unsigned("==", block, _splat(0x20)))


def _feed(builder: Node, block: Node) -> Node:
    return builder.icmp_unsigned("==", block, _splat(0x0A))


def _is_any(characters: str) -> Callable[[Node, Node], Node]:
    """Make the question whether a byte is one of some characters."""

    def question(builder: Node, block: Node) -> Node:
        equal = [builder.icmp_unsigned("==", block, _splat(ord(one))) for one in characters]
        return functools.reduce(builder.or_, equal)

    return question


def _foreign(builder: Node, block: Node) -> Node:
    return builder.icmp_signed("<", block, _splat(0))


def _continuation(builder: Node, block: Node) -> Node:
    return builder.icmp_signed("<", block, _splat(0xC0))


def _mask_of(question: Callable[[Node, Node], Node]) -> Callable[[Node, int], np.uint64]:
    """Make the compiled function (array, index) → mask of the block there."""

    def mask(_context: Node, array: Node, _index: Node) -> Node:
        def emit(context: Node, builder: Node, signature: Node, arguments: Node) -> Node:
            block = _load_block(context, builder, signature.args[0], *arguments)
            return builder.bitcast(question(builder, block), _WORD)

        return types.uint64(array, types.int64), emit

    return cast(Callable[[Node, int], np.uint64], intrinsic(mask))


def _lower_block(_context: Node, source: Node, _index: Node, target: Node, _position: Node) -> Node:
    def emit(context: Node, builder: Node, signature: Node, arguments: Node) -> Node:
        block = _load_block(context, builder, signature.args[0], *arguments[:2])
        capital = _in_range(builder, block, ord("A"), 26)
        lower = builder.select(capital, builder.or_(block, _splat(0x20)), block)
        place = _address(context, builder, signature.args[2], *arguments[2:])
        builder.store(lower, builder.bitcast(place, _BYTES.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(source, types.int64, target, types.int64), emit


_NUMBER = ir.IntType(32)
_NUMBERS = ir.VectorType(_NUMBER, SEVERAL)


def _copy_several(_context: Node, source: Node, _index: Node, target: Node, _position: Node) -> Node:
    def emit(context: Node, builder: Node, signature: Node, arguments: Node) -> Node:
        found = _address(context, builder, signature.args[0], *arguments[:2])
        numbers = builder.load(builder.bitcast(found, _NUMBERS.as_pointer()), align=4)
        place = _address(context, builder, signature.args[2], *arguments[2:])
        builder.store(numbers, builder.bitcast(place, _NUMBERS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(source, types.int64, target, types.int64), emit


def _fill_several(_context: Node, _number: Node, target: Node, _position: Node) -> Node:
    def emit(context: Node, builder: Node, signature: Node, arguments: Node) -> Node:
        one = builder.insert_element(ir.Constant(_NUMBERS, ir.Undefined), arguments[0], _NUMBER(0))
        lanes = ir.Constant(_NUMBERS, [0] * SEVERAL)
        numbers = builder.shuffle_vector(one, ir.Constant(_NUMBERS, ir.Undefined), lanes)
        place = _address(context, builder, signature.args[1], *arguments[1:])
        builder.store(numbers, builder.bitcast(place, _NUMBERS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(types.int32, target, types.int64), emit


# multiply_high(a, b): upper 64 bits of the product of two uint64
multiply_high = cast(Callable[[Node, Node], np.uint64], intrinsic(_multiply_high))
# trailing_zeros(word): index of the lowest bit that is set, 64 for none
trailing_zeros = cast(Callable[[Node], int], intrinsic(_bits("cttz", _DEFINED)))
# leading_zeros(word): how many bits are above the highest that is set, 64 for none
leading_zeros = cast(Callable[[Node], int], intrinsic(_bits("ctlz", _DEFINED)))
# count_ones(word): how many bits are set
count_ones = cast(Callable[[Node], int], intrinsic(_bits("ctpop")))
# load_word(array, index): eight bytes of a uint8 array from there on, the first one lowest
load_word = cast(Callable[[Node, int], np.uint64], intrinsic(_load_word))
# prefetch(array, index): ask for the item's cache line ahead of its use
prefetch = cast(Callable[[Node, int], None], intrinsic(_prefetch))
# Masks of the 64 bytes of a uint8 array from an index on: ASCII letters, digits, what str.split() splits at,
# line feeds, apostrophes, double quotes; bytes that are no ASCII, those that continue a character of UTF-8; and what
# UAX #29 lets stand between two letters, or two digits.
letters, digits, spaces = _mask_of(_letter), _mask_of(_digit), _mask_of(_space)
feeds, quotes, foreign = _mask_of(_feed), _mask_of(_is_any("'")), _mask_of(_foreign)
continuations = _mask_of(_continuation)
double_quotes = _mask_of(_is_any('"'))
mid_letters, mid_digits = _mask_of(_is_any("'.:")), _mask_of(_is_any("'.,;"))
# lower_block(source, index, target, position): copy 64 bytes, A–Z in lower case
lower_block = cast(Callable[[Node, int, Node, int], None], intrinsic(_lower_block))
# copy_several(source, index, target, position): copy SEVERAL int32 from there on to there
copy_several = cast(Callable[[Node, int, Node, int], None], intrinsic(_copy_several))
# fill_several(number, target, position): write an int32 SEVERAL times
fill_several = cast(Callable[[int, Node, int], None], intrinsic(_fill_several))
