"""Joining what several processes learned since they last had the same tables: each row's changes, from one common base.

Two changes x and y of a row are joined by AdaSum's rule (Maleki et al. 2021; the same projection as GraphAny2Vec's
gradient combiner, Gill et al. 2021):

    x·(1 − x·y / 2|x|²) + y·(1 − x·y / 2|y|²)

Changes at right angles are added, equal ones are averaged. More than two are joined in a tree of pairs. A rare word's
row, which one process changed, gets exactly that change. Plain sums diverge from four processes on, and averages learn
too slowly; docs/study.md has the table.

Row r of a table belongs to process r mod N: all send it their changes of that row, it joins them, and sends the result
to all. Only rows that changed are sent. Each process sends and receives at most twice its changed rows, whatever N is.

The rows of the most frequent words are joined each time, all rows only at full joins: a rare row is seldom changed by
two processes at once, and most rows are rare.

Shapes: N processes, V rows, D dimensions, R rows of a block, C of them that changed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from trainer.distributed.group import LiveArray, Processes

FREQUENT_PART = 8  # one row in so many is joined each time
BLOCK_NUMBERS = 1 << 24  # of a table, joined at once: 64 MiB, and as much again for what is sent and received

_CACHE_NUMBERS = 1 << 17
_TABLES = ("input", "output")
_TINY = 1e-30


class Merger:
    """Holds the common base of every array of an engine, and brings all processes to the next one."""

    def __init__(
        self, processes: Processes, arrays: Mapping[str, LiveArray], counts: Mapping[str, npt.NDArray[np.int64]],
        rule: str = "adasum",
    ) -> None:  # fmt: skip
        """Take process 0's arrays as the base, in every process.

        Args:
            processes: who takes part.
            arrays: live arrays (NumPy's or tensors) by the engine's names; they are updated in place.
            counts: of the tables `input` and `output`: how often each row occurs; rows after these never do.
            rule: one of merge_plan.MERGE_RULES, for the two tables.
        """
        self._processes, self._rule = processes, rule
        self._live = {name: _as_rows(array) for name, array in arrays.items()}
        self._base = {}
        for name, live_VD in self._live.items():
            base_VD = live_VD.contiguous().clone()  # rows of a live table need not be adjacent
            processes.broadcast(base_VD)
            live_VD.copy_(base_VD)
            self._base[name] = base_VD
        self._rows = {name: _frequent_and_rare(counts_R) for name, counts_R in counts.items()}

    def merge(self, full: bool = True) -> None:
        """Bring all processes to the same arrays, or to the same frequent rows; all must call it alike."""
        with torch.no_grad():
            for name, live_VD in self._live.items():
                if len(live_VD) > 1:
                    frequent, rare = self._rows[name.partition(".")[0]]
                    self._merge_rows(name, frequent)
                    if full:
                        self._merge_rows(name, rare)
                elif full:  # a number for the whole table
                    self._merge_rows(name, torch.zeros(1, dtype=torch.int64))

    def _merge_rows(self, name: str, rows_R: torch.Tensor) -> None:
        live_VD, base_VD = self._live[name], self._base[name]
        size, rank, rule = self._processes.size, self._processes.rank, self._rule_of(name)
        for block in torch.split(rows_R, max(1, BLOCK_NUMBERS // live_VD.shape[1])) if len(rows_R) else ():
            rows_C, change_CD = _changed_rows(live_VD, base_VD, block.to(live_VD.device))
            by_owner = [(rows_C % size == owner).nonzero().squeeze(1) for owner in range(size)]
            rows = self._processes.exchange([rows_C[at] for at in by_owner])
            changes = self._processes.exchange([change_CD[at] for at in by_owner])
            own, joined_RD = _join_rows(rows, changes, size, rank, len(live_VD), rule)
            all_rows = torch.cat(self._processes.exchange([own] * size))
            base_VD.index_add_(0, all_rows, torch.cat(self._processes.exchange([joined_RD] * size)))
            live_VD.index_copy_(0, all_rows, base_VD.index_select(0, all_rows))

    def _rule_of(self, name: str) -> str:
        """Adagrad's sums of squares add up; Adam's moving averages and step counts are averaged."""
        if name in _TABLES:
            return self._rule
        return "sum" if name.endswith(".sum") else "average"


def _frequent_and_rare(counts_R: npt.NDArray[np.int64]) -> list[torch.Tensor]:
    order_R = np.argsort(-counts_R, kind="stable")  # an id says nothing about frequency
    part = len(order_R) // FREQUENT_PART
    return [torch.from_numpy(np.sort(rows)) for rows in (order_R[:part], order_R[part:])]


def _changed_rows(
    live_VD: torch.Tensor, base_VD: torch.Tensor, rows_R: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of some rows differ, and by how much; looked for in pieces that stay in the caches of a CPU."""
    height = max(1, (_CACHE_NUMBERS if live_VD.device.type == "cpu" else BLOCK_NUMBERS) // live_VD.shape[1])
    rows, changes = [], []
    for piece in torch.split(rows_R, height):
        first, last = int(piece[0]), int(piece[-1])
        at: slice | torch.Tensor = slice(first, last + 1) if last - first + 1 == len(piece) else piece
        change_RD = live_VD[at] - base_VD[at]
        changed_C = change_RD.any(dim=1).nonzero().squeeze(1)
        rows.append(piece[changed_C])
        changes.append(change_RD[changed_C])
    return torch.cat(rows), torch.cat(changes)


def join_changes(changes: list[torch.Tensor], rule: str) -> torch.Tensor:
    """Join the changes [R, D] of N processes to one; see the head of this module for the rules."""
    if rule != "adasum":
        total_RD = torch.stack(changes).sum(dim=0)
        return total_RD if rule == "sum" else total_RD / len(changes)
    while len(changes) > 1:
        pairs = [_adasum(x_RD, y_RD) for x_RD, y_RD in zip(changes[::2], changes[1::2], strict=False)]
        changes = pairs + changes[2 * len(pairs) :]
    return changes[0]


def _adasum(x_RD: torch.Tensor, y_RD: torch.Tensor) -> torch.Tensor:
    dot_R, x_R, y_R = (torch.einsum("ij,ij->i", *two) for two in ((x_RD, y_RD), (x_RD, x_RD), (y_RD, y_RD)))
    x_share_R, y_share_R = (1 - dot_R / (2 * square_R).clamp(min=_TINY) for square_R in (x_R, y_R))
    return torch.addcmul(x_RD * x_share_R[:, None], y_RD, y_share_R[:, None])


def _join_rows(
    rows: list[torch.Tensor], changes: list[torch.Tensor], size: int, rank: int, height: int, rule: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Join what each process sent of the rows that this one owns: their numbers, and one change for each."""
    place_R = torch.full((-(-height // size),), -1, dtype=torch.int64, device=rows[0].device)
    place_R[torch.cat(rows) // size] = 0
    own = place_R.add(1).nonzero().squeeze(1)
    place_R[own] = torch.arange(len(own), device=own.device)
    dense = []
    for rows_R, change_RD in zip(rows, changes, strict=True):
        dense_RD = change_RD.new_zeros((len(own), change_RD.shape[1]))
        dense_RD[place_R[rows_R // size]] = change_RD
        dense.append(dense_RD)
    return own * size + rank, join_changes(dense, rule)


def _as_rows(array: LiveArray) -> torch.Tensor:
    tensor = torch.from_numpy(array) if isinstance(array, np.ndarray) else array.detach()
    return tensor if tensor.ndim == 2 else tensor.view(1, -1)
