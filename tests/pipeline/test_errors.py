"""One line for what a user can mend, wherever it was raised; a traceback for what is a fault of ours."""

from __future__ import annotations

import errno
import os

import pytest

from pipeline.cli import error_line
from pipeline.errors import InputError
from pipeline.storage.retry import StoreError

pytestmark = pytest.mark.unit

SAID = "s3://b/k: HTTP status 503, 7 times in 9 s; gave up"
TRACE = 'Traceback (most recent call last):\n  File "x.py", line 1, in f\n    g()\n'
MISSING = f"{TRACE}FileNotFoundError: [Errno 2] No such file or directory: 'x'\n"
BESIDE = "\nDuring handling of the above exception, another exception occurred:\n\n"
STEP = " [while running 'WriteShards/Write-ptransform-12']"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{TRACE}pipeline.storage.retry.StoreError: {SAID}{STEP}\n", SAID),
        (f"{MISSING}{BESIDE}{TRACE}pipeline.storage.retry.StoreError: {SAID}{STEP}\n", SAID),
        (
            f"{TRACE}RuntimeError: pipeline.errors.InputError: a.txt: found x, expected y{STEP}\n\nstack",
            "a.txt: found x, expected y",
        ),
        (f"{MISSING}{BESIDE}{TRACE}KeyError: 'shard'{STEP}\n", None),
        (f"{MISSING}{BESIDE}{TRACE}RuntimeError: KeyError: 3{STEP}\n", None),
        (MISSING, "[Errno 2] No such file or directory: 'x'"),
        (
            f"Error received: {MISSING}\n\tat org.apache.beam.X(X.java:1)\njava.lang.RuntimeException: Error\n",
            "[Errno 2] No such file or directory: 'x'",
        ),
    ],
)
def test_a_workers_error_that_comes_as_text(text: str, line: str | None) -> None:
    assert error_line(RuntimeError(text)) == line


def raised(error: BaseException, beside: BaseException, wrapper: BaseException | None = None) -> BaseException:
    """Raise an error while another one is handled, and a wrapper because of it."""
    try:
        try:
            try:
                raise beside
            except type(beside):
                raise error  # noqa: B904
        except type(error) as found:
            if wrapper is None:
                raise
            raise wrapper from found
    except BaseException as last:
        return last


def test_a_files_error_beside_a_fault_of_ours_does_not_hide_it() -> None:
    missing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "x")
    assert error_line(raised(KeyError("shard"), missing)) is None
    assert error_line(raised(KeyError("shard"), missing, RuntimeError("bundle failed"))) is None
    assert error_line(raised(AssertionError(), InputError("a.txt: found x"))) is None
    assert error_line(raised(StoreError(SAID), missing)) == SAID
    assert error_line(raised(StoreError(SAID), KeyError("k"), RuntimeError("bundle failed"))) == SAID
