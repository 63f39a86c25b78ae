"""Row groups on their way to a device: pinned memory, a stream of its own for the copies, losses that are read late.

Shapes: B pairs, P programs.
"""

from __future__ import annotations

import functools

import numpy as np
import torch

from trainer.data.order import Ids

_ALIGN = 1 << 16  # pairs: sizes grow in steps, and both halves of a slot begin at whole cache lines


class Slot:
    """Room for one row group on the host and on the device, and for the losses of its pairs.

    Where the device is no GPU (Triton's interpreter), everything is done at once.
    """

    def __init__(self, device: torch.device, programs: int) -> None:
        """Take the memory of the losses; that of the ids comes with the first row group."""
        self._device, self._is_gpu = device, device.type == "cuda"
        self._busy = False
        self.loss_P = torch.zeros(programs, dtype=torch.float64, device=device)
        self._loss = torch.zeros((), dtype=torch.float64, pin_memory=self._is_gpu)
        self._copied: torch.cuda.Event | None = None
        self._done: torch.cuda.Event | None = None
        if self._is_gpu:
            self._copied, self._done = torch.cuda.Event(), torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._grow(1)

    def load(self, center_B: Ids, context_B: Ids) -> tuple[torch.Tensor, torch.Tensor]:
        """Begin to copy a row group, once `collect` has emptied the slot; what is launched next waits for it.

        Returns:
            Centers and contexts, int32 [B] on the device.
        """
        assert not self._busy
        pairs = center_B.size
        if pairs > self._host.shape[1]:
            self._grow(pairs)
        for row, ids_B in enumerate((center_B, context_B)):
            np.copyto(self._host[row, :pairs], ids_B)
        if self._copied is None:
            return self._ids[0, :pairs], self._ids[1, :pairs]
        copying = _copy_stream(torch.cuda.current_device())
        with torch.cuda.stream(copying):
            for row in range(2):
                self._ids[row, :pairs].copy_(self._pinned[row, :pairs], non_blocking=True)
            self._copied.record()
        torch.cuda.current_stream().wait_event(self._copied)
        return self._ids[0, :pairs], self._ids[1, :pairs]

    def launched(self) -> None:
        """Say that the kernel which fills loss_P has been launched; nothing is waited for."""
        self._loss.copy_(self.loss_P.sum(), non_blocking=True)
        if self._done is not None:
            self._done.record()
        self._busy = True

    def collect(self) -> float:
        """Wait until what was launched is done; its summed loss, 0 where there was nothing."""
        if not self._busy:
            return 0.0
        if self._done is not None:
            self._done.synchronize()
        self._busy = False
        return float(self._loss)

    def _grow(self, pairs: int) -> None:
        size = -(-pairs // _ALIGN) * _ALIGN
        if self._is_gpu:
            torch.cuda.current_stream().synchronize()  # the new memory may be some that a kernel still works with
        self._pinned = torch.empty((2, size), dtype=torch.int32, pin_memory=self._is_gpu)
        self._host = self._pinned.numpy()
        self._ids = torch.empty_like(self._pinned, device=self._device) if self._is_gpu else self._pinned


@functools.cache
def _copy_stream(_index: int) -> torch.cuda.Stream:
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]
