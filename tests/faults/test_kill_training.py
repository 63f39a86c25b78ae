"""kill -9 at random moments of a training, also while a checkpoint is written: the tables come out as if undisturbed.

A parent process that has imported everything forks one trainer after the other and kills it, so that twenty deaths
take seconds; the moments follow from a seed and from how fast this machine is, never from a fixed time.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.dataset.reader import open_dataset
from pipeline.storage import storage
from tests.support.datasets import group_of, make_dataset
from tests.support.paths import ROOT
from trainer.config import TrainConfig
from trainer.training import command as train
from trainer.training.loop import Loop

DEATHS = 20
FILES = ("model.safetensors", "vocab.parquet", "model.json")


def config_of(data: str, model: str, **more: Any) -> TrainConfig:
    # So short that there is nearly always a checkpoint being written.
    return TrainConfig(
        data=data, model=model, dim=64, epochs=3, threads=1, device="cpu", engine="fused", quiet=True,
        checkpoint_minutes=1e-12, audit=True, **more,
    )  # fmt: skip


def forked(config: TrainConfig, die: Callable[[], None], after_s: float = 0.0) -> int:
    """Train in a child process, in which `die` was called first; return its wait status.

    With `after_s` it is killed by the clock, wherever it is then: in a step, in reading, in writing.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            die()
            train.train(config)
            status = 0
        finally:
            os._exit(status)
    if after_s:
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def live() -> None:
    """Do not die."""


def die_writing(name: str, calls: int) -> Callable[[], None]:
    """Die inside a checkpoint: half of a file written, a file complete but not in place, or between two files."""

    def arm() -> None:
        owner: Any = os if name in ("fsync", "replace") else storage
        original, count = getattr(owner, name), 0

        def counted(*args: Any) -> Any:
            nonlocal count
            count += 1
            if count < calls:
                return original(*args)
            if name == "fsync":
                os.ftruncate(args[0], os.fstat(args[0]).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
            return None

        setattr(owner, name, counted)

    return arm


def die_stepping(calls: int) -> Callable[[], None]:
    """Die when a step begins."""

    def arm() -> None:
        step, count = Loop._step, 0

        def counted(*args: Any) -> None:
            nonlocal count
            count += 1
            if count == calls:
                os.kill(os.getpid(), signal.SIGKILL)
            step(*args)

        Loop._step = counted  # type: ignore[method-assign]

    return arm


def main() -> None:
    """Train undisturbed, then with deaths; print how often it died."""
    data, whole, torn, seed = sys.argv[1:]
    started = time.monotonic()
    assert forked(config_of(data, whole), live) == 0
    whole_s = time.monotonic() - started
    chance = random.Random(int(seed))
    died = tries = 0
    while died < DEATHS:
        tries += 1
        assert tries < 5 * DEATHS, "it died too seldom"
        kind = ("clock", "fsync", "replace", "write_bytes", "step")[tries % 5]
        after_s, die = 0.0, live
        if kind == "clock":
            after_s = chance.uniform(0.05, 0.5) * whole_s
        elif kind == "step":
            die = die_stepping(chance.randint(1, 3))
        else:
            die = die_writing(kind, chance.randint(1, 8))
        # Progress must be made: the first tries begin, later ones go on.
        died += os.WIFSIGNALED(forked(config_of(data, torn), die, after_s))
        if (Path(torn) / "LATEST.json").exists():
            break
    status = forked(config_of(data, torn), live)
    print(json.dumps({"died": died, "status": status}))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(5)
    groups = [group_of([list(rng.zipf(1.3, 40) % 3000) for _ in range(60 + n)]) for n in range(40)]
    return make_dataset(tmp_path_factory.mktemp("kill") / "data", passes=[[groups[:13], groups[13:30], groups[30:]]])


def test_twenty_deaths_change_nothing(data: str, tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "tests.faults.test_kill_training",
        data,
        str(whole),
        str(torn),
        "7",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {"died": DEATHS, "status": 0}
    version = next((whole / "versions").iterdir()).name
    for name in FILES:
        assert (torn / "versions" / version / name).read_bytes() == (whole / "versions" / version / name).read_bytes()
    assert not (torn / "checkpoints").exists()
    assert len(open_dataset(data).row_groups(0)) == 40


if __name__ == "__main__":
    main()
