"""What a process and all that it starts take of memory, watched from outside (Linux)."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_INTERVAL_S = 0.05


def tree_of(pid: int) -> list[int]:
    """The processes below one, and itself; those that have ended meanwhile are left out."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            tasks = Path(f"/proc/{one}/task").glob("*/children")
            found += [int(child) for task in tasks for child in task.read_text().split()]
    return found


def resident_bytes(pid: int) -> int:
    """Resident memory of a process, 0 where it has ended."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    return 0


@contextlib.contextmanager
def watched_tree(pid: int) -> Iterator[list[int]]:
    """Hold in a list of one the most bytes seen at once in a process and all below it, while the block runs."""
    most, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(_INTERVAL_S):
            most[0] = max(most[0], sum(map(resident_bytes, tree_of(pid))))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()
