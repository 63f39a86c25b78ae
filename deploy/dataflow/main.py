"""What the Flex Template's launcher runs: `python -m pipeline --no-wait`, whose parameters come as --name=value.

The launcher only writes the job down; Dataflow starts it afterwards. So nothing here can wait for the job, and the
job publishes by itself. The workers' image is this one, unless a parameter names another.
"""

import sys

from pipeline.cli import main

if __name__ == "__main__":
    sys.exit(main([*sys.argv[1:], "--no-wait"]))
