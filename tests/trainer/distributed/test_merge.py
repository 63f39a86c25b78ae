"""Joining: all processes come to the same arrays, rare rows add up, equal changes are averaged."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.distributed import merge
from trainer.distributed.group import Processes
from trainer.distributed.merge import Merger, join_changes

ROWS, DIM = 40, 5
Table = npt.NDArray[np.float32]


class Threads(Processes):
    """Processes that are threads of this one."""

    def __init__(self, rank: int, size: int, shared: dict[str, Any]) -> None:
        self.rank, self.size, self._shared = rank, size, shared

    def _share(self, value: Any) -> list[Any]:
        self._shared["given"][self.rank] = value
        self._shared["barrier"].wait(20)
        given = list(self._shared["given"])
        self._shared["barrier"].wait(20)
        return given

    def broadcast(self, array: Any) -> None:
        array.copy_(self._share(array.clone())[0])

    def exchange(self, blocks: Sequence[Any]) -> list[Any]:
        return [given[self.rank] for given in self._share([block.clone() for block in blocks])]


def run(size: int, work: Callable[[Processes], Any]) -> list[Any]:
    shared = {"given": [None] * size, "barrier": threading.Barrier(size)}
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(work, [Threads(rank, size, shared) for rank in range(size)]))


def counts() -> dict[str, npt.NDArray[np.int64]]:
    """Of an extended vocabulary: the frequent words are rows 10 to 14."""
    counts_V = np.where(np.arange(ROWS) // 5 == 2, 1000, np.arange(ROWS)).astype(np.int64)
    return {"input": counts_V, "output": counts_V}


def change_of(rank: int, rows: list[int]) -> Table:
    change = np.zeros((ROWS, DIM), np.float32)
    change[rows] = np.random.default_rng(rank).normal(size=(len(rows), DIM))
    return change


def brute_force(changes: list[Table], rule: str) -> Table:
    """Row by row, number by number, as the papers have it."""
    if rule != "adasum":
        return np.asarray(sum(changes) / (1 if rule == "sum" else len(changes)), np.float32)
    if len(changes) == 1:
        return changes[0]
    # The same tree: neighbours first, an odd one waits.
    joined = []
    for n in range(0, len(changes) - 1, 2):
        out = np.zeros_like(changes[n])
        for row, (x, y) in enumerate(zip(changes[n], changes[n + 1], strict=True)):
            dot, xx, yy = float(x @ y), float(x @ x), float(y @ y)
            out[row] = x * (1 - (dot / (2 * xx) if xx else 0)) + y * (1 - (dot / (2 * yy) if yy else 0))
        joined.append(out)
    return brute_force(joined + changes[2 * len(joined) :], rule)


@pytest.mark.parametrize("rule", ["adasum", "sum", "average"])
@pytest.mark.parametrize("few", [True, False], ids=["a few rows", "all rows"])
@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_all_come_to_the_joined_change(rule: str, few: bool, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "BLOCK_NUMBERS", 13 * DIM)  # several blocks, the last one shorter

    def rows(rank: int) -> list[int]:
        return [rank, rank + 1, 30] if few else list(range(ROWS))

    def work(processes: Processes) -> Any:
        # Rows that lie apart, as those of the compiled engine do.
        wide = {name: np.full((ROWS, DIM + 3), processes.rank + 1.0, np.float32) for name in ("input", "output")}
        tables = {name: table[:, :DIM] for name, table in wide.items()}
        merger = Merger(processes, tables, counts(), rule)
        start = tables["input"].copy()
        found = []
        for turn in range(2):  # the second from the first's result
            tables["input"] += change_of(processes.rank + size * turn, rows(processes.rank))
            merger.merge()
            found.append(tables["input"].copy())
        assert (wide["input"][:, DIM:] == processes.rank + 1.0).all()
        return start, found, tables["output"].copy()

    results = run(size, work)
    base = np.ones((ROWS, DIM), np.float32)
    for turn in range(2):
        base = base + brute_force([change_of(rank + size * turn, rows(rank)) for rank in range(size)], rule)
        for start, found, output in results:
            assert (start == 1.0).all()  # process 0's
            assert (output == 1.0).all()
            np.testing.assert_array_equal(found[turn], results[0][1][turn])
            np.testing.assert_allclose(found[turn], base, rtol=1e-4, atol=1e-5)


@given(st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_adasum_averages_equal_changes_and_adds_those_at_right_angles(size: int, seed: int) -> None:
    change = torch.from_numpy(np.random.default_rng(seed).normal(size=(3, 16)).astype(np.float32))
    torch.testing.assert_close(join_changes([change] * size, "adasum"), change)
    apart = [torch.zeros(3, 16) for _ in range(size)]
    for n, one in enumerate(apart):
        one[:, n] = n + 1.0
    torch.testing.assert_close(join_changes(apart, "adasum"), sum(apart, torch.zeros(3, 16)))
    alone = [change, *[torch.zeros(3, 16)] * (size - 1)]
    torch.testing.assert_close(join_changes(alone, "adasum"), change)


@given(st.integers(2, 8), st.integers(0, 2**32 - 1), st.floats(-12, 12))
def test_a_joined_change_is_never_longer_than_independent_ones(size: int, seed: int, magnitude: float) -> None:
    rng = np.random.default_rng(seed)
    common = rng.normal(size=8) * rng.uniform(0, 3)
    drawn = [(common + rng.normal(size=8)) * 10**magnitude for _ in range(size)]
    changes = [torch.from_numpy(one)[None] for one in drawn]
    joined = join_changes(changes, "adasum")
    assert float(joined.square().sum()) <= float(sum(one.square().sum() for one in changes)) * (1 + 1e-9)


def test_between_full_joins_rare_rows_stay_each_processes_own() -> None:
    def work(processes: Processes) -> Any:
        tables = {"input": np.zeros((ROWS, DIM), np.float32)}
        merger = Merger(processes, tables, counts(), "sum")
        for full in (False, False, True):
            tables["input"] += processes.rank + 1
            merger.merge(full=full)
            yield tables["input"].copy()

    for rank, (_, second, last) in enumerate(run(2, lambda processes: list(work(processes)))):
        np.testing.assert_array_equal(second[10:15], 6.0)
        np.testing.assert_array_equal(np.delete(second, range(10, 15), axis=0), 2.0 * (rank + 1))
        np.testing.assert_array_equal(last, 9.0)


def test_only_changed_rows_are_sent() -> None:
    sent: list[int] = []

    class Counting(Threads):
        def exchange(self, blocks: Sequence[Any]) -> list[Any]:
            sent.append(sum(block.numel() for block in blocks if block.dtype == torch.float32))
            return super().exchange(blocks)

    def work(processes: Processes) -> None:
        tables = {"input": np.zeros((ROWS, DIM), np.float32)}
        merger = Merger(processes, tables, counts())
        tables["input"][7] += 1.0
        merger.merge()

    shared = {"given": [None] * 2, "barrier": threading.Barrier(2)}
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, [Counting(rank, 2, shared) for rank in range(2)]))
    # One row from each to its owner, and the joined one from there to both.
    assert sum(sent) == 2 * DIM + 2 * DIM


def test_an_optimizers_state_is_joined_by_its_kind() -> None:
    def work(processes: Processes) -> Any:
        arrays = {
            "input": torch.zeros(ROWS, DIM), "output": torch.zeros(ROWS, DIM), "input.sum": torch.zeros(ROWS, DIM),
            "input.exp_avg": torch.zeros(ROWS, DIM), "input.step": torch.tensor(0.0),
        }  # fmt: skip
        merger = Merger(processes, arrays, counts(), "sum")
        for name in ("input.sum", "input.exp_avg", "input.step"):
            arrays[name] += 2.0 * (processes.rank + 1)
        arrays["input"] += 1.0
        merger.merge()
        return {name: float(array.mean()) for name, array in arrays.items()}

    expected = {"input": 2.0, "output": 0.0, "input.sum": 6.0, "input.exp_avg": 3.0, "input.step": 3.0}
    assert run(2, work) == [expected] * 2
