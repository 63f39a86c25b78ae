"""How both commands end: with the status of their work, whatever becomes of their streams and of threads still around.

Import this before anything else that may register with atexit.
"""

from __future__ import annotations

import atexit
import errno
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, TextIO

from pipeline.common.compiling import compiling

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

#: Set by --debug.
debugging = threading.Event()
#: Where the line of an error goes: a command that started this one tells it in its own words. None is standard error.
error_file: IO[str] | None = None
#: What a shell says of a program that SIGPIPE ended: its reader had seen enough.
BROKEN_PIPE = 128 + signal.SIGPIPE
_STDOUT = "standard output"

_noted: list[int] = []


class LostOutput(OSError):  # noqa: N818  (what happened)
    """Standard output is closed or full, or its reader is gone; ``done`` says what was done all the same."""

    done = ""


class _Checked(io.FileIO):
    """Standard output, whose errors are told from those of other files."""

    def write(self, data: ReadableBuffer) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise LostOutput(error.errno, error.strerror, _STDOUT) from None


class _Forgiving(io.FileIO):
    """Standard error: there is no way to say that it cannot be written, and no reason to stop."""

    def write(self, data: ReadableBuffer) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def run_command(main: Callable[[], int]) -> int:
    """Run a command's main function in a process of its own; return the status for sys.exit."""
    _guard_streams()
    compiling.speaks = True
    try:
        try:
            status = main()
        except SystemExit as stop:  # argparse's, after --help or wrong usage
            status = int(stop.code or 0)
        sys.stdout.flush()
    except LostOutput as lost:
        status = report_lost(lost)
    return end_with(status)


def say_error(line: str) -> None:
    """Print what went wrong as one line; with --debug, the traceback of the exception that is handled goes before."""
    if debugging.is_set() and sys.exc_info()[0]:
        traceback.print_exc()
    print(f"error: {line}", file=error_file or sys.stderr, flush=True)


def emit(text: str, done: str = "") -> None:
    """Print a result to standard output, now; ``done`` says what is done by then where it cannot be printed.

    Raises:
        LostOutput: it cannot be written.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        lost = LostOutput(error.errno, error.strerror, _STDOUT)
        lost.done = done
        raise lost from None


def report_lost(lost: OSError) -> int:
    """Say that standard output was lost, unless its reader simply left; return the status."""
    done = getattr(lost, "done", "")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)  # what is left in buffers must not fail again
    os.close(null)
    if lost.errno == errno.EPIPE:
        if done:
            print(f"warning: nothing reads {_STDOUT}; {done}", file=sys.stderr)
        return BROKEN_PIPE
    print(f"error: {_STDOUT}: {lost.strerror}{f'; all else is done: {done}' if done else ''}", file=sys.stderr)
    return 1


def _guard_streams() -> None:
    """Let closed streams fail as such: without this, the next file that is opened would take their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Takes the lowest free number. Reading finds nothing, and writing fails as on a closed descriptor.
            os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115  (as long as the process)
    sys.stdout = _text(io.BufferedWriter(_Checked(1, "wb", closefd=False)), sys.stdout)
    sys.stderr = _text(io.BufferedWriter(_Forgiving(2, "wb", closefd=False)), sys.stderr, line_buffering=True)


def _text(raw: io.BufferedWriter, before: TextIO | None, line_buffering: bool = False) -> io.TextIOWrapper:
    """Wrap bytes as the stream before did, but that a character without a code is escaped: all is done by then."""
    errors = getattr(before, "errors", "strict")
    return io.TextIOWrapper(
        raw, getattr(before, "encoding", None), "backslashreplace" if errors == "strict" else errors,
        line_buffering=line_buffering or raw.isatty(),
    )  # fmt: skip


def end_with(status: int) -> int:
    """Note the status with which this process is to leave; return it, for sys.exit.

    Threads of C++ libraries (gloo's, gRPC's, Arrow's) may let go of a Python object when all is done. Before Python
    3.14, one that asks for the interpreter's lock while the interpreter is taken down is unwound by pthread_exit, and
    a destructor that cannot be unwound ends the process with SIGABRT: a finished run would look like a failed one
    (CPython gh-87135). So the interpreter is not taken down.
    """
    _noted.append(status)
    return status


@atexit.register
def _leave() -> None:
    """Leave after all that registered with atexit later, so that it is called before."""
    if not _noted:
        return  # an exception: Python prints it
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        return  # Python says so, and has a status for it
    os._exit(_noted[-1])
