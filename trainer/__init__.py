"""The training side: pair shards in, word vectors out.

Of `pipeline` it imports `dataset`, `storage` and `common` alone.

`trainer.load` opens a trained model's vectors; nothing is imported before something is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pipeline.dataset import __version__

if TYPE_CHECKING:
    from trainer.data.pair_stream import PairStream
    from trainer.keyed_vectors.vectors import UnknownTokenError, Vectors, load

__all__ = ["PairStream", "UnknownTokenError", "Vectors", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(
        "trainer.data.pair_stream" if name == "PairStream" else "trainer.keyed_vectors.vectors"
    )
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
