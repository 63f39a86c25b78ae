"""The processes that train one model together, as torchrun starts them: who they are, and what they exchange.

One process alone is a `Processes` too, and needs no PyTorch for it.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import time
import types
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from trainer.errors import LostProcessError, Stopped, ToldError, UserError

if TYPE_CHECKING:
    import torch

TIMEOUT_MINUTES = 10  # for one collective: a process that takes longer to read its share counts as lost
POLL_S = 0.1  # between two looks for a text of process 0
LOST_WAIT_S = 2.0  # for a process that failed to say why, before it is called lost
LEAVE_WAIT_S = 5.0  # for the others to leave as well, and to read why process 0 failed
LiveArray: TypeAlias = "npt.NDArray[np.generic] | torch.Tensor"

_ENVIRONMENT = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Processes:
    """One process alone: what it has is what all have.

    Attributes:
        rank: this process, from 0; that one reads and writes the model's folder.
        size: how many there are.
        local_size: how many of them are on this machine.
    """

    rank, size, local_size = 0, 1, 1

    def all_reduce(self, array: LiveArray) -> None:
        """Replace an array (NumPy's or a tensor) by its sum over all processes."""

    def broadcast(self, array: LiveArray) -> None:
        """Replace an array by that of process 0."""

    def exchange(self, blocks: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Send block n, a tensor, to process n; return what each process sent to this one.

        All processes send tensors of one dtype and of one shape after the first axis.
        """
        return list(blocks)

    def broadcast_text(self, text: str) -> str:
        """Return the text that process 0 calls this with; the others wait for it without a limit."""
        return text

    def require_equal(self, text: str, what: str) -> None:
        """Refuse to go on where a process has another text than process 0."""

    def report(self, message: str) -> bool:
        """Note why this process ends; False where another one has said the same already."""
        return True

    def close(self) -> None:
        """Leave the others."""

    def give_up(self) -> None:
        """Leave the others because of an error, so that they find out at once, and why."""


class JoinedProcesses(Processes):
    """Processes that torch.distributed connects: gloo between CPUs, NCCL between GPUs."""

    def __init__(self, device: str) -> None:
        """Wait for the others.

        Raises:
            UserError: they do not come, or there are fewer GPUs than processes on this machine.
        """
        import torch
        from torch import distributed

        self._torch, self._distributed = torch, distributed
        environment = os.environ
        self.rank, self.size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        self.local_size = int(environment.get("LOCAL_WORLD_SIZE", self.size))
        if device == "cuda":
            _take_gpu(torch, int(environment.get("LOCAL_RANK", self.rank)))
        limit = datetime.timedelta(minutes=TIMEOUT_MINUTES)
        try:
            backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
            distributed.init_process_group(backend, timeout=limit)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{self._name()}: cannot reach the other processes ({_first_line(error)})") from None
        self._store = distributed.distributed_c10d._get_default_store()
        self._texts = 0

    def all_reduce(self, array: LiveArray) -> None:
        with self._collective():
            self._distributed.all_reduce(self._tensor(array))

    def broadcast(self, array: LiveArray) -> None:
        with self._collective():
            self._distributed.broadcast(self._tensor(array), src=0)

    def exchange(self, blocks: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        torch, first = self._torch, blocks[0]
        counts = torch.tensor([len(block) for block in blocks], device=first.device)
        received = torch.empty_like(counts)
        with self._collective():
            self._distributed.all_to_all_single(received, counts)
            sizes = received.tolist()
            content = torch.empty((sum(sizes), *first.shape[1:]), dtype=first.dtype, device=first.device)
            self._distributed.all_to_all_single(content, torch.cat(list(blocks)), sizes, counts.tolist())
        return list(torch.split(content, sizes))

    def broadcast_text(self, text: str) -> str:
        """See Processes. It goes through the store: a collective would fail after TIMEOUT_MINUTES."""
        key, self._texts = f"text/{self._texts}", self._texts + 1
        with self._collective():
            if self.rank == 0:
                self._store.set(key, text)
                return text
            while not self._store.check([key]):
                if self._store.check(["failed"]):
                    raise ToldError("another process failed")
                time.sleep(POLL_S)
            content: bytes = self._store.get(key)
            return content.decode()

    def require_equal(self, text: str, what: str) -> None:
        digests: npt.NDArray[np.int64] = np.zeros((self.size, 32), np.int64)
        digests[self.rank] = list(hashlib.sha256(text.encode()).digest())
        self.all_reduce(digests)
        for other in np.flatnonzero((digests != digests[0]).any(axis=1)):
            raise UserError(f"process {other} of {self.size}: found {what} unlike process 0's, expected the same")

    def report(self, message: str) -> bool:
        with contextlib.suppress(RuntimeError):  # the store may be gone with its machine: then say it ourselves
            self._store.set("failed", message)
            return int(self._store.add("said/" + hashlib.sha256(message.encode()).hexdigest(), 1)) == 1
        return True

    def close(self) -> None:
        """See Processes. No process hangs up while another one may still be listening."""
        with contextlib.suppress(RuntimeError):
            self._store.add("closing", 1)
            self._wait_for("closing", self.size)
        self.give_up()

    def give_up(self) -> None:
        """See Processes. Process 0 holds the messages for the others, unless torchrun does: it leaves last."""
        with contextlib.suppress(RuntimeError):
            self._distributed.destroy_process_group()
        with contextlib.suppress(RuntimeError):
            self._store.add("left", 1)
            if self.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
                self._wait_for("left", self.size)

    def _wait_for(self, key: str, count: int) -> None:
        deadline = time.monotonic() + LEAVE_WAIT_S
        while time.monotonic() < deadline and int(self._store.add(key, 0)) < count:
            time.sleep(0.01)

    def _tensor(self, array: LiveArray) -> torch.Tensor:
        return self._torch.from_numpy(array) if isinstance(array, np.ndarray) else array

    def _name(self) -> str:
        return f"process {self.rank} of {self.size}"

    @contextlib.contextmanager
    def _collective(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # what gloo, NCCL and the store raise alike
            raise self._explain(error) from None

    def _explain(self, error: RuntimeError) -> UserError:
        """Tell one that failed, and has said so, from one that was killed; the first to find out speaks for all."""
        found = f"{self._name()}: lost the others ({_first_line(error)})"
        with contextlib.suppress(RuntimeError):
            self._store.set(f"here/{self.rank}", "")
            deadline = time.monotonic() + LOST_WAIT_S
            while time.monotonic() < deadline:
                if self._store.check(["failed"]):
                    return ToldError("another process failed")
                time.sleep(0.05)
            if int(self._store.add("lost", 1)) > 1:
                return ToldError("another process was lost")
            gone = [str(rank) for rank in range(self.size) if not self._store.check([f"here/{rank}"])]
            if gone:
                found = f"process {', '.join(gone)} of {self.size} is gone"
        return LostProcessError(f"{found}; the same command goes on from the last checkpoint")


def has_others() -> bool:
    """Tell whether torchrun started this process with others."""
    return all(name in os.environ for name in _ENVIRONMENT) and int(os.environ["WORLD_SIZE"]) > 1


def speaks() -> bool:
    """Tell whether this process is the one that prints what all of them have to say."""
    return not has_others() or os.environ["RANK"] == "0"


@contextlib.contextmanager
def join(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started with this one; without torchrun it is alone.

    What fails inside is said by one process alone: the others raise ToldError.
    """
    processes = JoinedProcesses(device) if has_others() else Processes()
    try:
        yield processes
    except Stopped:
        processes.close()
        raise
    except (LostProcessError, ToldError):
        processes.give_up()
        raise
    except Exception as error:
        first = processes.report(str(error))
        processes.give_up()
        if not first:
            raise ToldError(str(error)) from None
        raise
    processes.close()


def _take_gpu(torch: types.ModuleType, local_rank: int) -> None:
    found = torch.cuda.device_count()
    if local_rank >= found:
        raise UserError(f"--device cuda: found {found} CUDA devices, expected one for each process on this machine")
    torch.cuda.set_device(local_rank)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
