"""The dataset's pairs as a PyTorch dataset.

Shapes: B pairs of a batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import astuple, replace
from typing import Any, NoReturn

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map

from pipeline.dataset.reader import Dataset, open_dataset
from trainer.data.batches import Batches
from trainer.data.order import Ids
from trainer.data.sharing import Leg
from trainer.errors import UserError


class PairBatch(dict[str, torch.Tensor]):
    """One batch: int32 tensors `center_B` and `context_B`."""


class PairStream(IterableDataset[PairBatch]):
    """One epoch's pairs per iteration, as dicts of int32 tensors `center_B` and `context_B`, in whole windows.

    Ranks and the workers of a DataLoader share the row groups: every pair comes once. With several ranks, all of them
    get equally many batches, the last ones of some empty. Use `DataLoader(stream, batch_size=None)`: the stream makes
    the batches.

    Each iteration yields what is left of the current epoch; the next one reads the next epoch. Workers of a DataLoader
    are copies: their progress does not reach the stream they were made from. So call `set_epoch` before each epoch
    where a loader has workers; it reaches persistent ones too. torchdata's StatefulDataLoader saves the position by
    itself; with a plain DataLoader tell `state_dict` how many batches you received.
    """

    def __init__(
        self,
        data: str | os.PathLike[str] | Dataset,
        *,
        batch_size: int = 0,
        seed: int = 1,
        shuffle: bool = True,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        """Open the dataset.

        Args:
            data: a dataset's folder or URI, or one that is open already.
            batch_size: pairs of a batch, somewhat more or less so that it ends with a window; 0 for whole row groups.
            seed: decides the order of row groups, another one each epoch.
            shuffle: False keeps the dataset's order.
            rank: this process, from 0; by default that of torch.distributed, where it is initialized.
            world_size: processes that share the dataset; give both or neither.

        Raises:
            FormatError: it is no dataset.
            UserError: a number out of range.
        """
        super().__init__()
        self.rank, self.world_size = _own_rank(rank, world_size)
        if batch_size < 0 or not 0 <= self.rank < self.world_size:
            raise UserError(
                f"PairStream: found batch_size {batch_size}, rank {self.rank} of {self.world_size}, expected a "
                "batch_size of 0 or more and a rank below world_size"
            )
        self.dataset = data if isinstance(data, Dataset) else open_dataset(os.fspath(data))
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle
        # What set_epoch was called with last, and how often: workers, persistent ones too, see this memory.
        self._set: torch.Tensor = torch.zeros(2, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._calls = 0
        self._worker: tuple[int, int] | None = None  # whose batches `_own` counts
        self._batches: Batches | None = None  # those of the iteration under way
        self._move(0)

    def __iter__(self) -> Iterator[PairBatch]:
        batches = self._batches = self._open()
        return self._yield(batches)

    def __len__(self) -> int:
        """Batches that this rank gets in the current epoch, from its first to its last, empty ones included."""
        return self._make_batches(self._legs, workers=self._legs[-1].workers if self._legs else 1).total

    def __repr__(self) -> str:
        place = f"rank {self.rank} of {self.world_size}, " if self.world_size > 1 else ""
        passes = f"{self.dataset.passes} pass{'es' * (self.dataset.passes > 1)}"
        return (
            f"PairStream({self.dataset.dataset_id[:16]}, {passes}, {place}epoch {self._epoch}: {len(self)} batches of "
            f"{f'about {self.batch_size} pairs' if self.batch_size else 'a row group'})"
        )

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch (from 0); epoch e reads pass e mod P of the dataset's P passes.

        Workers follow when they are next iterated. A position that was loaded, and from which nothing was read yet,
        is kept if it is in that epoch.
        """
        if epoch < 0:
            raise UserError(f"PairStream.set_epoch: found {epoch}, expected 0 or more")
        if self._loaded and epoch == self._epoch:
            return
        self._move(epoch)
        self._set[1] = epoch
        self._set[0] += 1
        self._calls = int(self._set[0])

    def state_dict(self, received: int | None = None, workers: int = 1) -> dict[str, Any]:
        """Return the exact position, after the batch that was yielded last; plain numbers and strings.

        Any rank's state is that of all ranks, as long as they have received equally many batches.

        Args:
            received: how many batches a plain DataLoader with workers has handed out (the stream itself cannot know),
                since this stream was made, loaded, or set to its epoch.
            workers: how many workers that loader has.
        """
        legs, worker = self._legs, None
        if self._batches is not None and self._worker is None:
            legs = self._batches.position()
        elif self._worker is not None:
            worker = [*self._worker, self._batches.own if self._batches is not None else self._own]
        if received is not None:
            legs = self._make_batches(legs, workers=max(workers, 1)).legs
            legs[-1] = replace(legs[-1], received=legs[-1].received + received)
        position = {"epoch": self._epoch, "legs": [list(astuple(leg)) for leg in legs]}
        return {**self._identity(), **position, **({"worker": worker} if worker else {})}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on at a position; ranks and workers may be others than before: what is left is shared among them.

        Raises:
            UserError: it belongs to another dataset, or to other settings, which would read other pairs.
        """
        for name, wanted in self._identity().items():
            if state.get(name) != wanted:
                raise UserError(f"PairStream state: {name}: found {state.get(name)!r}, expected {wanted!r}")
        legs = [Leg(*map(int, leg if len(leg) == 4 else [*leg, self.batch_size])) for leg in state["legs"]]
        self._move(int(state["epoch"]), legs)
        self._calls, self._loaded = int(self._set[0]), True
        if "worker" in state:
            worker, workers, self._own = map(int, state["worker"])
            self._worker = worker, workers

    def _identity(self) -> dict[str, Any]:
        names = ("batch_size", "seed", "shuffle")
        return {"dataset_id": self.dataset.dataset_id, **{name: getattr(self, name) for name in names}}

    def _move(self, epoch: int, legs: list[Leg] | None = None) -> None:
        self._epoch, self._legs, self._own = epoch, legs or [], 0
        self._worker, self._batches = None, None
        self._loaded = False

    def _open(self) -> Batches:
        """Find what the next iteration of this copy yields."""
        info = get_worker_info()
        worker = (info.id, info.num_workers) if info else None
        if self._worker and self._worker != worker:
            raise UserError(
                f"PairStream state: worker: found that of worker {self._worker[0]} of {self._worker[1]}, expected "
                f"{f'worker {worker[0]} of {worker[1]}' if worker else 'that of a stream without workers'}"
            )
        if int(self._set[0]) != self._calls:
            self._move(int(self._set[1]))
            self._calls = int(self._set[0])
        elif self._batches is not None and not self._batches.left:
            self._move(self._epoch + 1)
        elif self._batches is not None and worker is None:
            self._legs = self._batches.position()
        # Otherwise a worker begins where it began before: what its loader had asked of it, but not handed out, is lost.
        self._worker, self._loaded = worker, False
        batches = self._make_batches(self._legs, *(worker or (0, 1)), own=self._own)
        self._legs = batches.legs
        return batches

    def _make_batches(self, legs: list[Leg], worker: int = 0, workers: int = 1, own: int = 0) -> Batches:
        return Batches(
            self.dataset, self._epoch, legs, batch_size=self.batch_size, seed=self.seed, shuffle=self.shuffle,
            rank=self.rank, world_size=self.world_size, worker=worker, workers=workers, own=own,
        )  # fmt: skip

    def _yield(self, batches: Batches) -> Iterator[PairBatch]:
        for batch in batches.read():
            yield PairBatch(center_B=_to_tensor(batch.center_B), context_B=_to_tensor(batch.context_B))
        if self._batches is batches and self._worker is None:
            self._move(self._epoch + 1)
        # A worker stays at its end: others may still be reading the epoch, and its state is one of that epoch.


def _own_rank(rank: int | None, world_size: int | None) -> tuple[int, int]:
    if (rank is None) != (world_size is None):
        raise UserError(f"PairStream: found rank {rank} and world_size {world_size}, expected both or neither")
    if rank is not None and world_size is not None:
        return rank, world_size
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _refuse_collating(_batch: object, *, collate_fn_map: object = None) -> NoReturn:
    raise UserError(
        "PairStream: found a DataLoader that stacks batches to larger ones, expected DataLoader(stream, "
        "batch_size=None); PairStream's own batch_size sets the pairs of a batch"
    )


# DataLoader's default is to stack items to batches of its own; here the items are batches of unequal size already.
default_collate_fn_map[PairBatch] = _refuse_collating


def _to_tensor(ids_B: Ids) -> torch.Tensor:
    # torch has no read-only tensors and warns about memory that it must not write to.
    return torch.from_numpy(ids_B if ids_B.flags.writeable else np.array(ids_B))
