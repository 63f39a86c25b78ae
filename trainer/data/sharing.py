"""How ranks and the workers of their loaders share an epoch, and where all of them are after a number of batches.

Shares, and the number of batches in each, follow from sizes alone. So a position is a few numbers (ranks, workers,
batch size, batches received by each rank), and what is left there can be shared among other ranks and workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: What is left of a row group, by its number in the epoch's order: its batches from number `first` on, of `batches`. A
#: row group that was begun is finished in batches of the size that it was begun with. 20 bytes: a pass over 1 T tokens
#: has 4 M row groups, and each process has them all.
PIECE = np.dtype([("index", "<i4"), ("first", "<i4"), ("batches", "<i4"), ("batch_size", "<i8")])

Pieces = npt.NDArray[np.void]  # of PIECE


@dataclass(frozen=True)
class Leg:
    """A stretch of an epoch that was read by one arrangement of ranks and workers.

    Attributes:
        world_size: ranks.
        workers: workers of each rank's loader, 1 for none.
        received: batches that each rank got, empty ones included.
        batch_size: pairs of a batch, 0 for whole row groups.
    """

    world_size: int
    workers: int
    received: int
    batch_size: int


def whole_epoch(rows_G: npt.NDArray[np.int64], batch_size: int) -> Pieces:
    """All batches of an epoch, given the pairs of its row groups in their order."""
    pieces = np.zeros(len(rows_G), PIECE)
    pieces["index"] = np.arange(len(rows_G))
    return cut_pieces(pieces, rows_G, batch_size)


def cut_pieces(pieces: Pieces, rows_G: npt.NDArray[np.int64], batch_size: int) -> Pieces:
    """Give row groups that were not begun another batch size."""
    pieces, fresh = pieces.copy(), pieces["first"] == 0
    rows = rows_G[pieces["index"][fresh]]
    pieces["batches"][fresh] = -(-rows // batch_size) if batch_size else 1
    pieces["batch_size"][fresh] = batch_size
    return pieces


def deal(pieces: Pieces, rank: int, world_size: int, worker: int = 0, workers: int = 1) -> Pieces:
    """One worker's share: shares are disjoint, are everything together, and differ by one row group at most."""
    return pieces[rank::world_size][worker::workers]


def count_batches(pieces: Pieces) -> int:
    """Batches of some row groups."""
    return int((pieces["batches"] - pieces["first"]).sum(dtype=np.int64))


def rank_batches(pieces: Pieces, world_size: int) -> int:
    """Batches that each rank gets: as many as the longest has, so the others get empty ones at the end."""
    return max(count_batches(deal(pieces, rank, world_size)) for rank in range(world_size))


def share_batches(pieces: Pieces, world_size: int, rank: int, workers: int) -> list[int]:
    """Batches that each worker of a rank yields; the first one makes up for what the rank lacks."""
    counts = [count_batches(deal(pieces, rank, world_size, worker, workers)) for worker in range(workers)]
    counts[0] += rank_batches(pieces, world_size) - sum(counts)
    return counts


def turns(counts: Sequence[int], received: int) -> tuple[list[int], int]:
    """How many batches came from each worker when a loader, which asks them in turn, has handed out `received`.

    A worker that has no more is left out from then on, as torch's DataLoader does it.

    Returns:
        Batches by worker, and the worker whose turn is next.
    """
    given, left, rounds = [0] * len(counts), received, 0
    while left:
        active = [worker for worker, count in enumerate(counts) if count > rounds]
        if not active:
            break
        # As many whole rounds as the shortest active worker allows, then single turns.
        step = min(min(counts[worker] for worker in active) - rounds, left // len(active))
        for worker in active:
            given[worker] += step
        left, rounds = left - step * len(active), rounds + step
        if step == 0:
            for worker in active[:left]:
                given[worker] += 1
            return given, active[left]
    active = [worker for worker, count in enumerate(counts) if count > rounds]
    return given, active[0] if active else 0


def skip_batches(pieces: Pieces, batches: int) -> Pieces:
    """What is left of a share after its first batches."""
    left = (pieces["batches"] - pieces["first"]).astype(np.int64)
    skipped = np.clip(batches - (np.cumsum(left) - left), 0, left)
    some_left = left > skipped
    kept: Pieces = pieces[some_left]
    kept["first"] += skipped[some_left].astype(np.int32)
    return kept


def after_leg(pieces: Pieces, leg: Leg) -> Pieces:
    """What all ranks together have left at the end of a leg, in the epoch's order."""
    left = []
    for rank in range(leg.world_size):
        given, _ = turns(share_batches(pieces, leg.world_size, rank, leg.workers), leg.received)
        for worker, batches in enumerate(given):
            left.append(skip_batches(deal(pieces, rank, leg.world_size, worker, leg.workers), batches))
    joined = np.concatenate(left)
    return joined[np.argsort(joined["index"])]


def own_pieces(pieces: Pieces, leg: Leg, rank: int, worker: int) -> tuple[Pieces, int]:
    """What a worker yields from a leg's position on: its row groups, and how many batches, empty ones included.

    The loader that goes on asks its worker 0 first, so worker 0 takes over the share whose turn it is.
    """
    counts = share_batches(pieces, leg.world_size, rank, leg.workers)
    given, following = turns(counts, leg.received)
    active = [share for share, count in enumerate(counts) if count > given[share]]
    at = active.index(following) if active else 0
    order = active[at:] + active[:at] + [share for share in range(leg.workers) if share not in active]
    share = order[worker]
    pieces = skip_batches(deal(pieces, rank, leg.world_size, share, leg.workers), given[share])
    return pieces, counts[share] - given[share]
