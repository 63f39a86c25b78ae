"""The training side: pair shards in, word vectors out.

Of `pipeline` it imports `dataset`, `storage` and `common` alone.

`trainer.load` opens a trained model's vectors; nothing is imported before something is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.common.lazy import lazy
from pipeline.dataset import __version__

if TYPE_CHECKING:
    from trainer.data.pair_stream import PairStream
    from trainer.keyed_vectors.vectors import UnknownTokenError, Vectors, load

__all__ = ["PairStream", "UnknownTokenError", "Vectors", "__version__", "load"]


_PLACES = dict.fromkeys(__all__, "trainer.keyed_vectors.vectors") | {"PairStream": "trainer.data.pair_stream"}
__getattr__ = lazy(__name__, _PLACES)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
