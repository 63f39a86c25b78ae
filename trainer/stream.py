"""The dataset's pairs as a PyTorch dataset.

Shapes: B pairs of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from pipeline.dataset.reader import Dataset, open_dataset
from trainer.errors import UserError
from trainer.reading import Ids, Share, batch_edges, deal, epoch_order, padded_batches, read_ahead

Batch = dict[str, torch.Tensor]


class PairStream(IterableDataset[Batch]):
    """One epoch's pairs per iteration, as dicts of int32 tensors `center_B` and `context_B`.

    Each iteration yields what is left of the current epoch, then moves on to the next. Ranks and the workers of a
    DataLoader (use batch_size=None) share the row groups: every pair comes once. With several ranks, all of them get
    equally many batches, the last ones of some empty. Workers are copies: their progress does not reach the
    stream they were made from, so call set_epoch between epochs where a DataLoader has workers.
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
            batch_size: pairs of a batch, somewhat more so that it ends with a window; 0 for whole row groups.
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
        self._epoch = self._group = self._row = self._batch = 0

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        share = Share(self.rank, info.id, info.num_workers) if info else Share(self.rank)
        order = epoch_order(self.dataset, self.seed, self._epoch, self.shuffle)
        own = deal(order, self.rank, self.world_size, share.worker, share.workers)
        for _, center_N, context_N in read_ahead(self.dataset, own[self._group :]):
            edges = [edge for edge in batch_edges(center_N, self.batch_size) if edge >= self._row]
            for start, end in pairwise(edges):
                # The position is that after this batch while its receiver has it.
                self._batch += 1
                self._row = 0 if end == center_N.size else end
                self._group += end == center_N.size
                yield {"center_B": _to_tensor(center_N[start:end]), "context_B": _to_tensor(context_N[start:end])}
        if self.world_size > 1:
            refs = [place.group for place in order]
            target = padded_batches(refs, self.batch_size, self.world_size, share)
            while self._batch < target:
                self._batch += 1
                yield {"center_B": torch.empty(0, dtype=torch.int32), "context_B": torch.empty(0, dtype=torch.int32)}
        self.set_epoch(self._epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch (from 0) at its start; epoch e walks pass e mod P of the dataset's P passes."""
        self._epoch, self._group, self._row, self._batch = epoch, 0, 0, 0

    def state_dict(self) -> dict[str, Any]:
        """The exact position, after the batch that was yielded last; plain numbers and strings."""
        position = {"epoch": self._epoch, "group": self._group, "row": self._row, "batch": self._batch}
        return {**self._identity(), **position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on at a position.

        Raises:
            UserError: it belongs to another dataset, or to other settings, which would read other pairs.
        """
        for name, wanted in self._identity().items():
            if state.get(name) != wanted:
                raise UserError(f"PairStream state: {name}: found {state.get(name)!r}, expected {wanted!r}")
        self._epoch, self._group, self._row, self._batch = (int(state[n]) for n in ("epoch", "group", "row", "batch"))

    def _identity(self) -> dict[str, Any]:
        names = ("batch_size", "seed", "shuffle", "rank", "world_size")
        return {"dataset_id": self.dataset.dataset_id, **{name: getattr(self, name) for name in names}}


def _to_tensor(ids_B: Ids) -> torch.Tensor:
    # torch has no read-only tensors and warns about memory that it must not write to.
    return torch.from_numpy(ids_B if ids_B.flags.writeable else np.array(ids_B))
