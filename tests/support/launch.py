"""The trainer's command in processes of its own, some of which are stopped at a chosen call.

    python -m tests.support.launch RANK:SIGNAL:MODULE.CLASS.METHOD:CALLS train --data …

sends SIGNAL to itself at that call of a method, in the process of that rank; signal 0 waits there for a line of input.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.common.exit import end_with
from tests.support.paths import ROOT

NEVER = "-1:0:trainer.training.loop.Loop._step:0"


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    status: int
    out: str
    errors: list[str]
    log: str


def start(size: int, words: Sequence[str], stop: str = NEVER) -> list[subprocess.Popen[str]]:
    """Start the command in some processes as torchrun would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for rank in range(size):
        places = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
        environment.update({name: str(value) for name, value in places.items()} if size > 1 else {})
        command = [sys.executable, "-W", "ignore", "-m", "tests.support.launch", stop, *words]
        pipe = subprocess.PIPE
        running.append(
            subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        )
    return running


def finish(running: Sequence[subprocess.Popen[str]], limit_s: float = 120) -> list[Ended]:
    """Wait for processes, within a time limit on the whole, so that nothing hangs."""
    try:
        ended = [process.communicate(timeout=limit_s) for process in running]
    finally:
        for process in running:
            process.kill()
    return [
        Ended(process.returncode, out, [line for line in log.splitlines() if line.startswith("error: ")], log)
        for process, (out, log) in zip(running, ended, strict=True)
    ]


def launch(size: int, words: Sequence[str], stop: str = NEVER, limit_s: float = 120) -> list[Ended]:
    """Run the command in some processes to its end."""
    return finish(start(size, words, stop), limit_s)


def stop_at(rank: int, number: int, method: str, calls: int) -> None:
    """Send a signal to this process at a call of a method, if this is the process of that rank."""
    if int(os.environ.get("RANK", 0)) != rank:
        return
    module, owner, name = method.rsplit(".", 2)
    if owner.islower():  # a function of a module
        kind: Any = importlib.import_module(f"{module}.{owner}")
    else:
        kind = getattr(importlib.import_module(module), owner)
    original, count = getattr(kind, name), 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == calls and number == WAIT:
            print("waiting", flush=True)
            sys.stdin.readline()
        elif count == calls:
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    setattr(kind, name, counted)


def main() -> int:
    """Run the trainer's command line, to be stopped where the first word says."""
    from trainer.cli import main as trainer

    rank, number, method, calls = sys.argv[1].split(":")
    stop_at(int(rank), int(number), method, int(calls))
    return end_with(trainer(sys.argv[2:]))


KILL, TERM, WAIT = int(signal.SIGKILL), int(signal.SIGTERM), 0

if __name__ == "__main__":
    sys.exit(main())
