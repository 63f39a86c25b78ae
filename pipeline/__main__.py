"""``python -m pipeline``; nothing is defined here, since workers could not import it."""

import sys

from pipeline.cli import main

if __name__ == "__main__":
    sys.exit(main())
