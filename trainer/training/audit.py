"""Counting what was trained on: each pair of an epoch once, however the run was stopped, resumed and shared.

Counts go into the checkpoints with the tables, so both are always of the same position.

Shapes: G row groups of an epoch, N pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.dataset.reader import Dataset
from trainer.data.order import Ids, Place, read_ahead
from trainer.distributed.group import Processes
from trainer.errors import UserError
from trainer.models.tensors import Array

PREFIX = "audit."

Counts = npt.NDArray[np.int64]


def hash_pairs(center_N: Ids, context_N: Ids) -> int:
    """A sum over pairs of a 64-bit hash of each: it does not depend on their order, but on how often each one comes."""
    keys_N = ((center_N.astype(np.uint64) << np.uint64(32)) | context_N.astype(np.uint64)) + np.uint64(1)
    for factor in (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93):
        keys_N *= np.uint64(factor)
        keys_N ^= keys_N >> np.uint64(32)
    return int(keys_N.sum().astype(np.int64))


class Audit:
    """Counts pairs of the epoch that is trained, in this process and in all."""

    def __init__(self, processes: Processes) -> None:
        """Begin at the start of a training; `load_state` goes on."""
        self._processes = processes
        self._counted: Counts = np.zeros((2, 0), np.int64)  # rows: pairs and sum of hashes; of all processes
        self._since: Counts = self._counted.copy()  # the same, of this process since the last gathering

    def begin_epoch(self, groups: int) -> None:
        """Count from zero, unless counts of as many row groups were loaded."""
        if self._counted.shape[1] != groups:
            self._counted = np.zeros((2, groups), np.int64)
        self._since = np.zeros((2, groups), np.int64)

    def count(self, place: Place, center_N: Ids, context_N: Ids) -> None:
        """Note pairs of a row group that are trained now."""
        self._since[:, place.index] += (center_N.size, 0)
        with np.errstate(over="ignore"):
            self._since[1, place.index] += np.int64(hash_pairs(center_N, context_N))

    def gather(self) -> None:
        """Add up what all processes have counted; every process must call it equally often."""
        self._processes.all_reduce(self._since)
        self._counted += self._since
        self._since[:] = 0

    def end_epoch(self, dataset: Dataset, places: Sequence[Place]) -> dict[str, int]:
        """Compare the counts with what the dataset says, read once more; every process reads its share.

        Raises:
            UserError: a pair was left out, came twice, or was another one.
        """
        self.gather()
        self._processes.broadcast(self._counted)  # after a resumption only process 0 knows what came before
        found = np.zeros(3, np.int64)
        share = (places[index] for index in range(self._processes.rank, len(places), self._processes.size))
        for place, center_N, context_N in read_ahead(dataset, share):
            pairs, hashes = self._counted[:, place.index]
            found += (max(center_N.size - pairs, 0), max(pairs - center_N.size, 0), 0)
            found[2] += pairs == center_N.size and int(hashes) != hash_pairs(center_N, context_N)
        self._processes.all_reduce(found)
        result = {"pairs": int(self._counted[0].sum())}
        result.update(zip(("missing", "repeated", "altered_row_groups"), map(int, found), strict=True))
        if found.any():
            raise UserError(f"--audit: epoch {places[0].epoch + 1}: found {result}, expected each pair once")
        self._counted = np.zeros((2, 0), np.int64)
        return result

    def state(self) -> dict[str, Counts]:
        """What a checkpoint keeps; call `gather` before."""
        return {f"{PREFIX}counted": self._counted.copy()}

    def load_state(self, arrays: Mapping[str, Array]) -> None:
        """Put back what `state` returned."""
        if f"{PREFIX}counted" not in arrays:
            raise UserError("--audit: found a training that began without it, expected it from the start (--overwrite)")
        self._counted = np.array(arrays[f"{PREFIX}counted"], np.int64)
