"""A command's status is that of its work, whatever is still around when Python would be taken down."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import IO

import pytest

from tests.support.paths import ROOT

# What aborts while modules are taken down stands for the threads of C++ libraries, which do so once in a hundred runs.
TROUBLE = """
class Abort:
    def __del__(self, abort=__import__("os").abort):
        abort()

sys.modules["left"] = Abort()
"""


def end(status: str, before: str, stdout: int | IO[str] = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    program = f"""
import sys
from pipeline.common.exit import end_with
import atexit
{before}
print("printed", end=" ")
sys.exit({status})
"""
    command = [sys.executable, "-c", program]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, text=True, check=False, stdout=stdout, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize("status", [0, 3])
def test_nothing_after_the_work_can_change_its_status(status: int) -> None:
    before = TROUBLE + "atexit.register(print, 'called')"
    done = end(f"end_with({status})", before)
    assert (done.returncode, done.stdout, done.stderr) == (status, "printed called\n", "")
    assert end(f"{status}", before).returncode < 0  # it would have


def test_what_could_not_be_written_is_told() -> None:
    with open("/dev/full", "w", encoding="ascii") as full:
        done = end("end_with(0)", "", full)
    assert done.returncode == 120
    assert "No space left" in done.stderr


def test_an_exception_is_printed_as_ever() -> None:
    done = end("end_with(0 + None)", "")
    assert done.returncode == 1
    assert "TypeError" in done.stderr
