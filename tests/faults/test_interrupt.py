"""Ctrl-C: status 130, no traceback, nothing left; and worker processes that say nothing while all goes well."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import TEXT, make_old, snapshot, words_of
from tests.support.paths import ROOT

#: It sends itself the signal when a function of ours is called.
INTERRUPTER = """
import importlib, os, signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
name = sys.argv[1]
module, _, function = name.rpartition(".")
module = importlib.import_module(module)
original = getattr(module, function)
def interrupted(*arguments, **options):
    os.kill(os.getpid(), signal.SIGINT)
    return original(*arguments, **options)
setattr(module, function, interrupted)
sys.argv = ["pipeline", *sys.argv[2:]]
from pipeline.__main__ import run
sys.exit(run())
"""
PLACES = [
    "pipeline.cli._run", "pipeline.job.make_listing", "pipeline.job.build", "pipeline.stages.chunks.count_chunk",
    "pipeline.job.write_vocabulary", "pipeline.publishing.publish.plan_shards", "pipeline.stages.chunks.encode_chunk",
    "pipeline.stages.chunks.write_shard", "pipeline.publishing.publish.publish",
]  # fmt: skip


def run_python(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-W", "ignore", *words], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("place", PLACES)
def test_an_interrupt_leaves_nothing(place: str, tmp_path: Path) -> None:
    make_old(tmp_path)
    for number in range(3):
        (tmp_path / "in" / f"{number}.txt").write_text(TEXT)
    before = snapshot(tmp_path / "out")
    done = run_python("-c", INTERRUPTER, place, *words_of(tmp_path))
    assert (done.returncode, done.stdout) == (130, ""), done.stderr
    assert len(done.stderr.splitlines()) <= 1
    assert snapshot(tmp_path / "out") == before


def test_an_interrupt_before_anything_is_imported() -> None:
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "class Finder:\n def find_spec(self, name, *_):\n  name == 'pipeline.cli' and signal.raise_signal(2)\n"
    code += "sys.meta_path.insert(0, Finder())\nfrom pipeline.__main__ import run\nsys.exit(run())"
    done = run_python("-c", code)
    assert (done.returncode, done.stderr) == (130, "")
    assert signal.SIGINT == 2


def test_worker_processes_say_nothing_when_all_goes_well(tmp_path: Path) -> None:
    make_old(tmp_path)
    (tmp_path / "in" / "a.txt").write_text(TEXT)
    (tmp_path / "in" / "_SUCCESS").touch()
    flags = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    done = run_python("-m", "pipeline", *words_of(tmp_path), *flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"  not read    1 files that are not data, such as {tmp_path}/in/_SUCCESS\n" in done.stdout


def test_worker_processes_that_fail_say_why(tmp_path: Path) -> None:
    make_old(tmp_path)
    (tmp_path / "in" / "a.txt").write_bytes(b"PK\x03\x04" + bytes(100))
    flags = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    done = run_python("-m", "pipeline", *words_of(tmp_path), *flags)
    assert done.returncode == 1
    assert f"error: {tmp_path}/in/a.txt: found a zip archive, expected text: unpack it first\n" == done.stderr
