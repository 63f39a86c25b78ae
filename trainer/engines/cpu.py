"""The fused engine: the compiled kernel, which needs neither PyTorch nor a GPU.

Shapes: B pairs, V vocabulary rows, D dimensions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from trainer.config import TrainConfig
from trainer.data.order import Ids
from trainer.engines.init import Tables
from trainer.models.tensors import AnyArray
from trainer.subwords.ngrams import Parts

Table = npt.NDArray[np.float32]


class FusedEngine:
    """The Numba kernel: threads without locks, which begin with a row group while the last of them ends the one before.

    What several threads return is the loss of an earlier step; `drain` has the rest.
    """

    step_pairs = 0  # a whole row group: the more pairs, the less often threads wait for each other

    def __init__(
        self, config: TrainConfig, tables: Tables, counts_V: npt.NDArray[np.int64], parts: Parts | None = None
    ) -> None:
        """Take the tables over; compiles, or loads what was compiled before."""
        from trainer.engines.kernels.numba.cpu import make_composer, start_batch
        from trainer.engines.negatives import build_alias, drawable_weights

        probabilities_V = drawable_weights(counts_V, config.power, config.exclude)
        self._tables, self._threads = tables, config.threads
        self._wait: Callable[[], float] = float  # for the step that runs; its loss, however often it is called
        self._start_batch = functools.partial(
            start_batch, negatives=config.negatives, architecture=config.architecture, mean=config.cbow_mean,
            predict=config.predict, exclude=config.exclude, sharing=config.negative_sharing, threads=config.threads,
        )  # fmt: skip
        self._rows = whole_vectors(tables[0]), whole_vectors(tables[1])
        self._composer = None if parts is None else make_composer(parts, self._rows[0])
        self._alias = build_alias(probabilities_V)
        # Compile: one word more than a pair has, so that with any --exclude there is one to draw.
        pair, table_VD = (
            (np.array([0], np.int32), np.array([1], np.int32)),
            np.zeros((3, self._rows[0].shape[1]), np.float32),
        )
        alias = np.array([1, 1, 1, 2, 1, 0], np.uint32)
        own = Parts(np.arange(4, dtype=np.int64), np.arange(3, dtype=np.int32))
        self._start_batch(
            *pair, table_VD, table_VD.copy(), alias, learning_rate_start=0.0, learning_rate_end=0.0, key=0,
            composer=None if parts is None else make_composer(own, table_VD),
        )()  # fmt: skip

    def step(self, center_B: Ids, context_B: Ids, *, lr_start: float, lr_end: float, key: int) -> float:
        before, self._wait = self._wait, self._start(center_B, context_B, lr_start, lr_end, key)
        return before() if self._threads > 1 else self.drain()

    def drain(self) -> float:
        before, self._wait = self._wait, float
        return before()

    def measure(self, center_B: Ids, context_B: Ids, *, key: int) -> float:
        """See Engine. Rows are written back as they were: at rate 0 they do not change."""
        self._wait()
        return self._start(center_B, context_B, 0.0, 0.0, key)()

    def _start(self, center_B: Ids, context_B: Ids, lr_start: float, lr_end: float, key: int) -> Callable[[], float]:
        return self._start_batch(
            center_B, context_B, *self._rows, self._alias, learning_rate_start=lr_start, learning_rate_end=lr_end,
            key=key, composer=self._composer,
        )  # fmt: skip

    def tables(self) -> Tables:
        self._wait()
        return self._tables

    def live(self) -> dict[str, AnyArray]:
        self._wait()
        return {"input": self._tables[0], "output": self._tables[1]}


def whole_vectors(table_VD: Table) -> Table:
    """The same rows with as many of the zeros that follow each as fill its last vector; the table where there are none.

    To store a part of a vector takes an AVX2 processor twelve times as long as a whole one, and what is loaded next
    from there waits for it: with D=100 the kernel trains a tenth more pairs a second on whole ones. Zeros stay zeros.
    """
    from trainer.engines.kernels.numba.shape import host_lanes

    rows, dim = table_VD.shape
    wide = -(-dim // host_lanes()) * host_lanes()
    if wide * table_VD.itemsize > table_VD.strides[0]:
        return table_VD
    whole_VD: Table = np.lib.stride_tricks.as_strided(table_VD, (rows, wide), table_VD.strides)
    return table_VD if whole_VD[:, dim:].any() else whole_VD
