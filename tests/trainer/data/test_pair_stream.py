"""Every pair once, for any number of ranks and workers, in whole windows, from any position."""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from pipeline.dataset.reader import Dataset, open_dataset
from pipeline.dataset.schema import FormatError
from tests.support.datasets import group_of, make_dataset
from tests.support.paths import ROOT
from trainer.data import pair_stream
from trainer.data.order import batch_edges, epoch_order, negatives_key, read_ahead
from trainer.data.pair_stream import PairStream
from trainer.data.sharing import count_batches, deal, share_batches, whole_epoch
from trainer.errors import UserError

WORLDS, WORKERS = (1, 2, 3, 5), (0, 1, 2, 7)
Pairs = list[tuple[int, int]]


def sentence(*lengths: int) -> list[list[int]]:
    return [[(7 * row + 3 * at) % 20 for at in range(length)] for row, length in enumerate(lengths)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two passes over shards of unequal size: eleven row groups of 2 to 130 pairs in the first."""
    first = [[group_of(sentence(n, 5)) for n in (3, 30, 2)], [group_of(sentence(40))]]
    first += [[group_of(sentence(k + 2, 9)) for k in range(7)]]
    second = [[group_of(sentence(11, 4)), group_of(sentence(8))]]
    return open_dataset(make_dataset(tmp_path_factory.mktemp("stream") / "data", passes=[first, second]))


def pairs_of(batches: Iterable[dict[str, torch.Tensor]]) -> Pairs:
    return [
        pair for batch in batches for pair in zip(batch["center_B"].tolist(), batch["context_B"].tolist(), strict=True)
    ]


def all_pairs(dataset: Dataset, pass_index: int) -> Counter[tuple[int, int]]:
    groups = [dataset.read_row_group(ref) for ref in dataset.row_groups(pass_index)]
    return Counter(pair for center, context in groups for pair in zip(center.tolist(), context.tolist(), strict=True))


@given(st.integers(0, 40), st.sampled_from(WORLDS), st.sampled_from(WORKERS))
def test_shares_are_everything_once(items: int, world_size: int, workers: int) -> None:
    shares = [
        deal(range(items), rank, world_size, worker, max(workers, 1))
        for rank in range(world_size)
        for worker in range(max(workers, 1))
    ]
    assert sorted(item for share in shares for item in share) == list(range(items))
    ranks = [len(deal(range(items), rank, world_size)) for rank in range(world_size)]
    assert max(ranks) - min(ranks) <= 1


@pytest.mark.parametrize("batch_size", [0, 8])
@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("world_size", WORLDS)
def test_every_pair_once_in_equally_many_batches(
    dataset: Dataset, world_size: int, workers: int, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Info:
        def __init__(self, worker: int) -> None:
            self.id, self.num_workers = worker, workers

    counts, found = [], Counter[tuple[int, int]]()
    for rank in range(world_size):
        batches: list[dict[str, torch.Tensor]] = []
        for worker in range(max(workers, 1)):
            info = Info(worker) if workers else None
            monkeypatch.setattr(pair_stream, "get_worker_info", lambda info=info: info)
            batches += PairStream(dataset, rank=rank, world_size=world_size, batch_size=batch_size)
        counts.append(len(batches))
        found.update(pairs_of(batches))
    assert found == all_pairs(dataset, 0)
    assert len(set(counts)) == 1


def test_a_real_loader_with_two_workers(dataset: Dataset) -> None:
    loader = DataLoader(PairStream(dataset.uri), batch_size=None, num_workers=2, multiprocessing_context="spawn")
    assert Counter(pairs_of(loader)) == all_pairs(dataset, 0)


def test_without_workers_the_epochs_follow_each_other(dataset: Dataset) -> None:
    pairs = PairStream(dataset)
    epochs = [pairs_of(pairs) for _ in range(3)]
    assert [Counter(epoch) for epoch in epochs] == [all_pairs(dataset, 0), all_pairs(dataset, 1), all_pairs(dataset, 0)]
    assert epochs[0] != epochs[2]


def test_order_follows_from_seed_and_epoch(dataset: Dataset) -> None:
    def order(seed: int, epoch: int, shuffle: bool = True) -> list[tuple[int, int]]:
        return [(place.group.shard, place.group.group) for place in epoch_order(dataset, seed, epoch, shuffle)]

    plain = [(ref.shard, ref.group) for ref in dataset.row_groups(0)]
    assert order(1, 0, shuffle=False) == plain
    orders = [order(1, 0), order(1, 2), order(2, 0)]
    assert all(sorted(one) == sorted(plain) for one in orders)
    assert len({tuple(one) for one in [*orders, plain]}) == 4
    assert order(1, 0) == orders[0]


def test_keys_differ_by_seed_epoch_and_row_group_but_not_by_order(dataset: Dataset) -> None:
    places = [place for epoch in range(3) for place in epoch_order(dataset, 1, epoch)]
    assert len({negatives_key(seed, place) for seed in (1, 2) for place in places}) == 2 * len(places)
    shuffled = {place.group: negatives_key(1, place) for place in epoch_order(dataset, 1, 0)}
    plain = {place.group: negatives_key(1, place) for place in epoch_order(dataset, 1, 0, shuffle=False)}
    assert shuffled == plain
    assert all(0 <= key < 2**64 for key in plain.values())


@given(st.lists(st.integers(1, 12), min_size=1, max_size=30), st.integers(1, 9))
def test_batches_end_with_windows(runs: list[int], batch_size: int) -> None:
    center = np.repeat(np.arange(len(runs)) % 3, runs).astype(np.int32)
    edges = batch_edges(center, batch_size)
    assert edges[0] == 0
    assert edges[-1] == center.size
    sizes = [end - start for start, end in pairwise(edges)]
    assert all(0 < size <= 2 * batch_size for size in sizes)
    assert (
        len(sizes) == -(-center.size // batch_size) == count_batches(whole_epoch(np.array([center.size]), batch_size))
    )
    windows = {int(edge) for edge in np.flatnonzero(center[1:] != center[:-1]) + 1}
    for edge in edges[1:-1]:
        # Either a window ends here, or one has no end in reach.
        assert edge in windows or not windows & set(range(edge, edge + batch_size))


def test_batch_size_0_is_the_row_group() -> None:
    assert batch_edges(np.array([4, 4, 4, 5], np.int32), 0) == [0, 4]
    assert count_batches(whole_epoch(np.array([4]), 0)) == 1


def test_padding_makes_ranks_equal(dataset: Dataset) -> None:
    pieces = whole_epoch(epoch_order(dataset, 1, 0).rows_G, 8)
    for world_size in WORLDS:
        assert len({sum(share_batches(pieces, world_size, rank, 3)) for rank in range(world_size)}) == 1


@pytest.mark.parametrize("batch_size", [0, 8])
@pytest.mark.parametrize("world_size", [1, 3])
def test_it_goes_on_exactly_where_it_stood(dataset: Dataset, batch_size: int, world_size: int) -> None:
    def fresh() -> PairStream:
        return PairStream(dataset, batch_size=batch_size, rank=world_size - 1, world_size=world_size)

    whole = fresh()
    expected = [shapes(whole), shapes(whole)]
    for stop in range(len(expected[0]) + 1):
        pairs, iterator = fresh(), iter(fresh())
        before = []
        if stop:
            iterator = iter(pairs)
            before = shapes(next(iterator) for _ in range(stop))
        other = fresh()
        other.load_state_dict(pairs.state_dict())
        assert before + shapes(other) == expected[0]
        assert shapes(other) == expected[1]


def received(loader: Iterable[dict[str, torch.Tensor]], count: int) -> Pairs:
    """The pairs of a loader's first batches."""
    iterator = iter(loader)
    found = pairs_of(next(iterator) for _ in range(count))
    del iterator  # ends its workers
    return found


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_under_a_loader_it_goes_on_in_the_same_order(dataset: Dataset, workers: int) -> None:
    def loader(pairs: PairStream) -> DataLoader[dict[str, torch.Tensor]]:
        context = "fork" if workers else None
        return DataLoader(pairs, batch_size=None, num_workers=workers, multiprocessing_context=context)

    expected = pairs_of(loader(PairStream(dataset, batch_size=8)))
    pairs, found = PairStream(dataset, batch_size=8), []
    for stop in (4, 9, 2):  # stopped and resumed again and again
        found += received(loader(pairs), stop)
        state = json.loads(json.dumps(pairs.state_dict(stop, workers) if workers else pairs.state_dict()))
        pairs = PairStream(dataset, batch_size=8)
        pairs.load_state_dict(state)
    assert found + pairs_of(loader(pairs)) == expected


@given(st.lists(st.tuples(st.sampled_from(WORLDS), st.sampled_from((0, 1, 2, 7)), st.integers(0, 9)), max_size=4))
def test_other_ranks_and_workers_go_on_exactly(dataset: Dataset, legs: list[tuple[int, int, int]]) -> None:
    """Ranks and workers change at each stop; all pairs come once, and all ranks get equally many batches."""
    found = Counter[tuple[int, int]]()
    state = PairStream(dataset, batch_size=8).state_dict()
    for world_size, workers, stop in [*legs, (2, 2, 10**6)]:
        states, counts = [], []
        for rank in range(world_size):
            pairs = PairStream(dataset, batch_size=8, rank=rank, world_size=world_size)
            pairs.load_state_dict(state)
            batches = list(islice(in_turn(pairs, workers), stop))
            found.update(pairs_of(batches))
            counts.append(len(batches))
            states.append(pairs.state_dict(len(batches), workers))
        assert len(set(counts)) == 1
        assert all(one == states[0] for one in states)
        state = states[0]
    assert found == all_pairs(dataset, 0)


def in_turn(pairs: PairStream, workers: int) -> Iterator[dict[str, torch.Tensor]]:
    """A DataLoader's order without its processes."""

    class Info:
        def __init__(self, worker: int) -> None:
            self.id, self.num_workers = worker, workers

    iterators = []
    with pytest.MonkeyPatch.context() as patch:
        for worker in range(max(workers, 1)):
            copied = copy.copy(pairs)
            info = Info(worker) if workers else None
            patch.setattr(pair_stream, "get_worker_info", lambda info=info: info)
            iterators.append(iter(list(copied)))
    while iterators:
        for iterator in list(iterators):
            batch = next(iterator, None)
            if batch is None:
                iterators.remove(iterator)
            else:
                yield batch


def test_a_workers_state_belongs_to_that_worker(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    class Info:
        id, num_workers = 1, 3

    monkeypatch.setattr(pair_stream, "get_worker_info", Info)
    pairs = PairStream(dataset, batch_size=8)
    iterator = iter(pairs)
    before = pairs_of([next(iterator), next(iterator)])
    state = json.loads(json.dumps(pairs.state_dict()))
    other = PairStream(dataset, batch_size=8)
    other.load_state_dict(state)
    assert before + pairs_of(other) == pairs_of(PairStream(dataset, batch_size=8))
    monkeypatch.setattr(pair_stream, "get_worker_info", lambda: None)
    lost = PairStream(dataset, batch_size=8)
    lost.load_state_dict(state)
    with pytest.raises(UserError, match="found that of worker 1 of 3, expected that of a stream without workers"):
        next(iter(lost))


def stateful(pairs: PairStream, workers: int, persistent: bool = False) -> StatefulDataLoader[Any]:
    return StatefulDataLoader(
        pairs, batch_size=None, num_workers=workers, multiprocessing_context="fork" if workers else None,
        persistent_workers=persistent,
    )  # fmt: skip


def shapes(batches: Iterable[dict[str, torch.Tensor]]) -> list[Pairs]:
    return [pairs_of([batch]) for batch in batches]


@pytest.mark.filterwarnings("ignore")  # what torchdata does is not ours to judge
@pytest.mark.parametrize("batch_size", [0, 20])
@pytest.mark.parametrize("persistent", [True, False], ids=["persistent", "new workers"])
@pytest.mark.parametrize("workers", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("world_size", WORLDS)
def test_a_stateful_loader_goes_on_exactly_after_every_batch_of_two_epochs(
    dataset: Dataset, world_size: int, workers: int, persistent: bool, batch_size: int
) -> None:
    """Cut anywhere, resume in a fresh loader: the batches that are left, in the same order, then the next epoch's."""

    def fresh() -> tuple[PairStream, StatefulDataLoader[Any]]:
        pairs = PairStream(dataset, batch_size=batch_size, rank=world_size - 1, world_size=world_size)
        return pairs, stateful(pairs, workers, persistent and workers > 0)

    pairs, loader = fresh()
    expected: list[list[Pairs]] = []
    states: list[tuple[int, int, Any]] = []
    for epoch in range(2):
        pairs.set_epoch(epoch)
        expected.append([])
        length = len(loader)
        for batch in loader:
            expected[epoch].append(pairs_of([batch]))
            states.append((epoch, len(expected[epoch]), loader.state_dict()))
        assert len(expected[epoch]) == length
        states.append((epoch + 1, 0, loader.state_dict()))  # after the epoch's end
    ends = [len(expected[0]), len(expected[0]) - 1]  # after the first epoch, and after its last batch
    cuts = {*range(len(states))} if not workers else {*ends, world_size}  # each starts processes, as many as workers
    cuts -= {ends[1]} if workers > 3 else set()
    for epoch, received, state in [states[cut] for cut in sorted(cuts) if 0 <= cut < len(states)]:
        pairs, loader = fresh()
        loader.load_state_dict(copy.deepcopy(state))
        for later in range(epoch, 2):
            pairs.set_epoch(later)
            done = received if later == epoch else 0
            assert shapes(loader) == expected[later][done:], (epoch, received, later)


@given(st.data())
def test_workers_states_go_on_exactly_at_any_worlds_and_workers(dataset: Dataset, data: st.DataObject) -> None:
    """The same without processes: each worker's own state, saved after any batch, goes on with what it had left."""
    world_size, workers = data.draw(st.sampled_from(WORLDS)), data.draw(st.sampled_from((1, 2, 3, 7)))
    batch_size, found = data.draw(st.sampled_from((0, 1, 8, 20))), [Counter[tuple[int, int]]() for _ in range(2)]

    class Info:
        def __init__(self, worker: int) -> None:
            self.id, self.num_workers = worker, workers

    with pytest.MonkeyPatch.context() as patch:
        for rank in range(world_size):
            for worker in range(workers):
                patch.setattr(pair_stream, "get_worker_info", lambda worker=worker: Info(worker))
                pairs = PairStream(dataset, batch_size=batch_size, rank=rank, world_size=world_size)
                for epoch in range(2):
                    for batch in pairs:
                        found[epoch].update(pairs_of([batch]))
                        if data.draw(st.integers(0, 6)) == 0:
                            break
                    state = json.loads(json.dumps(pairs.state_dict()))
                    pairs = PairStream(dataset, batch_size=batch_size, rank=rank, world_size=world_size)
                    pairs.load_state_dict(state)
                    found[epoch].update(pairs_of(pairs))
    assert found == [all_pairs(dataset, 0), all_pairs(dataset, 1)]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_set_epoch_reaches_persistent_workers(dataset: Dataset) -> None:
    pairs = PairStream(dataset, batch_size=8)
    loader = DataLoader(
        pairs, batch_size=None, num_workers=2, persistent_workers=True, multiprocessing_context="fork"
    )  # fmt: skip
    plain = PairStream(dataset, batch_size=8)
    for epoch in (0, 5, 5, 2):
        pairs.set_epoch(epoch)
        plain.set_epoch(epoch)
        assert Counter(pairs_of(loader)) == Counter(pairs_of(plain))
    pairs.set_epoch(4)
    ordered = pairs_of(loader)
    pairs.set_epoch(5)
    pairs.set_epoch(4)
    assert pairs_of(loader) == ordered
    assert Counter(pairs_of(loader)) == all_pairs(dataset, 5 % 2)  # without a call, the next one


def test_an_iteration_that_a_loader_broke_off_begins_again(dataset: Dataset) -> None:
    """What workers had read ahead is lost with it; without workers nothing is, and the rest follows."""
    pairs = PairStream(dataset, batch_size=8)
    loader = DataLoader(pairs, batch_size=None, num_workers=1, persistent_workers=True, multiprocessing_context="fork")
    first = next(iter(loader))
    again = shapes(loader)
    assert again[0] == pairs_of([first])
    assert Counter(pair for batch in again for pair in batch) == all_pairs(dataset, 0)
    plain = PairStream(dataset, batch_size=8)
    assert pairs_of([next(iter(plain))]) + pairs_of(plain) == pairs_of(PairStream(dataset, batch_size=8))


def test_a_loaded_position_survives_setting_its_own_epoch(dataset: Dataset) -> None:
    pairs = PairStream(dataset, batch_size=8)
    pairs.set_epoch(1)
    iterator = iter(pairs)
    before = pairs_of([next(iterator), next(iterator)])
    state = pairs.state_dict()
    other = PairStream(dataset, batch_size=8)
    other.load_state_dict(state)
    other.set_epoch(1)  # as the loop over epochs does
    assert Counter(before + pairs_of(other)) == all_pairs(dataset, 1)
    other.load_state_dict(state)
    other.set_epoch(3)
    assert Counter(pairs_of(other)) == all_pairs(dataset, 1)


@pytest.mark.parametrize("batch_size", [0, 8])
@pytest.mark.parametrize("world_size", WORLDS)
def test_its_length_is_the_batches_of_the_rank(dataset: Dataset, world_size: int, batch_size: int) -> None:
    for rank in range(world_size):
        pairs = PairStream(dataset, batch_size=batch_size, rank=rank, world_size=world_size)
        for epoch in range(2):
            pairs.set_epoch(epoch)
            whole = len(pairs)
            iterator = iter(pairs)
            next(iterator)
            other = PairStream(dataset, batch_size=batch_size, rank=rank, world_size=world_size)
            other.load_state_dict(pairs.state_dict())
            assert whole == 1 + len(list(iterator)) == len(other)


def test_a_loader_that_stacks_batches_is_refused(dataset: Dataset) -> None:
    with pytest.raises(UserError, match=re.escape("expected DataLoader(stream, batch_size=None)")):
        next(iter(DataLoader(PairStream(dataset), batch_size=32)))


def test_it_takes_rank_and_size_from_torch_distributed(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch import distributed

    assert (PairStream(dataset).rank, PairStream(dataset).world_size) == (0, 1)
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_rank", lambda: 2)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 5)
    assert (PairStream(dataset).rank, PairStream(dataset).world_size) == (2, 5)
    given = PairStream(dataset, rank=0, world_size=1)
    assert (given.rank, given.world_size) == (0, 1)
    with pytest.raises(UserError, match="found rank 1 and world_size None, expected both or neither"):
        PairStream(dataset, rank=1)


def test_it_says_what_it_is_and_takes_a_path(dataset: Dataset) -> None:
    import trainer

    pairs = trainer.PairStream(Path(dataset.uri), batch_size=8, rank=1, world_size=2)
    assert repr(pairs) == (
        f"PairStream({dataset.dataset_id[:16]}, 2 passes, rank 1 of 2, epoch 0: {len(pairs)} batches of about 8 pairs)"
    )
    assert "a row group" in repr(PairStream(dataset))


def test_a_state_of_version_0_1_is_read(dataset: Dataset) -> None:
    pairs = PairStream(dataset, batch_size=8)
    state = pairs.state_dict()
    old = {**state, "legs": [[1, 1, 3]]}
    pairs.load_state_dict(old)
    assert shapes(pairs) == shapes(PairStream(dataset, batch_size=8))[3:]


def test_a_dead_worker_ends_the_loading(dataset: Dataset) -> None:
    """In a process of its own: torch raises the error wherever the main thread is when the signal comes."""
    code = (
        "import sys; from torch.utils.data import DataLoader; from tests.trainer.data.test_pair_stream import Dying\n"
        "pairs = Dying(sys.argv[1], batch_size=8)\n"
        "list(DataLoader(pairs, batch_size=None, num_workers=2, multiprocessing_context='fork'))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, dataset.uri]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    # Which of them is first: the watch over the workers, or the batch that was on its way.
    noticed = r"\b(RuntimeError: DataLoader worker|Connection\w*Error|EOFError|FileNotFoundError)"
    assert re.search(noticed, done.stderr, re.MULTILINE), done.stderr


class Dying(PairStream):
    """A stream whose second worker is killed on the way."""

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        info = pair_stream.get_worker_info()
        for number, batch in enumerate(super().__iter__()):
            if info is not None and info.id == 1 and number == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch


def test_a_position_of_another_stream_is_refused(dataset: Dataset) -> None:
    state = PairStream(dataset, seed=1).state_dict()
    with pytest.raises(UserError, match="PairStream state: batch_size: found 0, expected 8"):
        PairStream(dataset, batch_size=8).load_state_dict(state)
    with pytest.raises(UserError, match="PairStream state: seed: found 1, expected 2"):
        PairStream(dataset, seed=2).load_state_dict(state)
    with pytest.raises(UserError, match="dataset_id"):
        PairStream(dataset).load_state_dict({**state, "dataset_id": "x"})


@pytest.mark.parametrize("wrong", [{"rank": 2, "world_size": 2}, {"rank": -1}, {"batch_size": -1}])
def test_numbers_out_of_range_are_refused(dataset: Dataset, wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="PairStream: found"):
        PairStream(dataset, **wrong)


def test_batches_are_int32_and_writable(dataset: Dataset) -> None:
    for batch in PairStream(dataset):
        assert set(batch) == {"center_B", "context_B"}
        assert batch["center_B"].dtype == batch["context_B"].dtype == torch.int32
        batch["center_B"] += 1


def test_a_damaged_row_group_is_an_error_in_its_turn(tmp_path: Path) -> None:
    groups = [group_of(sentence(n, 5)) for n in (3, 30, 2)]
    dataset = open_dataset(make_dataset(tmp_path / "data", passes=[[[group] for group in groups]]))
    order = epoch_order(dataset, 1, 0, shuffle=False)
    path = Path(dataset.path_of(order[1].group.path))
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    reading = read_ahead(dataset, order)
    assert next(reading)[0] == order[0]
    with pytest.raises(FormatError, match=path.name):
        next(reading)


def test_reading_ahead_is_bounded(dataset: Dataset) -> None:
    taken = 0

    def places() -> Any:
        nonlocal taken
        for place in epoch_order(dataset, 1, 0):
            taken += 1
            yield place

    reading = read_ahead(dataset, places())
    next(reading)
    assert taken <= 4
    reading.close()
