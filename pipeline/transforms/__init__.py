"""The thin Beam layer: wiring, threads, counters, and coders of elements.

Only this package, `pipeline.job` and `pipeline.runners` import Beam. What happens to an element is in `pipeline.stages`
and in the packages that it wires.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.common.lazy import lazy

if TYPE_CHECKING:
    from pipeline.transforms.read import ListInputs
    from pipeline.transforms.text_to_pairs import DEAD, STATS, CountTokens, MergeCounts
    from pipeline.transforms.threads import COUNTS

__all__ = ["COUNTS", "DEAD", "STATS", "CountTokens", "ListInputs", "MergeCounts"]


_PLACES = dict.fromkeys(__all__, "pipeline.transforms.text_to_pairs") | {"ListInputs": "pipeline.transforms.read"}
__getattr__ = lazy(__name__, _PLACES)
