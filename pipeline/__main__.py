"""``python -m pipeline``, as ``pairstream pipeline``; workers could not import what is defined here."""

import os
import signal
import sys


def leave_at_once() -> None:
    """Leave at Ctrl-C: in the middle of an import it would print a traceback, and there is nothing to clear up yet."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))


def run() -> int:
    """Run the command line; what to exit with."""
    leave_at_once()
    from pipeline.common.exit import run_command

    # isort: split
    from pipeline.cli import main

    return run_command(main)


if __name__ == "__main__":
    sys.exit(run())
