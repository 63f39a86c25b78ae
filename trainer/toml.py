"""Settings from a TOML file."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any, get_type_hints

import msgspec

from pipeline.storage import storage
from trainer.errors import UserError


def read_toml(path: str, kind: type[object]) -> dict[str, Any]:
    """Settings of a TOML file for a dataclass, by field name; keys may have dashes or underscores."""
    return check_settings(load_toml(path), kinds_of(kind), path)


def kinds_of(kind: type[object]) -> dict[str, type]:
    """The type that each field of a dataclass has in a TOML file."""
    return get_type_hints(kind)


def load_toml(path: str) -> dict[str, Any]:
    """Read a TOML file; dashes in its keys become underscores."""
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        found = toml.loads(storage.read_bytes(path).decode("utf-8"))
    except ValueError as error:  # both TOMLDecodeError and UnicodeDecodeError are
        raise UserError(f"--config {path}: found no TOML ({error}), expected settings as name = value") from None
    return {key.replace("-", "_"): value for key, value in found.items()}


def check_settings(values: dict[str, Any], kinds: Mapping[str, type], path: str) -> dict[str, Any]:
    """Check settings against the types that they must have."""
    for name, value in values.items():
        if name not in kinds:
            raise UserError(f"--config {path}: found the setting {name!r}, expected the name of a flag")
        try:
            values[name] = msgspec.convert(value, kinds[name])
        except msgspec.ValidationError:
            expected = kinds[name].__name__ if kinds[name] in (str, int, float, bool) else "a list of texts"
            raise UserError(f"--config {path}: {name}: found {value!r}, expected {expected}") from None
    return values
