"""What a person sees while a command works: one line that is drawn again, and a word about compiling."""

from __future__ import annotations

import contextlib
import glob
import os
import sys
import time
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

_DEFAULT_COLUMNS = 80


class StatusLine:
    """One line: drawn again on a terminal, in as many columns as that has by then; added to a log elsewhere."""

    def __init__(self, out: TextIO | None = None) -> None:
        """Draw nothing yet; ``out`` is stderr by default."""
        self._out = out or sys.stderr
        self.terminal = self._out.isatty()
        self._width = 0

    def show(self, parts: Sequence[tuple[int, str]]) -> None:
        """Show parts side by side; where the terminal is too narrow for all, those of the greatest rank go first."""
        if not self.terminal:
            self._out.write("  ".join(text for _, text in parts) + "\n")
        else:
            room = columns_of(self._out) - 1  # in the last column, some terminals go to the next line
            line = fit(parts, room)
            width = display_width(line)
            self._out.write("\r" + line + " " * (min(self._width, room) - width))
            self._width = width
        self._out.flush()

    def clear(self) -> None:
        """Take the line off a terminal: what follows begins at the margin."""
        if self._width:
            self._out.write("\r" + " " * min(self._width, columns_of(self._out) - 1) + "\r")
            self._out.flush()
            self._width = 0


def columns_of(out: TextIO) -> int:
    """Return a terminal's columns at this moment, or those that COLUMNS says, if these are fewer."""
    found = 0
    with contextlib.suppress(OSError, ValueError):
        found = os.get_terminal_size(out.fileno()).columns
    said = os.environ.get("COLUMNS", "")
    told = int(said) if said.isascii() and said.isdigit() else 0
    return min(filter(None, (found, told)), default=_DEFAULT_COLUMNS)


def fit(parts: Sequence[tuple[int, str]], columns: int) -> str:
    """Join parts, ranked from 0, by two spaces; those of the greatest rank are left out until the rest fits."""
    kept = list(parts)
    while len(kept) > 1 and display_width("  ".join(text for _, text in kept)) > columns:
        kept.remove(max(kept, key=lambda part: part[0]))
    return cut("  ".join(text for _, text in kept), columns)


def cut(text: str, columns: int) -> str:
    """Return as much of a text as fits; no wide character is cut in half, no mark parted from its letter."""
    width = 0
    for at, character in enumerate(text):
        width += _character_width(character)
        if width > columns:
            return text[:at]
    return text


def display_width(text: str) -> int:
    """Return the columns that ``text`` takes on a terminal: wide characters two, marks and joiners none."""
    return sum(_character_width(character) for character in text)


def _character_width(character: str) -> int:
    # Hangul vowels and final consonants join the syllable before them.
    if unicodedata.category(character) in ("Mn", "Me", "Cf") or "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


class Compiling:
    """Tells of the compiling that a first run does, and times it."""

    def __init__(self) -> None:
        """Know of nothing yet."""
        self.seconds = 0.0
        self.speaks = False  # until a command says so: a program that imports us has its own standard error
        self._depth, self._started, self._said = 0, 0.0, False
        self._listener: _Listener | None = None

    def expect(self, kernels: Path) -> None:
        """Say at once that a folder's kernels will be compiled, if none of them is in Numba's cache."""
        if not is_cached(kernels):
            self._say()

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
            print("compiling kernels, once: it takes about half a minute; later runs begin at once", file=sys.stderr)


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
