"""Numba's compiler with the settings that every loop over bytes, tokens or pairs here shares.

Only the modules with such loops import this one, so that a reader of datasets does not need Numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])

#: Numba's int() leaves an unsigned operand unsigned, and unsigned with signed makes a float there; this does not.
as_int: Callable[[Any], Any] = np.int64


def compiled(function: F) -> F:
    """Compile ``function``; it runs without the interpreter lock, and the machine code is cached on disk."""
    wrapped: F = numba.njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")(function)
    return wrapped


def inlined(function: F) -> F:
    """Compile a helper into its callers, for those too small to pay for a call."""
    wrapped: F = numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")(function)
    return wrapped


def _multiply_high(typing_context: Any, a: Any, b: Any) -> Any:
    """Upper 64 bits of the product of two uint64: one instruction that Numba has no name for."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


multiply_high: Callable[[Any, Any], Any] = intrinsic(_multiply_high)
