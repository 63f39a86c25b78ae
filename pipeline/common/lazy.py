"""Names of a package that are imported once they are asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping


def lazy(package: str, places: Mapping[str, str]) -> Callable[[str], object]:
    """Return a package's ``__getattr__``, which finds names in the modules that ``places`` gives."""

    def find(name: str) -> object:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(places[name]), name)

    return find
