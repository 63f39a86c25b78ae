"""Servers on loopback for as long as a test needs them; what they print is kept, and shown when they do not come up."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def free_port() -> int:
    """Find a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Does anybody accept connections on the port?"""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextmanager
def started(
    command: list[str], log: Path, ready: Callable[[], bool], timeout_s: float = 90, **options: object
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends: wait until it is ``ready``, and end it, whatever happens.

    Raises:
        RuntimeError: it ended, or was not ready in time; with the end of its log.
    """
    with open(log, "ab") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **options)  # type: ignore[call-overload]
    try:
        wait_until(lambda: server.poll() is not None or ready(), timeout_s, log)
        if server.poll() is not None:
            raise RuntimeError(f"{command[0]}: ended with status {server.returncode}\n{log.read_text()[-4000:]}")
        yield server
    finally:
        server.terminate()
        try:
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_until(holds: Callable[[], bool], timeout_s: float, log: Path | None = None) -> None:
    """Wait until something holds, looking ten times a second.

    Raises:
        RuntimeError: it did not within ``timeout_s``; with the end of the log.
    """
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not ready after {timeout_s} s\n{log.read_text()[-4000:] if log else ''}")
        time.sleep(0.1)
