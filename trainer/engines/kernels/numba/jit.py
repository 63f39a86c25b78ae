"""Numba with this project's settings, typed so that call sites stay checked."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import types
from numba.core.base import BaseContext
from numba.core.typing import Signature
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., Any])

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint32]
Id: TypeAlias = int | np.int64
Rates: TypeAlias = tuple[float, float]  # at pair 0, and its change a pair
Where: TypeAlias = tuple[int, int, int, int]  # first input row, first output row, bytes from row to row, D


class Step(NamedTuple):
    """What a step is, the same for all of a training.

    Attributes:
        negatives: K, drawn for each window.
        longest: pairs after which a window is cut.
        redraw_output: whether a negative equal to the window's word is drawn again.
        redraw_input: whether one equal to its first input is.
        mask_input: whether a negative counts for no pair whose input it is.
        mean: CBOW: whether a window's input is the mean of its rows, otherwise their sum.
    """

    negatives: int
    longest: int
    redraw_output: bool
    redraw_input: bool
    mask_input: bool
    mean: bool = True


# Licence to reorder sums and fuse multiply-add. Not `nnan` and `ninf`: a NaN must come out as a NaN, so that
# training can stop on it.
REORDER = frozenset({"reassoc", "contract", "arcp", "nsz"})
# Fuse multiply-add, keep the order: for code that compensates its own rounding.
IN_ORDER = frozenset({"contract", "nsz"})


def jit(
    fastmath: frozenset[str] = IN_ORDER, *, allocates: bool = False, cache: bool = False, inline: bool = False
) -> Callable[[Function], Function]:
    """Compile at the first call; the GIL is released while it runs.

    Args:
        fastmath: LLVM's fast-math flags, `REORDER` or `IN_ORDER`.
        allocates: makes arrays. Otherwise no references are counted: that takes atomic instructions, each of which
            waits until all stores before it are done, and a loop over windows loses a third of its speed to them.
        cache: keep the compiled code on disk. For functions that are called from Python, which no others can be: what
            they call is compiled into them.
        inline: copy it into its caller before that is compiled: a function called in one place is optimized once.
    """

    def decorate(function: Function) -> Function:
        options = {
            "nogil": True,
            "forceinline": True,  # a call passes each array as seven numbers: 1.25 times slower in all
            "boundscheck": False,
            "error_model": "numpy",
            "fastmath": set(fastmath),
            "_nrt": allocates,
            "no_cpython_wrapper": not cache,
            "no_cfunc_wrapper": True,
            "inline": "always" if inline else "never",
        }
        try:
            return cast(Function, numba.njit(cache=cache, **options)(function))
        except RuntimeError:  # no folder to write a cache to
            return cast(Function, numba.njit(**options)(function))

    return decorate


def source_digest() -> int:
    """A number that changes with any file of this folder and those in it.

    Numba's cache sees changes to a function's own file only, but its key holds the values that a function closes
    over: one that closes over this number is compiled again when what it calls has changed.
    """
    folder = Path(__file__).parent
    text = b"".join(path.read_bytes() for path in sorted(folder.rglob("*.py")))
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little")


def instruction(emit: Callable[..., ir.Value], result: types.Type, *kinds: types.Type | None) -> Callable[..., Any]:
    """An instruction for compiled code alone.

    Args:
        emit: called with a builder and the arguments, writes it; returns its value, None where it has none.
        result: its type.
        kinds: what the arguments are taken as; where one is None, `emit` gets the type of what is given, a Shape's.
    """

    def typing(_context: BaseContext, *given: types.Type) -> tuple[Signature, Callable[..., ir.Value]]:
        def lower(context: BaseContext, builder: ir.IRBuilder, _: Signature, values: Sequence[ir.Value]) -> ir.Value:
            passed = [one if kind is None else value for kind, one, value in zip(kinds, given, values, strict=True)]
            value = emit(builder, *passed)
            return context.get_dummy_value() if value is None else value

        return result(*[kind or one for kind, one in zip(kinds, given, strict=True)]), lower

    # Numba matches arguments by the names of parameters, and would make one tuple of what a starred one takes.
    names = ["context", *(f"argument{number}" for number in range(len(kinds)))]
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    typing.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return cast(Callable[..., Any], intrinsic(typing))


def _prefetch_for(write: int) -> Callable[[Id], None]:
    def emit(builder: ir.IRBuilder, address: ir.Value) -> None:
        word = ir.IntType(32)
        pointer = builder.inttoptr(address, ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, word, word, word])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], kind)
        into_nearest_cache, data = word(3), word(1)
        builder.call(prefetch, [pointer, word(write), into_nearest_cache, data])

    return instruction(emit, types.void, types.int64)


# Ask for the 64-byte line at an address (int64) ahead of its use; for compiled code only. One that will be changed is
# asked for alone: another core that had it would have to be told at the first change, and threads share rows.
prefetch, prefetch_to_write = _prefetch_for(0), _prefetch_for(1)
