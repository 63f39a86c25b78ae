"""A worker process of Beam's local runner: it logs nothing while all goes well, and leaves Ctrl-C to the launcher."""

from __future__ import annotations

import logging
import signal
import sys
import warnings


def run() -> None:
    """Run Beam's own worker; what goes wrong in a step reaches the launcher, which reports it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    handler = logging.StreamHandler()
    handler.setLevel(logging.CRITICAL)
    logging.basicConfig(handlers=[handler])
    from apache_beam.runners.worker import sdk_worker, sdk_worker_main

    vars(sdk_worker)["print"] = lambda *_, **__: None
    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    run()
