"""Who writes a run's folder: a small file that is there as long as the run is not done.

On a local disk its process holds a lock on it, which the kernel drops with the process: then it is certain whether a
run is alive. A run on a cluster, or in an object store, has no such process; there only its age tells.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import socket
from collections.abc import Iterator

from pipeline.dataset.schema import canonical_json
from pipeline.errors import ConfigError
from pipeline.storage import storage
from pipeline.storage.local import locked

LEASE = "lease.json"
_MOST_BYTES = 1 << 16


class Writer(enum.Enum):
    """What is known of a run's writer."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"
    """There is a lease, of a process on another machine or of a cluster's job."""
    NONE = "none"
    """There is no lease: the run is done, or failed and said so."""


@contextlib.contextmanager
def hold_lease(folder: str, runner: str, in_process: bool) -> Iterator[Writer]:
    """Write the lease of a run's folder, and keep it locked until the block ends; drop_lease removes it.

    Args:
        folder: of the run.
        runner: Beam's name of what executes it.
        in_process: whether the run ends with this process.

    Yields:
        Who wrote here before.

    Raises:
        ConfigError: a live process does.
    """
    lease = canonical_json({"host": socket.gethostname(), "in_process": in_process, "runner": runner})
    if not storage.is_local(folder):
        storage.write_bytes(storage.join(folder, LEASE), lease)
        yield Writer.UNKNOWN
        return
    path = storage.local_path(storage.join(folder, LEASE))
    with contextlib.ExitStack() as stack:
        try:
            handle = stack.enter_context(locked(path))
        except BlockingIOError:
            name = folder.rpartition("/")[2]
            raise ConfigError(f"--run-id {name}: a run of that name is being written; choose another") from None
        before = _writer(handle)
        try:
            with storage.naming(path):
                os.ftruncate(handle, 0)
                os.pwrite(handle, lease, 0)
        except OSError:
            os.unlink(path)
            raise
        yield before


def drop_lease(folder: str) -> None:
    """Say that a run is done."""
    storage.remove_file(storage.join(folder, LEASE))


@contextlib.contextmanager
def probe_lease(folder: str) -> Iterator[Writer]:
    """Tell who writes a folder; where a local one's writer is dead, no other can begin until the block ends."""
    uri = storage.join(folder, LEASE)
    if not storage.is_local(folder):
        yield Writer.UNKNOWN if storage.exists(uri) else Writer.NONE
        return
    with contextlib.ExitStack() as stack:
        try:
            writer = _writer(stack.enter_context(locked(storage.local_path(uri), create=False)))
        except FileNotFoundError:
            writer = Writer.NONE
        except BlockingIOError:
            writer = Writer.ALIVE
        yield writer


def _writer(handle: int) -> Writer:
    """Read a lease that no one else has locked."""
    data = os.pread(handle, _MOST_BYTES, 0)
    if not data:
        return Writer.NONE
    try:
        lease = json.loads(data)
        here = lease["in_process"] is True and lease["host"] == socket.gethostname()
    except (ValueError, LookupError, TypeError):
        return Writer.UNKNOWN
    return Writer.DEAD if here else Writer.UNKNOWN
