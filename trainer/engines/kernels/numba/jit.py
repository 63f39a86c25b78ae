"""Numba with this project's settings, typed so that call sites stay checked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., Any])

# Licence to reorder sums and fuse multiply-add. Not `nnan` and `ninf`: a NaN must come out as a NaN, so that
# training can stop on it.
REORDER = frozenset({"reassoc", "contract", "arcp", "nsz"})
# Fuse multiply-add, keep the order: for code that compensates its own rounding.
IN_ORDER = frozenset({"contract", "nsz"})


def jit(
    fastmath: frozenset[str] = IN_ORDER, *, allocates: bool = False, cache: bool = False
) -> Callable[[Function], Function]:
    """Compile at the first call; the GIL is released while it runs.

    Args:
        fastmath: LLVM's fast-math flags, `REORDER` or `IN_ORDER`.
        allocates: makes arrays. Otherwise no references are counted: that takes atomic instructions, each of which
            waits until all stores before it are done, and a loop over windows loses a third of its speed to them.
        cache: keep the compiled code on disk. For functions that are called from outside: what they call is
            compiled into them.
    """

    def decorate(function: Function) -> Function:
        options = {
            "nogil": True,
            "forceinline": True,  # a call passes each array as seven numbers: 1.25 times slower in all
            "boundscheck": False,
            "error_model": "numpy",
            "fastmath": set(fastmath),
            "_nrt": allocates,
        }
        try:
            return cast(Function, numba.njit(cache=cache, **options)(function))
        except RuntimeError:  # no folder to write a cache to
            return cast(Function, numba.njit(**options)(function))

    return decorate


def source_digest() -> int:
    """A number that changes with any file of this folder.

    Numba's cache sees changes to a function's own file only, but its key holds the values that a function closes
    over: one that closes over this number is compiled again when what it calls has changed.
    """
    folder = Path(__file__).parent
    text = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little")


def _prefetch_for(write: int) -> Callable[[int], None]:
    def prefetch(_context: Any, address: Any) -> Any:
        def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            word = ir.IntType(32)
            pointer = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
            kind = ir.FunctionType(ir.VoidType(), [pointer.type, word, word, word])
            instruction = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], kind)
            into_nearest_cache, data = word(3), word(1)
            builder.call(instruction, [pointer, word(write), into_nearest_cache, data])
            return context.get_dummy_value()

        return types.void(types.int64), emit

    return cast(Callable[[int], None], intrinsic(prefetch))


# Ask for the 64-byte line at an address (int64) ahead of its use; for compiled code only. One that will be changed is
# asked for alone: another core that had it would have to be told at the first change, and threads share rows.
prefetch, prefetch_to_write = _prefetch_for(0), _prefetch_for(1)
