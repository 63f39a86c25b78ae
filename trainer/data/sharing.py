"""How ranks and the workers of their loaders share an epoch, and where all of them are after a number of batches.

Shares, and the number of batches in each, follow from sizes alone. So a position is a few numbers (ranks, workers,
batch size, batches received by each rank), and what is left there can be shared among other ranks and workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from trainer.data.order import Place

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Piece:
    """What is left of a row group: its batches from number `first` on, of so many.

    A row group that was begun is finished in batches of the size that it was begun with.
    """

    place: Place
    first: int
    batches: int
    batch_size: int

    @property
    def left(self) -> int:
        """Batches that are left."""
        return self.batches - self.first


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


def whole_epoch(places: Sequence[Place], batch_size: int) -> list[Piece]:
    """All batches of an epoch."""
    return [Piece(place, 0, batch_count(place.group.rows, batch_size), batch_size) for place in places]


def cut_pieces(pieces: Sequence[Piece], batch_size: int) -> list[Piece]:
    """Give row groups that were not begun another batch size."""
    return [piece if piece.first else whole_epoch([piece.place], batch_size)[0] for piece in pieces]


def batch_count(rows: int, batch_size: int) -> int:
    """How many batches a row group has."""
    return -(-rows // batch_size) if batch_size else 1


def deal(items: Sequence[Item], rank: int, world_size: int, worker: int = 0, workers: int = 1) -> list[Item]:
    """One worker's share: shares are disjoint, are everything together, and differ by one item at most."""
    return list(items[rank::world_size][worker::workers])


def count_batches(pieces: Sequence[Piece]) -> int:
    """Batches of some row groups."""
    return sum(piece.left for piece in pieces)


def rank_batches(pieces: Sequence[Piece], world_size: int) -> int:
    """Batches that each rank gets: as many as the longest has, so the others get empty ones at the end."""
    return max(count_batches(deal(pieces, rank, world_size)) for rank in range(world_size))


def share_batches(pieces: Sequence[Piece], world_size: int, rank: int, workers: int) -> list[int]:
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


def skip_batches(pieces: Sequence[Piece], batches: int) -> list[Piece]:
    """What is left of a share after its first batches."""
    left = []
    for piece in pieces:
        skipped = min(batches, piece.left)
        batches -= skipped
        if piece.left > skipped:
            left.append(replace(piece, first=piece.first + skipped))
    return left


def after_leg(pieces: Sequence[Piece], leg: Leg) -> list[Piece]:
    """What all ranks together have left at the end of a leg, in the epoch's order."""
    left = []
    for rank in range(leg.world_size):
        given, _ = turns(share_batches(pieces, leg.world_size, rank, leg.workers), leg.received)
        for worker, batches in enumerate(given):
            left += skip_batches(deal(pieces, rank, leg.world_size, worker, leg.workers), batches)
    return sorted(left, key=lambda piece: piece.place.index)


def own_pieces(pieces: Sequence[Piece], leg: Leg, rank: int, worker: int) -> tuple[list[Piece], int]:
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
