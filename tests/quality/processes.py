"""Quality of several processes, and of a training that is killed again and again, against one process with one thread.

    python -m tests.quality.processes [--data URI] [--work work/bench]

Settings as in the quality lane. Two processes must score within .01 of one; two threads that are killed and resumed
must stay within the spread of seeds, .015, with every pair counted once per epoch.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from typing import Any

from tests.bench.support import parse_args, train
from tests.quality.corpora import ROOT, shared_folder
from tests.quality.lane import command

ALLOWED = {"two processes": 0.01, "two threads, killed": 0.015}
KILL_AFTER_S = (4.0, 5.0, 3.0)


def killed_and_resumed(args: argparse.Namespace, *more: str) -> dict[str, Any]:
    """Train with kill -9 after some seconds, each time resumed by the same command; return the result."""
    model = args.work / "model"
    shutil.rmtree(model, ignore_errors=True)
    words = ["train", "--data", args.data, "--model", str(model), "--checkpoint-minutes", "0.05", "--audit", "--json"]
    base = [sys.executable, "-W", "ignore", "-m", "trainer", *words, *more]
    for seconds in KILL_AFTER_S:
        process = subprocess.Popen(base, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        process.kill()
        process.wait()
    done = subprocess.run(base, cwd=ROOT, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert result["resumed"], "it was killed before its first checkpoint"
    assert all(epoch["missing"] == epoch["repeated"] == 0 for epoch in result["audit"])
    return result


def scores(args: argparse.Namespace) -> dict[str, float]:
    """Export the model that was trained last, and score it."""
    vectors = args.work / "vectors.parquet"
    command("-m", "trainer", "export", "--model", str(args.work / "model"), "--format", "parquet", "--to", str(vectors),
            "--json")  # fmt: skip
    found = command(str(shared_folder() / "measure" / "score.py"), str(vectors))
    return {
        name: float(value["spearman" if "spearman" in value else "accuracy"])
        for name, value in found.items()
        if isinstance(value, dict)
    }


def main() -> int:
    """Print the scores; return 1 where one is further off than allowed."""
    args = parse_args(__doc__, runs=1)
    epochs = ("--epochs", "5")
    found = {}
    runs: dict[str, Any] = {
        "one process": lambda: train(args, "--threads", "1", *epochs),
        "two processes": lambda: train(args, "--threads", "1", *epochs, processes=2),
        "two threads, killed": lambda: killed_and_resumed(args, "--threads", "2", *epochs),
    }
    for kind, run in runs.items():
        result = run()
        found[kind] = scores(args)
        print(f"{kind:<20} loss {result['loss']:.4f}  {found[kind]}", flush=True)
    missed = [
        f"{kind}: {name} {value:.4f}, expected at least {found['one process'][name] - allowed:.4f}"
        for kind, allowed in ALLOWED.items()
        for name, value in found[kind].items()
        if value < found["one process"][name] - allowed
    ]
    print(*(missed or ["reached"]), sep="\n")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
