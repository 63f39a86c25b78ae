"""The pipeline, as a process of its own: it needs Beam, and a failing one must not take the trainer along."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import pipeline.dataset
from trainer.errors import UserError
from trainer.progress.meter import format_seconds

STEPS = {"list": "listing the corpus", "run": "making the dataset", "publish": "publishing the dataset"}
TICK_S = 1.0  # how long a terminal may show nothing
_ERROR = b"error: "
_PIECES = re.compile(rb"[^\r\n]*[\r\n]|[^\r\n]+")
_TAIL_LINES = 50

# A retraining that is killed takes its pipeline along (Linux; elsewhere it runs to its end, and the lock that it
# inherited keeps other retrainings out until then). A job that was handed to a cluster goes on.
_LAUNCH = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2], *sys.argv[3:]])
"""
# Not by -m: a file pipeline.py in the folder that the retraining runs in would be taken for the package.
_PIPELINE = f"""
import sys
sys.path[0] = {str(Path(pipeline.__file__).parents[1])!r}
from pipeline.__main__ import run
sys.exit(run())
"""


class PipelineFailed(UserError):  # noqa: N818  (what happened)
    """The pipeline ended with another status than 0."""

    def __init__(self, message: str, status: int) -> None:
        """Keep the status."""
        super().__init__(message)
        self.status = status


def run_pipeline(words: Sequence[str], pass_fds: Sequence[int] = (), quiet: bool = False) -> dict[str, Any]:
    """Run ``python -m pipeline``, show what it says meanwhile, and return what it printed as JSON.

    Args:
        words: its command line, without --json.
        pass_fds: open files that it shall hold as long as it runs.
        quiet: show its warnings alone.

    Raises:
        PipelineFailed: it did not end with status 0; the message is the line that it said.
    """
    command = [sys.executable, "-c", _LAUNCH, str(os.getpid()), _PIPELINE, *words, "--json"]
    say_step(STEPS.get(words[0], words[0]), quiet)
    terminal = sys.stderr.isatty() and not quiet
    ours, theirs = _open_terminal() if terminal else os.pipe()
    relay = Relay(sys.stderr, terminal, quiet)
    try:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, text=True, pass_fds=pass_fds
        ) as child:
            os.close(theirs)
            assert child.stdout is not None
            while data := _read(ours, relay):  # what goes to stdout is one line, which fits into the pipe meanwhile
                relay.feed(data)
            printed = child.stdout.read()
    finally:
        os.close(ours)
    relay.close(failed=child.returncode != 0)
    if child.returncode != 0:
        raise PipelineFailed(relay.error or f"the pipeline ended with status {child.returncode}", child.returncode)
    result: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return result


def _open_terminal() -> tuple[int, int]:
    """Open a terminal for a child, as wide as ours: then its progress is as if it had been started by hand."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    with contextlib.suppress(OSError):
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, fcntl.ioctl(sys.stderr.fileno(), termios.TIOCGWINSZ, bytes(8)))
    return ours, theirs


def _read(handle: int, relay: Relay) -> bytes:
    while not select.select([handle], [], [], TICK_S)[0]:
        relay.tick()
    try:
        return os.read(handle, 1 << 16)
    except OSError:  # how a terminal ends whose other side was closed
        return b""


class Relay:
    """Passes on what a child writes to stderr, as it comes, but for its error line, which is for us to tell.

    Attributes:
        error: that line.
    """

    def __init__(self, out: TextIO, terminal: bool, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin a line."""
        self._out, self._terminal, self._quiet, self._clock = out, terminal, quiet, clock
        self._held, self._passing, self._shown, self._ticked = b"", False, False, 0
        self._started, self._tail = clock(), list[str]()
        self.error = ""

    def feed(self, data: bytes) -> None:
        """Take some bytes."""
        self._clear()
        for piece in _PIECES.findall(data):
            self._held += piece
            ended = piece[-1:] in b"\r\n"
            if not (ended or self._passing or self._quiet or not _ERROR.startswith(self._held[: len(_ERROR)])):
                continue  # it may become the error line
            if self._passing or self._quiet or not self._held.startswith(_ERROR):
                self._pass(ended)
            elif ended:
                self._take_error()

    def tick(self) -> None:
        """Show on a terminal for how long nothing else was to be seen."""
        if self._terminal and not self._shown:
            text = f"  {format_seconds(self._clock() - self._started)}"
            self._out.write("\r" + text)
            self._out.flush()
            self._ticked = len(text)

    def close(self, failed: bool) -> None:
        """Take the last line, which may have no end; show what a child said that failed without an error line."""
        if self._held.startswith(_ERROR):
            self._take_error()
        elif self._held:
            self._pass(ended=True)
        self._clear()
        if failed and not self.error:
            self._out.write("".join(self._tail))
        self._out.flush()

    def _take_error(self) -> None:
        self.error = self._held.decode(errors="replace").removeprefix("error: ").strip()
        self._held = b""

    def _pass(self, ended: bool) -> None:
        if self._quiet and not ended:
            return
        text, self._held, self._passing = self._held.decode(errors="replace"), b"", not ended
        if not self._quiet or text.startswith("warning: "):
            self._out.write(text)
            self._out.flush()
            self._shown = bool(text.strip()) and not text.endswith("\n")
        elif text.startswith("error: "):
            self.error = text.removeprefix("error: ").strip()
        else:
            self._tail = [*self._tail, text][-_TAIL_LINES:]

    def _clear(self) -> None:
        if self._ticked:
            self._out.write("\r" + " " * self._ticked + "\r")
            self._ticked = 0


def say_step(text: str, quiet: bool) -> None:
    """Tell on stderr what comes next."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)
