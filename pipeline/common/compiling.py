"""A word about the compiling that a first run does."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pipeline.native.process import usable_cores


class Compiling:
    """Tells of the compiling that a first run does, and times it."""

    def __init__(self) -> None:
        """Know of nothing yet."""
        self.seconds = 0.0
        self.speaks = False  # until a command says so: a program that imports us has its own standard error
        self._depth, self._started, self._said = 0, 0.0, False
        self._listener: _Listener | None = None
        self._helper: subprocess.Popen[bytes] | None = None

    def expect(self, kernels: Path, helper: str = "") -> None:
        """Say at once that a folder's kernels will be compiled, if none of them is in Numba's cache.

        Args:
            kernels: the folder.
            helper: code that a second process then runs, to fill the cache with what this one needs later: in one
                process, Numba compiles on one thread at a time.
        """
        if is_cached(kernels):
            return
        self._say()
        if helper and self.speaks and usable_cores() > 1:
            code = f"import sys; sys.path[:] = {sys.path!r}; {helper}"
            null = subprocess.DEVNULL
            self._helper = subprocess.Popen([sys.executable, "-c", code], stdin=null, stdout=null, stderr=null)

    def close(self) -> None:
        """End the second process, whose help is no longer needed."""
        if self._helper is not None:
            self._helper.kill()
            self._helper.wait()

    def listen(self) -> None:
        """Hear of each compilation from now on, also of one that the cache holds for older code."""
        if self._listener is None:
            from numba.core import event

            event.Listener.register(_Listener)
            self._listener = _Listener(self)
            event.register("numba:compile", self._listener)

    def begin(self) -> None:
        """Note that a compilation begins."""
        self._say()
        if self._depth == 0:
            self._started = time.perf_counter()
        self._depth += 1

    def end(self) -> None:
        """Note that it ends."""
        self._depth -= 1
        if self._depth == 0:
            self.seconds += time.perf_counter() - self._started

    def _say(self) -> None:
        if self.speaks and not self._said:
            self._said = True
            print("compiling kernels, once: it takes some seconds; later runs begin at once", file=sys.stderr)


class _Listener:
    """What Numba calls, from one thread at a time."""

    def __init__(self, told: Compiling) -> None:
        self._told = told

    def notify(self, event: Any) -> None:
        if event.is_start:
            self._told.begin()
        elif event.is_end:
            self._told.end()


compiling = Compiling()


def is_cached(kernels: Path) -> bool:
    """Tell whether Numba's cache has anything compiled of a folder's modules, without importing Numba."""
    cache = os.environ.get("NUMBA_CACHE_DIR") or os.path.expanduser("~/.cache/numba")
    version = f"py{sys.version_info[0]}{sys.version_info[1]}"
    folders = [str(kernels / "__pycache__"), *glob.glob(f"{glob.escape(cache)}/{kernels.name}_*")]
    stems = {path.stem for path in kernels.glob("*.py")}
    return any(
        name.partition(".")[0] in stems and version in name
        for folder in folders
        for name in map(os.path.basename, glob.glob(f"{glob.escape(folder)}/*.nbi"))
    )
