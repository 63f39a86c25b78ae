"""Ids looked at SEEN at a time, as one vector: how long a run of equal ones is, and where the rows of a window are."""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba.core import types

from trainer.engines.kernels.numba.instructions.simd import LONG, WORD
from trainer.engines.kernels.numba.jit import instruction

SEEN = 16  # ids that are looked at together
ID_BYTES = 4
_IDS, _LONGS = ir.VectorType(WORD, SEEN), ir.VectorType(LONG, SEEN)


def _load_ids(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    return builder.load(builder.inttoptr(address, _IDS.as_pointer()), align=4)


def _each_lane(builder: ir.IRBuilder, value: ir.Value, kind: ir.Type) -> ir.Value:
    value = builder.trunc(value, WORD) if kind is _IDS else value
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, WORD(0))
    return builder.shuffle_vector(one, one, ir.Constant(_IDS, [0] * SEEN))


def _run_length(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    ids = _load_ids(builder, address)
    first = builder.shuffle_vector(ids, ids, ir.Constant(_IDS, [0] * SEEN))
    others = builder.bitcast(builder.icmp_signed("!=", ids, first), ir.IntType(SEEN))
    ends = builder.or_(builder.zext(others, LONG), LONG(1 << SEEN))
    return builder.cttz(ends, ir.IntType(1)(0))


def _place(
    builder: ir.IRBuilder, addresses: ir.Value, ids: ir.Value, count: ir.Value, base: ir.Value, row_bytes: ir.Value,
    nowhere: ir.Value,
) -> ir.Value:  # fmt: skip
    lanes = ir.Constant(_IDS, list(range(SEEN)))
    inside = builder.icmp_signed("<", lanes, _each_lane(builder, count, _IDS))
    # Other numbers in the lanes that do not count, so that they are equal to nothing.
    rows = builder.select(inside, _load_ids(builder, ids), ir.Constant(_IDS, [-2 - i for i in range(SEEN)]))
    # Of numbers below 2³² a product takes one instruction. What the negative ones give is not used.
    wide = builder.mul(builder.zext(rows, _LONGS), builder.zext(_each_lane(builder, row_bytes, _IDS), _LONGS))
    wide = builder.add(wide, _each_lane(builder, base, _LONGS))
    there = builder.icmp_signed(">=", rows, ir.Constant(_IDS, [0] * SEEN))
    wide = builder.select(there, wide, _each_lane(builder, nowhere, _LONGS))
    builder.store(wide, builder.inttoptr(addresses, _LONGS.as_pointer()), align=8)
    absent = builder.icmp_signed("==", rows, ir.Constant(_IDS, [-1] * SEEN))
    return _any(builder, builder.or_(absent, _equal(builder, rows)))


def _equal(builder: ir.IRBuilder, ids: ir.Value) -> ir.Value:
    """For each lane, whether it is equal to another: turned half around, each has met all others."""
    found = None
    for turn in range(1, SEEN // 2 + 1):
        turned = builder.shuffle_vector(ids, ids, ir.Constant(_IDS, [(i + turn) % SEEN for i in range(SEEN)]))
        equal = builder.icmp_signed("==", ids, turned)
        found = equal if found is None else builder.or_(found, equal)
    return found


def _any(builder: ir.IRBuilder, lanes: ir.Value) -> ir.Value:
    return builder.icmp_unsigned("!=", builder.bitcast(lanes, ir.IntType(SEEN)), ir.IntType(SEEN)(0))


# How many of the SEEN ids (int32, from an address on) are equal to the first before one differs.
run_length: Callable[[int], int] = instruction(_run_length, types.int64, types.int64)
# place(addresses, ids, count, base, row_bytes, nowhere): write SEEN addresses, base + id·row_bytes of the first
# `count` ids and `nowhere` for those that are −1 or follow; tell whether one is −1 or two are equal. SEEN ids must be
# there to read.
place: Callable[..., bool] = instruction(_place, types.boolean, *[types.int64] * 6)
