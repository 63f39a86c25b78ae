"""``python -m trainer``, which is ``pairstream-trainer`` as well: the commands of ``pairstream``."""

import sys

from pipeline.common.exit import run_command

# isort: split
from trainer.cli import main


def run() -> int:
    """Run the command line; what to exit with."""
    return run_command(main)


if __name__ == "__main__":
    sys.exit(run())
