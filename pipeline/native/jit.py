"""Numba's compiler with the settings that every loop over bytes, tokens or pairs here shares.

Only the modules with such loops import this one, so that a reader of datasets does not need Numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

F = TypeVar("F", bound=Callable[..., object])

#: Numba's int() leaves an unsigned operand unsigned, and unsigned with signed makes a float there; this does not.
as_int: Callable[[Any], Any] = np.int64


def compiled(function: F) -> F:
    """Compile ``function``; it runs without the interpreter lock, and the machine code is cached on disk."""
    return _jit(function, boundscheck=False)


def inlined(function: F) -> F:
    """Compile a helper into its callers, for those too small to pay for a call."""
    return _jit(function, inline="always")


def _jit(function: F, **settings: object) -> F:
    settings |= {"nogil": True, "error_model": "numpy"}
    try:
        wrapped: F = numba.njit(cache=True, **settings)(function)
    except RuntimeError:  # neither this folder nor the user's can be written, as in some containers
        wrapped = numba.njit(**settings)(function)
    return wrapped
