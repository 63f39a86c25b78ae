"""What the Flex Template's launcher runs: `pairstream pipeline --no-wait`, whose parameters come as --name=value.

The launcher only writes the job down; Dataflow starts it afterwards. So nothing here can wait for the job, and the
job publishes by itself. The workers' image is this one, unless a parameter names another. Parameters that a form left
empty are those that were not given.
"""

import sys

from pipeline.cli import main

if __name__ == "__main__":
    sys.exit(main([*(word for word in sys.argv[1:] if not word.endswith("=")), "--no-wait"]))
