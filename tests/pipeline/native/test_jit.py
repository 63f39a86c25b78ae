"""Compiled code where no folder can be written: it is compiled anew, and all works."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.unit

NO_CACHE = """
from numba.core.caching import CacheImpl
CacheImpl._locator_classes = []  # as where none of them finds a folder that it may write to
import numba
try:
    numba.njit(cache=True)(lambda: 1)
except RuntimeError as error:
    assert "no locator available" in str(error)
else:
    raise SystemExit("Numba no longer minds")
from pipeline.config import Config
from pipeline.stages.chunks import load_kernels
load_kernels(Config(("x",), "y"))
print("counted")
"""


def test_without_a_folder_for_machine_code() -> None:
    command = [sys.executable, "-W", "ignore", "-c", NO_CACHE]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "counted\n"), done.stderr
