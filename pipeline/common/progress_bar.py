"""How far a command is, on standard error: a line drawn again on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, TextIO

from tqdm import tqdm

TERMINAL_SECONDS, LOG_SECONDS = 0.5, 10.0


class ProgressBar(tqdm):  # type: ignore[misc]
    """tqdm's, without a bar; on a terminal too narrow for all of the line, its end is left out."""

    monitor_interval = 0  # no thread that watches it
    _lock = threading.RLock()  # tqdm's own is a semaphore that processes share

    def __init__(self, bar_format: str, out: TextIO | None = None, **options: Any) -> None:
        """Show nothing yet.

        Args:
            bar_format: of the line, see tqdm.
            out: stderr by default.
            options: tqdm's.
        """
        out = out or sys.stderr
        self.terminal = out.isatty()
        seconds = TERMINAL_SECONDS if self.terminal else LOG_SECONDS
        super().__init__(
            file=out, bar_format=bar_format, mininterval=seconds, delay=seconds, miniters=1, smoothing=0, leave=False,
            dynamic_ncols=self.terminal, **options,
        )  # fmt: skip

    @staticmethod
    def status_printer(file: TextIO) -> Callable[[str], None]:
        """Return what draws the line."""
        begin, end = ("\r", "\x1b[K") if file.isatty() else ("", "\n")

        def draw(text: str) -> None:
            file.write(begin + text + end)
            file.flush()

        return draw

    def close(self) -> None:
        """Take the line off a terminal: what follows begins at the margin."""
        if self.terminal:
            super().close()
        self.disable = True
