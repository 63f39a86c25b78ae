"""The fused engine on a CUDA device: tables on the device, row groups copied there while the one before is trained.

It needs PyTorch and Triton, and neither Numba nor a compiler. Tables are updated by many programs at once, by additions
in no fixed order, so two runs differ in the last bits and then in more: results are not reproducible bit by bit.

Shapes: B pairs, P programs, V vocabulary rows, D dimensions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from trainer.config import TrainConfig
from trainer.data.order import Ids
from trainer.distributed.merge import BLOCK_NUMBERS
from trainer.engines.feed import Slot
from trainer.engines.init import Tables
from trainer.engines.kernels.triton.launch import Launcher, alias_tensor, choose_shape
from trainer.engines.negatives import build_alias, drawable_weights
from trainer.errors import UserError
from trainer.models.tensors import AnyArray

DEVICE = "cuda"
SLOTS = 3  # one is trained, one copied to the device, one filled on the host
_JOIN_COPIES = 6  # of a block: changes, what is sent, received, spread out, joined and sent back
_RESERVE_BYTES = 256 << 20  # for row groups on their way, the kernel's code and PyTorch's own


class CudaEngine:
    """The Triton kernels: negatives shared by a window, programs without locks; it runs ahead of its caller."""

    step_pairs = 0  # a whole row group: one launch of the kernel

    def __init__(self, config: TrainConfig, tables: Tables, counts_V: npt.NDArray[np.int64]) -> None:
        """Move the tables to the device, and compile.

        Raises:
            UserError: a model that does not fit into the device's memory or a program's registers.
        """
        self._config = config
        probabilities_V = drawable_weights(counts_V, config.power, config.exclude)
        per_pair = config.negative_sharing == "pair"
        shape = choose_shape(
            config.dim, config.negatives, architecture=config.architecture, per_pair=per_pair,
            arithmetic=config.arithmetic,
        )  # fmt: skip
        device = torch.device(DEVICE)
        with self._memory_errors():
            input_VD, output_VD = (torch.from_numpy(one_VD).to(device, copy=True).contiguous() for one_VD in tables)
            self._tables = input_VD, output_VD
            self._launcher = Launcher(
                self._tables,
                alias_tensor(build_alias(probabilities_V), device),
                shape,
                predict=config.predict,
                exclude=config.exclude,
                mean=config.cbow_mean,
            )
            self._slots = [Slot(device, self._launcher.programs) for _ in range(SLOTS)]
            self._aside = Slot(device, self._launcher.programs)
        self._turn = 0
        self.measure(np.zeros(1, np.int32), np.zeros(1, np.int32), key=0)

    def step(self, center_B: Ids, context_B: Ids, *, lr_start: float, lr_end: float, key: int) -> float:
        """See Engine, but that the loss is that of an earlier call, SLOTS before; `drain` has the rest."""
        slot = self._slots[self._turn]
        self._turn = (self._turn + 1) % SLOTS
        loss = slot.collect()
        self._launch(slot, center_B, context_B, lr_start, lr_end, key)
        return loss

    def drain(self) -> float:
        """Wait for the device; the loss of all steps that `step` has not returned yet."""
        return sum(slot.collect() for slot in self._slots)

    def measure(self, center_B: Ids, context_B: Ids, *, key: int) -> float:
        """See Engine. Nothing is added to the rows: the rate is 0."""
        self._launch(self._aside, center_B, context_B, 0.0, 0.0, key)
        return self._aside.collect()

    def tables(self) -> Tables:
        input_VD, output_VD = (table_VD.cpu().numpy() for table_VD in self._tables)
        return input_VD, output_VD

    def live(self) -> dict[str, AnyArray]:
        return {"input": self._tables[0], "output": self._tables[1]}

    def _launch(self, slot: Slot, center_B: Ids, context_B: Ids, lr_start: float, lr_end: float, key: int) -> None:
        if not center_B.size:
            return
        with self._memory_errors():
            ids = slot.load(center_B, context_B)
            self._launcher.launch(*ids, slot.loss_P, key=key, rate_start=lr_start, rate_end=lr_end)
            slot.launched()

    @contextlib.contextmanager
    def _memory_errors(self) -> Iterator[None]:
        try:
            yield
        except torch.cuda.OutOfMemoryError:
            raise UserError(
                f"--device cuda: found too little memory on it for --dim {self._config.dim}; lower it, raise the "
                "pipeline's --min-count, end what else uses the device, or take --device cpu"
            ) from None


def require_memory(config: TrainConfig, rows: int, processes: int = 1) -> None:
    """Refuse a model that the device has no room for, before its tables are made."""
    if torch.device(DEVICE).type == "cuda":
        require_room(config, rows, torch.cuda.mem_get_info()[0], processes)


def require_room(config: TrainConfig, rows: int, free_bytes: int, processes: int = 1) -> None:
    """Compare what a vocabulary of ``rows`` rows needs with the bytes that are free."""
    table = rows * config.dim * 4
    needed = 2 * table + rows * 8 + _RESERVE_BYTES
    if processes > 1:  # the common base of both tables, and what a join sends, receives and joins of one
        needed += 2 * table + _JOIN_COPIES * min(table, 4 * BLOCK_NUMBERS)
    if needed > free_bytes:
        raise UserError(
            f"--device cuda: found {free_bytes} bytes free on it, expected {needed} for {rows} words of --dim "
            f"{config.dim}; lower it, raise the pipeline's --min-count, or take --device cpu"
        )
