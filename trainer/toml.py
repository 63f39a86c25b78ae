"""Settings from a TOML file."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Mapping
from typing import Any

from pipeline.storage import storage
from trainer.errors import UserError


def read_toml(path: str, kind: type[Any]) -> dict[str, Any]:
    """Settings of a TOML file for a dataclass, by field name; keys may have dashes or underscores.

    Raises:
        UserError: no TOML, an unknown setting, a value of another type.
    """
    return check_settings(load_toml(path), kinds_of(kind), path)


def kinds_of(kind: type[Any]) -> dict[str, type]:
    """The type that each field of a dataclass has in a TOML file."""
    return {field.name: _kind(field) for field in dataclasses.fields(kind)}


def load_toml(path: str) -> dict[str, Any]:
    """Read a TOML file; dashes in its keys become underscores.

    Raises:
        UserError: no TOML.
    """
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        found = toml.loads(storage.read_bytes(path).decode("utf-8"))
    except ValueError as error:  # both TOMLDecodeError and UnicodeDecodeError are
        raise UserError(f"--config {path}: found no TOML ({error}), expected settings as name = value") from None
    return {key.replace("-", "_"): value for key, value in found.items()}


def check_settings(values: dict[str, Any], kinds: Mapping[str, type], path: str) -> dict[str, Any]:
    """Check settings against the types that they must have.

    Raises:
        UserError: an unknown setting, a value of another type.
    """
    for name, value in values.items():
        if name not in kinds:
            raise UserError(f"--config {path}: found the setting {name!r}, expected the name of a flag")
        if kinds[name] is float and type(value) is int:
            values[name] = float(value)
        elif kinds[name] is tuple and isinstance(value, list) and all(isinstance(item, str) for item in value):
            values[name] = tuple(value)
        elif type(value) is not kinds[name]:
            expected = "a list of texts" if kinds[name] is tuple else kinds[name].__name__
            raise UserError(f"--config {path}: {name}: found {value!r}, expected {expected}")
    return values


def _kind(field: dataclasses.Field[Any]) -> type:
    if field.metadata.get("many"):
        return tuple
    return str if field.default is dataclasses.MISSING else type(field.default)
