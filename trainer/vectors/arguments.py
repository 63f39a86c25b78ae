"""The arguments of the methods on vectors: tokens, indexes, vectors, lists of them, weights and sizes.

Every wrong argument is refused here, with the method's name, what was found and what was expected.

Shapes: D dimensions, N parts of a query.
"""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Iterable
from typing import TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt

from trainer.vectors.search import Doubles

Key: TypeAlias = str | int  # a token, or its index
Vector: TypeAlias = npt.NDArray[np.number]
Part: TypeAlias = Key | Vector | tuple[Key | Vector, float]  # of a query, with a weight or without
Found: TypeAlias = list[tuple[str, float]]

_NOT_LISTS = (str, bytes, bytearray, memoryview, slice, dict)


def as_uri(path: str | os.PathLike[str]) -> str:
    """Return a path or URI as text.

    Raises:
        ValueError: a Path was made of a URI, which loses one of its slashes.
    """
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"found the path {text!r}, expected a str or a pathlib.Path")
    if not isinstance(path, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/[^/]", text):
        raise ValueError(f"found the Path {text!r}, expected a URI as a str: a Path drops one of its slashes")
    return text


def is_key(value: object) -> TypeGuard[Key]:
    """Tell whether a value is a token or an index; True and False are neither."""
    return isinstance(value, str | int | np.integer) and not isinstance(value, bool)


def require_key(name: str, value: object) -> Key:
    if not is_key(value):
        hint = "; decode bytes first" if isinstance(value, bytes | bytearray) else ""
        raise TypeError(f"{name}: found {reprlib.repr(value)}, expected a token (str) or an index (int){hint}")
    return value


def require_list(name: str, values: object) -> list[object]:
    """Return the items of a list, or of what can be walked like one; a text or a number alone is none."""
    if isinstance(values, _NOT_LISTS) or not isinstance(values, Iterable) or _is_flat(values, 0):
        kind = "a slice" if isinstance(values, slice) else reprlib.repr(values)
        raise TypeError(f"{name}: found {kind}, expected a list of tokens")
    return list(values)


def require_keys(name: str, values: object) -> list[Key]:
    return [require_key(name, value) for value in require_list(name, values)]


def require_vector(name: str, value: object, dim: int) -> Doubles:
    """Return a vector as float64 [D].

    Raises:
        TypeError: it does not consist of real numbers.
        ValueError: other dimensions, NaN, Inf, or masked numbers.
    """
    vector = np.asanyarray(value)
    if vector.dtype.kind not in "fiu":
        raise TypeError(f"{name}: found {reprlib.repr(value)}, expected a vector of real numbers")
    if vector.shape != (dim,):
        raise ValueError(f"{name}: found a vector of {vector.shape}, expected {(dim,)}")
    if not np.isfinite(vector).all() or np.ma.is_masked(vector):
        raise ValueError(f"{name}: found NaN, Inf or a masked number in the vector, expected finite numbers")
    return np.asarray(vector, np.float64)


def require_weight(name: str, value: object) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name}: found the weight {reprlib.repr(value)}, expected a number")
    if not np.isfinite(weight := float(value)):
        raise ValueError(f"{name}: found the weight {value!r}, expected a finite number")
    return weight


def require_size(name: str, value: object, least: int | None = 0) -> int:
    """Return a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: found {reprlib.repr(value)}, expected a whole number or None")
    if least is not None and value < least:
        raise ValueError(f"{name}: found {value}, expected at least {least}")
    return int(value)


def parse_parts(name: str, values: object, weight: float, dim: int) -> list[tuple[Key | Doubles, float]]:
    """Read one side of a query: None, a part or a list of parts, each with its weight or else with ``weight``.

    A matrix is a list of its rows. A tuple is one part with its weight.
    """
    if values is None:
        return []
    if is_key(values) or isinstance(values, tuple) or _is_flat(values, 1):
        values = [values]
    if isinstance(values, _NOT_LISTS) or not isinstance(values, Iterable):
        raise TypeError(f"{name}: found {reprlib.repr(values)}, expected a token, an index, a vector or a list of them")
    return [_parse_part(name, value, weight, dim) for value in values]


def unit(row_D: Vector) -> Doubles:
    """Return a vector scaled to length 1; one of zeros stays as it is."""
    scaled_D = scaled(np.asarray(row_D, np.float64))
    norm = float(np.sqrt(scaled_D @ scaled_D))
    return scaled_D / norm if norm else scaled_D


def scaled(numbers: Doubles) -> Doubles:
    """Return numbers times the power of two that brings the largest below 1: their squares do not overflow."""
    _, exponent = np.frexp(np.abs(numbers).max(initial=0.0))
    return np.ldexp(numbers, -int(exponent))


def _parse_part(name: str, value: object, weight: float, dim: int) -> tuple[Key | Doubles, float]:
    if isinstance(value, tuple):
        if len(value) != 2 or isinstance(value[0], tuple) or isinstance(value[1], str | np.ndarray):
            raise TypeError(f"{name}: found the tuple {reprlib.repr(value)}, expected (key, weight) or a list of keys")
        return _parse_part(name, value[0], require_weight(name, value[1]), dim)
    if isinstance(value, np.ndarray):
        return require_vector(name, value, dim), weight
    return require_key(name, value), weight


def _is_flat(value: object, dimensions: int) -> bool:
    """Tell whether a value is an array of at most so many dimensions."""
    return isinstance(value, np.ndarray) and value.ndim <= dimensions
