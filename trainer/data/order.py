"""Which pairs come when: the order of row groups, where batches end, reading ahead.

All of it follows from the dataset, the seed and the epoch; nothing from clocks, threads or what was read before.

Shapes: N pairs of a row group, B pairs of a batch.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from pipeline.dataset.reader import Dataset, RowGroupRef, RowGroups
from pipeline.dataset.shard_index import Columns

READ_THREADS = 2  # one row group more than this is in memory besides those in use: 8 MiB each
TRAINING_THREADS = 3  # that one which decodes keeps busy: with zstd it takes a quarter of their time
MOST_READ_THREADS = 12  # about 1 G pairs/s

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row group is in a run.

    Attributes:
        epoch: from 0.
        index: its number in that epoch's order.
        before: pairs of the epoch that come before it.
    """

    epoch: int
    index: int
    group: RowGroupRef
    before: int


def keyed_hash(seed: int, purpose: str, *numbers: int) -> int:
    """A 64-bit hash of what it is given (BLAKE2b): an order to sort by, or the key of a random stream."""
    text = "/".join([str(seed), purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def negatives_key(seed: int, place: Place, first_row: int = 0) -> int:
    """Key of the draws of negatives for one batch: they depend on its place in the data alone."""
    row = (first_row,) if first_row else ()
    return keyed_hash(seed, "negatives", place.epoch, place.group.shard, place.group.group, *row)


class EpochOrder(Columns[Place]):
    """The row groups of one epoch in reading order; a Place is made when it is asked for.

    Attributes:
        rows_G: int64, pairs of each.
    """

    def __init__(self, epoch: int, groups: RowGroups, order_G: npt.NDArray[np.int64]) -> None:
        """Read some groups in the order of their numbers `order_G`."""
        self._epoch, self._groups, self._order_G = epoch, groups, order_G
        self.rows_G = groups.rows_G[order_G]
        self._ends_G = np.cumsum(self.rows_G)

    def __len__(self) -> int:
        return len(self._order_G)

    def make(self, index: int) -> Place:
        """Find a row group and what comes before it."""
        before = int(self._ends_G[index]) - int(self.rows_G[index])
        return Place(self._epoch, index, self._groups[int(self._order_G[index])], before)


def epoch_order(dataset: Dataset, seed: int, epoch: int, shuffle: bool = True) -> EpochOrder:
    """The row groups of one epoch, in reading order; epoch e walks pass e mod P of the dataset's P passes."""
    groups = dataset.row_groups(epoch % dataset.passes)
    order_G = np.arange(len(groups))
    if shuffle:
        keys = (keyed_hash(seed, "order", epoch, shard, group) for shard, group in groups.numbers())
        order_G = np.argsort(np.fromiter(keys, np.uint64, len(groups)), kind="stable")
    return EpochOrder(epoch, groups, order_G)


def pairs_to_come(dataset: Dataset, epoch: int, epochs: int) -> int:
    """Pairs of the epochs from one on."""
    return sum(dataset.pairs_in_pass(one % dataset.passes) for one in range(epoch, epochs))


def batch_edges(center_N: Ids, batch_size: int) -> list[int]:
    """Where to cut a row group into batches of whole windows: increasing edges from 0 to N.

    There are as many batches as N / batch_size, rounded up, whatever the windows: each ends with the first window that
    ends at or after a multiple of batch_size; the last but one may end a window earlier. A window that leaves no such
    place is cut. No batch has more than 2·batch_size pairs. A batch_size of 0 is the whole row group.
    """
    rows = center_N.size
    edges = [0]
    for target in range(batch_size, rows, batch_size) if batch_size else ():
        run = center_N[target - 1 : min(target + batch_size, rows)]
        ends = np.flatnonzero(run[1:] != run[:-1])
        if ends.size:
            edges.append(target + int(ends[0]))
        elif target + batch_size < rows:
            edges.append(target)
        else:  # the window is the row group's last
            starts = np.flatnonzero(center_N[edges[-1] : target] != center_N[target]) + edges[-1] + 1
            edges.append(int(starts[-1]) if starts.size else target)
    return [*edges, rows]


def read_threads(device: str, threads: int) -> int:
    """How many threads decode: on a GPU's machine, where training takes none, as many as may be used, within reason."""
    wanted = threads if device == "cuda" else -(-threads // TRAINING_THREADS)
    return min(max(wanted, READ_THREADS), MOST_READ_THREADS)


def read_ahead(
    dataset: Dataset, places: Iterable[Place], threads: int = READ_THREADS
) -> Generator[tuple[Place, Ids, Ids], None, None]:
    """Yield (place, center_N, context_N) in order, while threads fetch and decode the next ones.

    A reading error is raised at the row group that it belongs to.
    """
    places = iter(places)
    waiting: deque[tuple[Place, Future[tuple[Ids, Ids]]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="read-ahead")

    def submit(count: int) -> None:
        for place in islice(places, count):
            waiting.append((place, pool.submit(dataset.read_row_group, place.group)))

    try:
        submit(threads + 1)
        while waiting:
            place, pairs = waiting.popleft()
            center_N, context_N = pairs.result()
            submit(1)
            yield place, center_N, context_N
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
