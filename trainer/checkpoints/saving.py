"""When a checkpoint is due, and the thread that waits for the disk while training goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from trainer.checkpoints.write import Checkpoints
from trainer.config import TrainConfig
from trainer.data.position import Progress
from trainer.models.tensors import AnyArray


class Saver:
    """Writes one checkpoint at a time."""

    def __init__(self, config: TrainConfig, checkpoints: Checkpoints) -> None:
        """See `plan` for when the first one is due."""
        self._minutes, self._pairs, self._checkpoints = config.checkpoint_minutes, config.checkpoint_pairs, checkpoints
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._at_s = self._at_pairs = math.inf

    def plan(self, pairs: int) -> None:
        """The next one is due so long from now, or so many pairs after these."""
        self._at_s = time.monotonic() + self._minutes * 60 if self._minutes else math.inf
        self._at_pairs = pairs + self._pairs if self._pairs else math.inf

    def is_due(self, pairs: int) -> bool:
        """Tell whether one is due after so many pairs; while one is being written the next one waits, not training."""
        busy = self._pending is not None and not self._pending.done()
        return not busy and (time.monotonic() >= self._at_s or pairs >= self._at_pairs)

    def write(self, progress: Progress, arrays: Mapping[str, AnyArray]) -> None:
        """Write the arrays as they are now; they may change once this returns. An error of the last one is raised."""
        self.wait()
        finish = self._checkpoints.write(progress, arrays)
        if finish is not None:
            self._pending = self._pool.submit(finish)

    def wait(self) -> None:
        """Wait until the last one is complete, and raise its error."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Let the last one be completed."""
        self._pool.shutdown()
