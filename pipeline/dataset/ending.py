"""How both commands end: with their status once their work is done, whatever threads are still around.

Import this before anything else that may register with atexit.
"""

from __future__ import annotations

import atexit
import os
import sys

_noted: list[int] = []


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
