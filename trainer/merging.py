"""Joining what several processes learnt since they last agreed: the change of each row, from one common base.

A row that one process alone changed takes that change whole. Where several changed it, their sum is scaled by
min(1, Σ|δ|² / |Σδ|²): independent changes add up, equal ones are averaged. This is AdaSum's idea (Maleki et al. 2021)
in a form that needs nothing but sums, so that one all-reduce does it for any number of processes.

Shapes: V rows, D dimensions, R rows of a block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from trainer.processes import Processes

BLOCK_NUMBERS = 1 << 22
DENSE_FRACTION = 0.5  # from here on, picking out the changed rows costs more than sending all

_TABLES = ("input", "output")


class Merger:
    """Holds the common base of every array of an engine, and moves all processes to the next one."""

    def __init__(self, processes: Processes, arrays: Mapping[str, Any], rule: str = "adaptive") -> None:
        """Take process 0's arrays as the base, in every process.

        Args:
            processes: who takes part.
            arrays: live arrays (NumPy's or tensors) by the engine's names; they are updated in place.
            rule: how rows that several processes changed are joined.
        """
        self._processes, self._rule = processes, rule
        self._live = {name: _as_rows(array) for name, array in arrays.items()}
        for live_VD in self._live.values():
            processes.give(live_VD)
        self._base = {name: live_VD.clone() for name, live_VD in self._live.items()}

    def merge(self) -> None:
        """Bring all processes to the same arrays; every process must call it equally often."""
        with torch.no_grad():
            for name, live_VD in self._live.items():
                self._merge_table(live_VD, self._base[name], self._rule_of(name))

    def _rule_of(self, name: str) -> str:
        """Adagrad's sums of squares add up; Adam's moving averages and step counts are averaged."""
        if name in _TABLES:
            return self._rule
        return "sum" if name.endswith(".sum") else "average"

    def _merge_table(self, live_VD: torch.Tensor, base_VD: torch.Tensor, rule: str) -> None:
        rows, dim = live_VD.shape
        size = max(1, BLOCK_NUMBERS // dim)
        changed_V = (live_VD != base_VD).any(dim=1).to(torch.int32)
        self._processes.add(changed_V)
        if int(changed_V.count_nonzero()) > DENSE_FRACTION * rows:
            for start in range(0, rows, size):
                block = slice(start, start + size)
                base_VD[block] += self._joined(live_VD[block] - base_VD[block], rule)
                live_VD[block] = base_VD[block]
            return
        for rows_R in changed_V.nonzero()[:, 0].split(size):
            joined_RD = base_VD[rows_R]
            joined_RD += self._joined(live_VD[rows_R] - joined_RD, rule)
            base_VD[rows_R] = joined_RD
            live_VD[rows_R] = joined_RD

    def _joined(self, change_RD: torch.Tensor, rule: str) -> torch.Tensor:
        if rule == "adaptive":
            square_R1 = change_RD.square().sum(dim=1, keepdim=True)
            self._processes.add(square_R1)
        self._processes.add(change_RD)
        if rule == "adaptive":
            together_R1 = change_RD.square().sum(dim=1, keepdim=True)
            change_RD *= torch.where(together_R1 > square_R1, square_R1 / together_R1, 1.0)
        elif rule == "average":
            change_RD /= self._processes.size
        return change_RD


def _as_rows(array: Any) -> torch.Tensor:
    tensor = torch.from_numpy(array) if isinstance(array, np.ndarray) else array.detach()
    return tensor if tensor.ndim == 2 else tensor.view(1, -1)
