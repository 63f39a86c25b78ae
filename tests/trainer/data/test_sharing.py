"""What is left of an epoch can be dealt anew to other ranks and workers, exactly."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.sharing import (
    Leg,
    Pieces,
    after_leg,
    deal,
    own_pieces,
    rank_batches,
    share_batches,
    skip_batches,
    turns,
    whole_epoch,
)

WORLDS, WORKERS = (1, 2, 3, 5), (1, 2, 7)
Batch = tuple[int, int]

sizes = st.lists(st.integers(1, 40), min_size=1, max_size=12)


def pieces_of(rows: list[int], batch_size: int = 4) -> Pieces:
    return whole_epoch(np.array(rows, np.int64), batch_size)


def batches(pieces: Pieces) -> list[Batch]:
    return [(index, number) for index, first, batches, _ in pieces.tolist() for number in range(first, batches)]


def loader(pieces: Pieces, world_size: int, rank: int, workers: int) -> Iterator[Batch | None]:
    """What a DataLoader does: it asks its workers in turn, and leaves out those that have no more."""
    counts = share_batches(pieces, world_size, rank, workers)
    queues: list[list[Batch | None]] = []
    for worker, count in enumerate(counts):
        own: list[Batch | None] = [*batches(deal(pieces, rank, world_size, worker, workers))]
        queues.append(own + [None] * (count - len(own)))
    while any(queues):
        for queue in queues:
            if queue:
                yield queue.pop(0)


@given(sizes, st.sampled_from(WORLDS), st.sampled_from(WORKERS), st.integers(0, 90))
def test_what_is_left_after_a_leg_is_what_was_not_received(
    rows: list[int], world_size: int, workers: int, wanted: int
) -> None:
    pieces = pieces_of(rows)
    received = min(wanted, rank_batches(pieces, world_size))
    got = [batch for rank in range(world_size) for batch in islice(loader(pieces, world_size, rank, workers), received)]
    left = batches(after_leg(pieces, Leg(world_size, workers, received, 4)))
    assert sorted([batch for batch in got if batch] + left) == batches(pieces)


@given(sizes, st.sampled_from(WORLDS), st.sampled_from(WORKERS), st.integers(0, 90))
def test_a_loader_goes_on_in_the_order_of_one_that_never_stopped(
    rows: list[int], world_size: int, workers: int, wanted: int
) -> None:
    pieces = pieces_of(rows)
    received = min(wanted, rank_batches(pieces, world_size))
    for rank in range(world_size):
        expected = list(loader(pieces, world_size, rank, workers))[received:]
        queues: list[list[Batch | None]] = []
        for worker in range(workers):
            left, count = own_pieces(pieces, Leg(world_size, workers, received, 4), rank, worker)
            queues.append([*batches(left), *[None] * (count - len(batches(left)))])
        found = []
        while any(queues):
            found += [queue.pop(0) for queue in queues if queue]
        assert found == expected


@given(st.lists(st.integers(0, 9), min_size=1, max_size=7), st.integers(0, 70))
def test_turns_are_those_of_a_loader(counts: list[int], received: int) -> None:
    order = [worker for turn in range(max(counts)) for worker, count in enumerate(counts) if count > turn]
    given_, following = turns(counts, received)
    assert given_ == [order[:received].count(worker) for worker in range(len(counts))]
    if received < len(order):
        assert following == order[received]


@pytest.mark.parametrize("world_size", WORLDS)
def test_all_ranks_step_equally_often(world_size: int) -> None:
    pieces = pieces_of([40, 3, 17, 9, 9, 1, 22])
    for workers in WORKERS:
        counts = {sum(share_batches(pieces, world_size, rank, workers)) for rank in range(world_size)}
        assert counts == {rank_batches(pieces, world_size)}


def test_skipping_goes_across_row_groups() -> None:
    pieces = pieces_of([9, 4, 8])
    assert batches(skip_batches(pieces, 4)) == [(2, 0), (2, 1)]
    assert batches(skip_batches(pieces, 1)) == [(0, 1), (0, 2), (1, 0), (2, 0), (2, 1)]
    assert not len(skip_batches(pieces, 99))
