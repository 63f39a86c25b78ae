"""``python -m trainer``, which is ``pairstream-trainer`` as well."""

import sys

from pipeline.dataset.ending import end_with

# isort: split
from trainer.cli import main


def run() -> int:
    """Run the command line; what to exit with."""
    return end_with(main())


if __name__ == "__main__":
    sys.exit(run())
