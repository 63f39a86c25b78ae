"""Joining what several processes learnt since they last agreed: the change of each row, from one common base.

The changes are added up, then scaled by the smaller of two factors.

- How far the row can be expected to have come. After n updates at a rate η a row is 1 − e^(−a) of the way to where it
  is drawn, a = κ·η·n, so N processes that each go that far from one base, and one that takes all N·n updates, differ by
  (1 − e^(−N·a)) / (N·(1 − e^(−a))): near 1 for a rare row, whose changes add up, near 1/N for a frequent one, of which
  each process has found the same place. n follows from the vocabulary's counts.
- √(Σ|δ|² / |Σδ|²): the joined change is never longer than if the processes' changes were independent. Without it four
  processes diverged: all find the same way in which the tables grow at the start, and four times that is too far.

After one epoch of 19.9 M words with two processes, merging all rows every 2 Mi pairs, analogies came to .202 by the
first factor alone (.207 with one process), with plain sums to .179, with averages to .160, with AdaSum's rule (Maleki
et al. 2021, the second factor squared) to .186.

Shapes: V rows, D dimensions, C changed rows, R rows of a block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trainer.processes import Processes

BLOCK_NUMBERS = 1 << 22  # 16 MiB: each call of gloo costs about a millisecond, larger blocks fall out of the caches
DENSE_FRACTION = 0.5  # from here on, picking out the changed rows costs more than sending all
FREQUENT_PART = 8  # one row in so many is merged in every round
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


Rows = slice | torch.Tensor


class Merger:
    """Holds the common base of every array of an engine, and moves all processes to the next one.

    The rows of the most frequent words are merged in every round, all rows in some (rounds.FULL_EVERY): the changes of
    rare rows add up whenever that is done, and most rows are rare.
    """

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
            given_VD = live_VD.contiguous()  # rows may lie apart
            processes.give(given_VD)
            live_VD.copy_(given_VD)
        self._base = {name: live_VD.clone() for name, live_VD in self._live.items()}
        frequent = np.argsort(-shares_V, kind="stable")[: len(shares_V) // FREQUENT_PART]
        self._is_frequent_V = np.zeros(len(shares_V), bool)
        self._is_frequent_V[frequent] = True
        self._pairs = {True: 0, False: 0}  # of all processes since frequent (True) and rare rows were merged
        self._dense = 0

    def merge(self, pairs: int, rate: float, full: bool) -> None:
        """Bring all processes to the same arrays, or to the same frequent rows; all must call it alike.

        Args:
            pairs: of all processes since the last time.
            rate: learning rate.
            full: merge all rows.
        """
        for frequent in (True, False):
            self._pairs[frequent] += pairs
        with torch.no_grad():
            for frequent in (True, False) if full else (True,):
                self._merge_rows(frequent, rate)
                self._pairs[frequent] = 0
            for name in self._live if full else ():
                if len(self._live[name]) != len(self._shares_V):  # a number for the whole table
                    self._merge_block(name, slice(None), self._rule_of(name), torch.ones(1))

    def _merge_rows(self, frequent: bool, rate: float) -> None:
        size = self._processes.size
        factor_V = joint_factor(self._shares_V * (self._pairs[frequent] / size), rate, size)
        rows = torch.from_numpy(np.flatnonzero(self._is_frequent_V == frequent))
        if not frequent:
            rows = self._changed(rows)
        for name, live_VD in self._live.items():
            if len(live_VD) == len(factor_V):
                factor_V1 = torch.from_numpy(factor_V[:, None]).to(live_VD)
                for block in _blocks(rows, max(1, BLOCK_NUMBERS // live_VD.shape[1])):
                    self._merge_block(name, block, self._rule_of(name), factor_V1[block])

    def _rule_of(self, name: str) -> str:
        """Adagrad's sums of squares add up; Adam's moving averages and step counts are averaged."""
        if name in _TABLES:
            return self._rule
        return "sum" if name.endswith(".sum") else "average"

    def _merge_block(self, name: str, rows: Rows, rule: str, factor_R1: torch.Tensor) -> None:
        live_RD, base_RD = self._live[name][rows], self._base[name][rows]
        change_RD = live_RD - base_RD
        if rule == "saturating":
            apart_R1 = _squares(change_RD)
            self._processes.add(apart_R1)
            self._processes.add(change_RD)
            together_R1 = _squares(change_RD)
            change_RD *= torch.where(together_R1 > apart_R1, apart_R1 / together_R1, 1.0).sqrt().clamp(max=factor_R1)
        else:
            self._processes.add(change_RD)
            change_RD *= 1.0 if rule == "sum" else 1.0 / self._processes.size
        change_RD += base_RD
        self._base[name][rows] = change_RD
        self._live[name][rows] = change_RD

    def _changed(self, rows_R: torch.Tensor) -> torch.Tensor:
        """Those rows that any process changed; all of them where that is most, or was so a short while ago."""
        self._dense = max(0, self._dense - 1)
        if self._dense:
            return rows_R
        changed_R = torch.zeros(len(rows_R), dtype=torch.int32)
        for name in _TABLES:
            differs_R = (self._live[name][rows_R] != self._base[name][rows_R]).any(dim=1)
            changed_R += differs_R.to("cpu", torch.int32)
        self._processes.add(changed_R)
        if int(changed_R.count_nonzero()) <= DENSE_FRACTION * len(rows_R):
            return rows_R[changed_R > 0]
        self._dense = DENSE_MERGES
        return rows_R


def _squares(change_RD: torch.Tensor) -> torch.Tensor:
    """Squared length of each row, [R, 1]."""
    square_R1: torch.Tensor = torch.linalg.vector_norm(change_RD, dim=1, keepdim=True).square()
    return square_R1


def _blocks(rows_R: torch.Tensor, size: int) -> list[Rows]:
    """Rows in blocks; as slices where they stand together, which spares a copy."""
    blocks: list[Rows] = []
    for block in torch.split(rows_R, size) if len(rows_R) else ():
        first, last = int(block[0]), int(block[-1])
        blocks.append(slice(first, last + 1) if last - first + 1 == len(block) else block)
    return blocks


def _as_rows(array: Any) -> torch.Tensor:
    tensor = torch.from_numpy(array) if isinstance(array, np.ndarray) else array.detach()
    return tensor if tensor.ndim == 2 else tensor.view(1, -1)
