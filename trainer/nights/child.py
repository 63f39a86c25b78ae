"""The pipeline, as a process of its own: it needs Beam, and a failing one must not take the trainer along."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from trainer.errors import UserError

# A retraining that is killed takes its pipeline along (Linux; elsewhere it runs to its end, and the lock that it
# inherited keeps other retrainings out until then). A job that was handed to a cluster goes on.
_LAUNCH = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.executable, [sys.executable, "-m", "pipeline", *sys.argv[2:]])
"""


class PipelineFailed(UserError):  # noqa: N818  (what happened)
    """The pipeline ended with another status than 0."""

    def __init__(self, message: str, status: int) -> None:
        """Keep the status."""
        super().__init__(message)
        self.status = status


def run_pipeline(words: Sequence[str], pass_fds: Sequence[int] = ()) -> dict[str, Any]:
    """Run ``python -m pipeline``; return what it printed as JSON.

    Args:
        words: its command line, without --json.
        pass_fds: open files that it shall hold as long as it runs.

    Raises:
        PipelineFailed: it did not end with status 0; the message is the line that it said.
    """
    command = [sys.executable, "-c", _LAUNCH, str(os.getpid()), *words, "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, errors="replace", pass_fds=pass_fds
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        said = ""
        for line in child.stderr:  # what goes to stdout is one line, which fits into the pipe meanwhile
            if line.startswith("error: "):
                said = line.removeprefix("error: ").strip()
            else:
                sys.stderr.write(line)
                sys.stderr.flush()
        printed = child.stdout.read()
    if child.returncode != 0:
        raise PipelineFailed(
            said or f"found that it ended with status {child.returncode}, expected 0", child.returncode
        )
    result: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return result
