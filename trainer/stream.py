"""The dataset's pairs as a PyTorch dataset.

Shapes: B pairs of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from pipeline.dataset.reader import Dataset, open_dataset
from trainer.errors import UserError
from trainer.reading import Ids, batch_edges, epoch_order, read_ahead
from trainer.sharing import Leg, Piece, after_leg, own_pieces, skip_batches, whole_epoch

Batch = dict[str, torch.Tensor]


class PairStream(IterableDataset[Batch]):
    """One epoch's pairs per iteration, as dicts of int32 tensors `center_B` and `context_B`.

    Each iteration yields what is left of the current epoch, then moves on to the next. Ranks and the workers of a
    DataLoader (use batch_size=None) share the row groups: every pair comes once. With several ranks, all of them get
    equally many batches, the last ones of some empty. Workers are copies: their progress does not reach the
    stream they were made from, so call set_epoch between epochs where a DataLoader has workers, and tell state_dict
    how many batches were received; torchdata's StatefulDataLoader does that by itself.
    """

    def __init__(
        self,
        data: str | Dataset,
        *,
        batch_size: int = 0,
        seed: int = 1,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Open the dataset.

        Args:
            data: a dataset's folder or URI, or one that is open already.
            batch_size: pairs of a batch, somewhat more or less so that it ends with a window; 0 for whole row groups.
            seed: decides the order of row groups, another one each epoch.
            shuffle: False keeps the dataset's order.
            rank: this process, from 0.
            world_size: processes that share the dataset.

        Raises:
            FormatError: it is no dataset.
            UserError: a number out of range.
        """
        super().__init__()
        if batch_size < 0 or not 0 <= rank < world_size:
            raise UserError(
                f"PairStream: found batch_size {batch_size}, rank {rank} of {world_size}, expected none below 0 and a "
                "rank below the world's size"
            )
        self.dataset = open_dataset(data) if isinstance(data, str) else data
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle
        self.rank, self.world_size = rank, world_size
        self.set_epoch(0)

    def __iter__(self) -> Iterator[Batch]:
        pieces, empty = self._begin()
        places = [piece.place for piece in pieces]
        firsts = {piece.place: piece.first for piece in pieces}
        for place, center_N, context_N in read_ahead(self.dataset, places):
            for start, end in pairwise(batch_edges(center_N, self.batch_size)[firsts[place] :]):
                # The position is that after this batch while its receiver has it.
                self._own += 1
                yield {"center_B": _to_tensor(center_N[start:end]), "context_B": _to_tensor(context_N[start:end])}
        for _ in range(empty):
            self._own += 1
            yield {"center_B": torch.empty(0, dtype=torch.int32), "context_B": torch.empty(0, dtype=torch.int32)}
        self.set_epoch(self._epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch (from 0) at its start; epoch e walks pass e mod P of the dataset's P passes."""
        self._epoch = epoch
        self._legs = [Leg(self.world_size, 1, 0)]
        self._own = 0  # batches since, of this copy: the worker of `_worker`, or all
        self._worker: tuple[int, int] | None = None

    def state_dict(self, received: int | None = None, workers: int = 1) -> dict[str, Any]:
        """The exact position, after the batch that was yielded last; plain numbers and strings.

        Any rank's state is that of all ranks, as long as they have received equally many batches.

        Args:
            received: how many batches a DataLoader has handed out, for one that has workers (the stream itself
                cannot know), since this stream was made, loaded, or set to its epoch.
            workers: how many workers that loader has.
        """
        legs = self._legs if self._worker else self._legs_now()
        if received is not None:
            legs = _with_arrangement(legs, self.world_size, max(workers, 1))
            legs[-1] = replace(legs[-1], received=legs[-1].received + received)
        position = {"epoch": self._epoch, "legs": [list(astuple(leg)) for leg in legs]}
        if self._worker:
            position["worker"] = [*self._worker, self._own]
        return {**self._identity(), **position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on at a position; ranks and workers may be others than before: what is left is dealt among them.

        Raises:
            UserError: it belongs to another dataset, or to other settings, which would read other pairs.
        """
        for name, wanted in self._identity().items():
            if state.get(name) != wanted:
                raise UserError(f"PairStream state: {name}: found {state.get(name)!r}, expected {wanted!r}")
        self._epoch = int(state["epoch"])
        self._legs = [Leg(*map(int, leg)) for leg in state["legs"]]
        self._own, self._worker = 0, None
        if "worker" in state:
            worker, workers, self._own = map(int, state["worker"])
            self._worker = worker, workers

    def _identity(self) -> dict[str, Any]:
        names = ("batch_size", "seed", "shuffle")
        return {"dataset_id": self.dataset.dataset_id, **{name: getattr(self, name) for name in names}}

    def _legs_now(self) -> list[Leg]:
        *before, last = self._legs
        return [*before, replace(last, received=last.received + self._own)]

    def _begin(self) -> tuple[list[Piece], int]:
        """Find what this copy has to yield: row groups from some batch on, then a number of empty batches."""
        info = get_worker_info()
        worker = (info.id, info.num_workers) if info else None
        if self._worker and self._worker != worker:
            raise UserError(
                f"PairStream state: worker: found that of worker {self._worker[0]} of {self._worker[1]}, expected "
                f"{f'worker {worker[0]} of {worker[1]}' if worker else 'that of a stream without workers'}"
            )
        if self._worker is None:
            self._legs, self._own = self._legs_now(), 0
        self._worker = worker
        rank_worker, workers = worker or (0, 1)
        self._legs = _with_arrangement(self._legs, self.world_size, workers)
        pieces = whole_epoch(epoch_order(self.dataset, self.seed, self._epoch, self.shuffle), self.batch_size)
        for leg in self._legs[:-1]:
            pieces = after_leg(pieces, leg)
        pieces, batches = own_pieces(pieces, self._legs[-1], self.rank, rank_worker)
        pieces = skip_batches(pieces, self._own)
        return pieces, batches - self._own - sum(piece.left for piece in pieces)


def _with_arrangement(legs: list[Leg], world_size: int, workers: int) -> list[Leg]:
    """Let the last leg be one of this arrangement: the one that is there goes on, or a new one begins."""
    *before, last = legs
    if (last.world_size, last.workers) == (world_size, workers):
        return list(legs)
    return [*before, *([last] if last.received else []), Leg(world_size, workers, 0)]


def _to_tensor(ids_B: Ids) -> torch.Tensor:
    # torch has no read-only tensors and warns about memory that it must not write to.
    return torch.from_numpy(ids_B if ids_B.flags.writeable else np.array(ids_B))
