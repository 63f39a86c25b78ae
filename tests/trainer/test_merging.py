"""Merging: all come to the same arrays; rare rows add up, frequent ones are averaged."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from trainer import merging
from trainer.merging import Merger, joint_factor, update_shares
from trainer.processes import Processes

ROWS, DIM = 40, 5


class Threads(Processes):
    """Processes that are threads of this one."""

    def __init__(self, rank: int, size: int, shared: dict[str, Any]) -> None:
        self.rank, self.size, self._shared = rank, size, shared

    def _exchange(self, array: Any, join: Callable[[list[Any]], Any]) -> None:
        view = torch.from_numpy(array) if isinstance(array, np.ndarray) else array
        self._shared["given"][self.rank] = view.clone()
        self._shared["barrier"].wait(20)
        result = join(self._shared["given"])
        self._shared["barrier"].wait(20)
        view.copy_(result)

    def add(self, array: Any) -> None:
        self._exchange(array, lambda given: sum(given[1:], given[0].clone()))

    def give(self, array: Any) -> None:
        self._exchange(array, lambda given: given[0])


def run(size: int, work: Callable[[Processes], Any]) -> list[Any]:
    shared = {"given": [None] * size, "barrier": threading.Barrier(size)}
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(work, [Threads(rank, size, shared) for rank in range(size)]))


def counts() -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.arange(ROWS, 0, -1, dtype=np.int64) ** 3


def changes(rank: int, rows: list[int]) -> np.ndarray[Any, np.dtype[np.float32]]:
    change = np.zeros((ROWS, DIM), np.float32)
    change[rows] = np.random.default_rng(rank).normal(size=(len(rows), DIM))
    return change


def merged(rule: str, size: int, rows: Callable[[int], list[int]], pairs: int = 3000) -> list[Any]:
    def work(processes: Processes) -> Any:
        tables = {name: np.full((ROWS, DIM), processes.rank + 1.0, np.float32) for name in ("input", "output")}
        merger = Merger(processes, tables, update_shares(counts(), 0.0), rule)
        start = tables["input"].copy()
        tables["input"] += changes(processes.rank, rows(processes.rank))
        merger.merge(pairs, 0.04, full=False)
        part = tables["input"].copy()
        merger.merge(0, 0.04, full=True)
        return start, part, tables["input"], tables["output"]

    return run(size, work)


@pytest.mark.parametrize("rule", ["saturating", "sum", "average"])
@pytest.mark.parametrize("few", [True, False], ids=["changed rows alone", "all rows"])
@pytest.mark.parametrize("size", [2, 3])
def test_all_come_to_the_joined_change(rule: str, few: bool, size: int) -> None:
    def rows(rank: int) -> list[int]:
        return [rank, rank + 1, 30] if few else list(range(ROWS))

    results = merged(rule, size, rows)
    total = sum(changes(rank, rows(rank)) for rank in range(size))
    shares = update_shares(counts(), 0.0)
    apart = sum((changes(rank, rows(rank)) ** 2).sum(axis=1) for rank in range(size))
    together = np.maximum((total**2).sum(axis=1), 1e-30)
    expected = np.minimum(joint_factor(shares * (3000 / size), 0.04, size), np.sqrt(apart / together))
    factors = expected[:, None] if rule == "saturating" else {"sum": 1.0, "average": 1 / size}[rule]
    for start, part, found, output in results:
        assert (start == 1.0).all()  # process 0's
        assert (output == 1.0).all()
        np.testing.assert_array_equal(found, results[0][2])
        np.testing.assert_allclose(found, 1.0 + total * factors, rtol=1e-5, atol=1e-6)
        frequent = ROWS // merging.FREQUENT_PART
        np.testing.assert_allclose(part[:frequent], found[:frequent])
        np.testing.assert_array_equal(part, np.where(np.arange(ROWS)[:, None] < frequent, found, part))


def test_a_joined_change_is_no_longer_than_independent_ones() -> None:
    def work(processes: Processes) -> Any:
        tables = {name: np.zeros((ROWS, DIM), np.float32) for name in ("input", "output")}
        merger = Merger(processes, tables, update_shares(counts(), 0.0), "saturating")
        tables["input"] += 1.0  # all found the same
        tables["output"][:, processes.rank] = 1.0  # each something else
        merger.merge(0, 0.04, full=True)
        return tables

    for tables in run(4, work):
        np.testing.assert_allclose(tables["input"], 2.0, rtol=1e-6)
        np.testing.assert_allclose(tables["output"][:, :4], 1.0, rtol=1e-6)


def test_between_full_merges_rare_rows_stay_each_processes_own() -> None:
    results = merged("sum", 2, lambda rank: [39])
    for rank, (_, part, _, _) in enumerate(results):
        np.testing.assert_allclose(part[39], 1.0 + changes(rank, [39])[39])


def test_the_factor_goes_from_one_to_the_average() -> None:
    updates = np.array([0.0, 1e-3, 10.0, 1000.0, 1e9])
    factors = joint_factor(updates, 0.04, 4)
    assert factors[0] == 1.0
    assert factors[1] == pytest.approx(1.0, abs=1e-4)
    assert factors[-1] == pytest.approx(0.25)
    assert (np.diff(factors) < 0).all()
    assert (joint_factor(updates, 0.0, 4) == 1.0).all()


def test_shares_follow_the_subsampling_rule() -> None:
    counts_V = np.array([900, 90, 10])
    np.testing.assert_allclose(update_shares(counts_V, 0.0), [0.9, 0.09, 0.01])
    kept = np.array([(0.1 / f) ** 0.5 + 0.1 / f if f > 0.27 else 1.0 for f in (0.9, 0.09, 0.01)])
    weights = np.array([0.9, 0.09, 0.01]) * np.minimum(kept, 1.0)
    np.testing.assert_allclose(update_shares(counts_V, 0.1), weights / weights.sum())


def test_an_optimizers_state_is_merged_by_its_kind() -> None:
    def work(processes: Processes) -> Any:
        arrays = {
            "input": torch.zeros(ROWS, DIM), "output": torch.zeros(ROWS, DIM), "input.sum": torch.zeros(ROWS, DIM),
            "input.exp_avg": torch.zeros(ROWS, DIM), "input.step": torch.tensor(0.0),
        }  # fmt: skip
        merger = Merger(processes, arrays, update_shares(counts(), 0.0), "sum")
        for name in ("input.sum", "input.exp_avg", "input.step"):
            arrays[name] += 2.0 * (processes.rank + 1)
        arrays["input"] += 1.0
        merger.merge(100, 0.04, full=True)
        return {name: float(array.mean()) for name, array in arrays.items()}

    expected = {"input": 2.0, "output": 0.0, "input.sum": 6.0, "input.exp_avg": 3.0, "input.step": 3.0}
    assert run(2, work) == [expected] * 2
