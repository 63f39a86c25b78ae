"""The pipeline, as a process of its own: it needs Beam, and a failing one must not take the trainer along."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec

import pipeline.dataset
from trainer.errors import UserError

STEPS = {"list": "listing the corpus", "run": "making the dataset", "publish": "publishing the dataset"}
_TAIL_LINES = 50

# A retraining that is killed takes its pipeline along (Linux; elsewhere it runs to its end, and the lock that it
# inherited keeps other retrainings out until then). A job that was handed to a cluster goes on.
# Not by -m: a file pipeline.py in the folder that the retraining runs in would be taken for the package.
_CHILD = f"""
import sys
sys.path[0] = {str(Path(pipeline.__file__).parents[1])!r}
import ctypes, os, signal
parent, errors = int(sys.argv.pop(1)), int(sys.argv.pop(1))
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
from pipeline.common import exit
exit.error_file = open(errors, "w", errors="backslashreplace")
from pipeline.__main__ import run
sys.exit(run())
"""


class PipelineFailed(UserError):  # noqa: N818  (what happened)
    """The pipeline ended with another status than 0."""

    def __init__(self, message: str, status: int) -> None:
        """Keep the status."""
        super().__init__(message)
        self.status = status


class Printed(msgspec.Struct):
    """What the pipeline says as JSON, as far as it matters here.

    Attributes:
        twice: of ``list``: files that were matched again, each URI and place.
    """

    twice: tuple[tuple[str, str], ...] = ()


def run_pipeline(words: Sequence[str], pass_fds: Sequence[int] = (), quiet: bool = False) -> Printed:
    """Run ``python -m pipeline``, which shows its progress as if it had been started by hand.

    Args:
        words: its command line, without --json.
        pass_fds: open files that it shall hold as long as it runs.
        quiet: show its warnings alone.

    Raises:
        PipelineFailed: it did not end with status 0; the message is the line that it said.
    """
    say_step(STEPS.get(words[0], words[0]), quiet)
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as errors:
        command = [sys.executable, "-c", _CHILD, str(os.getpid()), str(errors.fileno()), *words, "--json"]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.PIPE if quiet else None,
            text=True, errors="replace", pass_fds=(*pass_fds, errors.fileno()),
        ) as child:  # fmt: skip
            for line in child.stderr or ():
                if line.startswith("warning: "):
                    print(line, end="", file=sys.stderr, flush=True)
                else:
                    tail.append(line)
        printed.seek(0)
        errors.seek(0)
        said, error = printed.read(), errors.read().decode().removeprefix("error: ").strip()
    if child.returncode == 0:
        return msgspec.json.decode(said.splitlines()[-1], type=Printed)
    if not error:
        print("".join(tail), end="", file=sys.stderr, flush=True)
    raise PipelineFailed(error or f"the pipeline ended with status {child.returncode}", child.returncode)


def say_step(text: str, quiet: bool) -> None:
    """Tell on stderr what comes next."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)
