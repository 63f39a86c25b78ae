"""One rank's batches of a dataset's pairs, and the exact position in them.

The training loop and PairStream both iterate this. It needs no PyTorch: training on a CPU starts without it.

Shapes: B pairs of a batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from pipeline.dataset.reader import Dataset
from trainer.data.order import READ_THREADS, Ids, Place, batch_edges, epoch_order, read_ahead
from trainer.data.sharing import (
    Leg,
    after_leg,
    count_batches,
    cut_pieces,
    own_pieces,
    rank_batches,
    skip_batches,
    whole_epoch,
)


@dataclass(frozen=True, slots=True)
class Batch:
    """Pairs of one row group.

    Attributes:
        place: the row group; None in an empty batch, which a rank gets where others have more.
        first_row: where in the row group the batch begins.
        center_B: int32.
        context_B: int32.
    """

    place: Place | None
    first_row: int
    center_B: Ids
    context_B: Ids


_NO_IDS = np.empty(0, np.int32)
EMPTY = Batch(None, 0, _NO_IDS, _NO_IDS)


class Batches:
    """What is left of one epoch for one rank, or for one worker of its loader.

    Attributes:
        epoch: from 0; epoch e reads pass e mod P of the dataset's P passes.
        own: batches that this copy has yielded since `legs`.
    """

    def __init__(
        self,
        dataset: Dataset,
        epoch: int,
        legs: Sequence[Leg] = (),
        *,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
        worker: int = 0,
        workers: int = 1,
        own: int = 0,
    ) -> None:
        """Go on where some legs end; they may be of other ranks, workers and batch sizes.

        Args:
            dataset: what to read.
            epoch: from 0.
            legs: what was read of the epoch before.
            batch_size: pairs of a batch, somewhat more or less so that it ends with a window; 0 for whole row groups.
            seed: decides the order of row groups, another one each epoch.
            shuffle: False keeps the dataset's order.
            rank: this process.
            world_size: processes that share the epoch.
            worker: this worker of the rank's loader.
            workers: how many workers it has.
            own: batches that this worker has yielded since the last leg.
        """
        self._dataset, self.epoch, self.own = dataset, epoch, own
        self.legs = _with_arrangement(legs, Leg(world_size, workers, 0, batch_size))
        self.places = epoch_order(dataset, seed, epoch, shuffle)
        rows_G = self.places.rows_G
        pieces = whole_epoch(rows_G, self.legs[0].batch_size)
        for leg in self.legs[:-1]:
            pieces = after_leg(cut_pieces(pieces, rows_G, leg.batch_size), leg)
        pieces = cut_pieces(pieces, rows_G, batch_size)
        received_before = sum(leg.received for leg in self.legs[:-1])
        #: Batches of the rank in the whole epoch, empty ones included.
        self.total = received_before + rank_batches(pieces, world_size)
        pieces, batches = own_pieces(pieces, self.legs[-1], rank, worker)
        self._pieces = skip_batches(pieces, own)
        #: Batches that are left for this copy, empty ones included.
        self.left = batches - own

    def position(self) -> list[Leg]:
        """The legs up to the batch that was yielded last, where this copy alone reads for its rank."""
        *before, last = self.legs
        return [*before, replace(last, received=last.received + self.own)]

    def read(self, threads: int = READ_THREADS) -> Generator[Batch, None, None]:
        """Yield what is left; `own` counts a batch from when its receiver gets it."""
        pieces, empty = self._pieces, self.left - count_batches(self._pieces)
        places = (self.places[int(index)] for index in pieces["index"])
        with contextlib.closing(read_ahead(self._dataset, places, threads)) as reading:
            for piece, (place, center_N, context_N) in zip(pieces, reading, strict=True):
                for start, end in pairwise(batch_edges(center_N, int(piece["batch_size"]))[piece["first"] :]):
                    self._count()
                    yield Batch(place, start, center_N[start:end], context_N[start:end])
        for _ in range(empty):
            self._count()
            yield EMPTY
        self._pieces = pieces[:0]

    def _count(self) -> None:
        self.own += 1
        self.left -= 1


def _with_arrangement(legs: Sequence[Leg], now: Leg) -> list[Leg]:
    """Let the last leg be one of this arrangement: the one that is there goes on, or a new one begins."""
    if legs and replace(legs[-1], received=0) == now:
        return list(legs)
    return [*(leg for leg in legs if leg.received), now]
