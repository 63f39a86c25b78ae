"""The thin Beam layer: wiring, threads, counters, and coders of elements.

Only this package, `pipeline.job` and `pipeline.runners` import Beam. What happens to an element is in `pipeline.stages`
and in the packages that it wires.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.transforms.read import ListInputs
    from pipeline.transforms.text_to_pairs import (
        COUNTS,
        DEAD,
        STATS,
        CountTokens,
        MergeCounts,
    )

__all__ = ["COUNTS", "DEAD", "STATS", "CountTokens", "ListInputs", "MergeCounts"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "read" if name == "ListInputs" else "text_to_pairs"
    return getattr(importlib.import_module(f"pipeline.transforms.{module}"), name)
