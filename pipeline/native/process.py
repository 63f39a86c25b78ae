"""What the threads of one worker process share: its cores, and what is loaded once for all of them."""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TypeVar

_CGROUPS = Path("/sys/fs/cgroup")

T = TypeVar("T")


def usable_cores() -> int:
    """Return the cores that this process may use: those it is bound to, and no more than its container's share."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(bound, _quota())))


def _quota() -> float:
    """Return how many cores' time the container's group may take, by either version of Linux's control groups."""
    for names in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        try:
            quota, period = " ".join((_CGROUPS / name).read_text() for name in names).split()
            if int(quota) > 0:
                return int(quota) / int(period)
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return math.inf


def once_a_process(held: int) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Decorate a function that loads what all threads share: one loads, the others wait for it.

    (functools.lru_cache alone lets all that come before the first is done load it again.) The last results are
    ``held``; the function's ``forget()`` lets go of all.
    """

    def decorate(load: Callable[..., T]) -> Callable[..., T]:
        kept, lock = functools.lru_cache(maxsize=held)(load), threading.Lock()

        @functools.wraps(load)
        def load_once(*key: Hashable) -> T:
            with lock:
                return kept(*key)

        load_once.forget = kept.cache_clear  # type: ignore[attr-defined]
        return load_once

    return decorate
