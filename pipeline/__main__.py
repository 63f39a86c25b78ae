"""``python -m pipeline``, which is ``pairstream-pipeline`` as well; workers could not import what is defined here."""

import sys

from pipeline.dataset.ending import run_command

# isort: split
from pipeline.cli import main


def run() -> int:
    """Run the command line; what to exit with."""
    return run_command(main)


if __name__ == "__main__":
    sys.exit(run())
