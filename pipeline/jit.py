"""Numba's compiler with the settings that every loop over bytes, tokens or pairs here shares.

Only the modules with such loops import this one, so that a reader of datasets does not need Numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

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
