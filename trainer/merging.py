"""Joining what several processes learnt since they last agreed: the change of each row, from one common base.

The changes are added up, then scaled by how far the row can be expected to have come. After n updates at a rate η a
row is 1 − e^(−a) of the way to where it is drawn, a = κ·η·n, so N processes that each go that far from one base, and one
process that takes all N·n updates, differ by the factor (1 − e^(−N·a)) / (N·(1 − e^(−a))): near 1 for a rare
row, whose changes add up, near 1/N for a frequent one, of which each process has found the same place. n follows from
the vocabulary's counts. On one epoch of 19.9 M words with two processes, merging every 2 Mi pairs, analogies came to .202
(.207 with one process) against .179 by the plain sum, .160 by the average and .186 by AdaSum's rule (sums scaled by
the changes' cosine).

Shapes: V rows, D dimensions, C changed rows, R rows of a block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trainer.processes import Processes

BLOCK_NUMBERS = 1 << 20  # 4 MiB: blocks that stay in a core's cache go 4 times as fast through gloo
DENSE_FRACTION = 0.5  # from here on, picking out the changed rows costs more than sending all
DENSE_MERGES = 16  # how long to take that for granted, since looking costs as much as sending

KAPPA = 0.05  # fitted at D=100 and rate 0.04; 0.03 to 0.1 score within a seed's spread
TINY = 1e-9

_TABLES = ("input", "output")


def update_shares(counts_V: npt.NDArray[np.int64], sample: float) -> npt.NDArray[np.float64]:
    """Which share of a corpus's pairs updates each row: its frequency, after subsampling by word2vec.c's rule."""
    frequency_V = counts_V / max(int(counts_V.sum()), 1)
    if sample:
        ratio_V = sample / np.maximum(frequency_V, 1e-300)
        frequency_V = frequency_V * np.minimum(1.0, np.sqrt(ratio_V) + ratio_V)
    return np.asarray(frequency_V / max(float(frequency_V.sum()), 1e-300), np.float64)


def joint_factor(updates_V: npt.NDArray[np.float64], rate: float, processes: int) -> npt.NDArray[np.float64]:
    """What the sum of changes is scaled by, from 1/N for rows of many updates to 1 for those of few.

    Args:
        updates_V: expected updates in each process.
        rate: learning rate.
        processes: N.
    """
    come_V = KAPPA * rate * np.asarray(updates_V, np.float64)
    with np.errstate(invalid="ignore"):
        factor_V = np.expm1(-processes * come_V) / (processes * np.expm1(-come_V))
    return np.where(come_V > TINY, factor_V, 1.0)


class Merger:
    """Holds the common base of every array of an engine, and moves all processes to the next one."""

    def __init__(
        self, processes: Processes, arrays: Mapping[str, Any], shares_V: npt.NDArray[np.float64], rule: str
    ) -> None:
        """Take process 0's arrays as the base, in every process.

        Args:
            processes: who takes part.
            arrays: live arrays (NumPy's or tensors) by the engine's names; they are updated in place.
            shares_V: see update_shares.
            rule: one of MERGE_RULES.
        """
        self._processes, self._shares_V, self._rule = processes, shares_V, rule
        self._live = {name: _as_rows(array) for name, array in arrays.items()}
        for live_VD in self._live.values():
            processes.give(live_VD)
        self._base = {name: live_VD.clone() for name, live_VD in self._live.items()}
        self._dense = dict.fromkeys(self._live, 0)

    def merge(self, pairs: int, rate: float) -> None:
        """Bring all processes to the same arrays; every process must call it equally often.

        Args:
            pairs: of all processes since the last time.
            rate: learning rate.
        """
        size = self._processes.size
        factor_V = joint_factor(self._shares_V * (pairs / size), rate, size)
        with torch.no_grad():
            for name, live_VD in self._live.items():
                rule = self._rule if name in _TABLES else "sum" if name.endswith(".sum") else "average"
                factor: torch.Tensor | float = {"sum": 1.0, "average": 1.0 / size}.get(rule, 0.0)
                if rule == "saturating":
                    factor = torch.from_numpy(factor_V[:, None]).to(live_VD)
                self._merge_table(name, factor)

    def _merge_table(self, name: str, factor: torch.Tensor | float) -> None:
        live_VD, base_VD = self._live[name], self._base[name]
        size = max(1, BLOCK_NUMBERS // live_VD.shape[1])
        rows_C = self._changed_rows(name)
        if rows_C is None:
            for start in range(0, len(live_VD), size):
                block = slice(start, start + size)
                change_RD = live_VD[block] - base_VD[block]
                self._processes.add(change_RD)
                change_RD *= factor[block] if isinstance(factor, torch.Tensor) else factor
                base_VD[block] += change_RD
                live_VD[block] = base_VD[block]
            return
        for rows_R in torch.split(rows_C, size):
            joined_RD = base_VD[rows_R]
            change_RD = live_VD[rows_R] - joined_RD
            self._processes.add(change_RD)
            change_RD *= factor[rows_R] if isinstance(factor, torch.Tensor) else factor
            joined_RD += change_RD
            base_VD[rows_R] = joined_RD
            live_VD[rows_R] = joined_RD

    def _changed_rows(self, name: str) -> torch.Tensor | None:
        """Rows that any process changed; None where they are so many, or were last time, that all rows shall go."""
        self._dense[name] = max(0, self._dense[name] - 1)
        if self._dense[name]:
            return None
        changed_V = (self._live[name] != self._base[name]).any(dim=1).to(torch.int32)
        self._processes.add(changed_V)
        rows_C = changed_V.nonzero()[:, 0]
        if len(rows_C) <= DENSE_FRACTION * len(changed_V):
            return rows_C
        self._dense[name] = DENSE_MERGES
        return None


def _as_rows(array: Any) -> torch.Tensor:
    tensor = torch.from_numpy(array) if isinstance(array, np.ndarray) else array.detach()
    return tensor if tensor.ndim == 2 else tensor.view(1, -1)
