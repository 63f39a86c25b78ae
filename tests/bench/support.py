"""What the benchmarks share: a dataset of real text, runs of the trainer, medians with their spread."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.quality.corpora import plain_words, shared_folder
from tests.support.paths import ROOT


def parse_args(about: str | None, runs: int) -> argparse.Namespace:
    """Read --data, --work and --runs; without --data a dataset is made of the wiki corpus, once."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a dataset; by default one of the wiki corpus (docs/performance.md)")
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "bench")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.data is None:
        args.data = str(args.work / "pairs")
        text = plain_words(shared_folder(), args.work)
        if not (args.work / "pairs" / "LATEST.json").exists():
            words = ["--input", str(text), "--output", args.data, "--tokenizer", "whitespace", "--passes", "5"]
            subprocess.run([sys.executable, "-m", "pipeline", *words], cwd=ROOT, check=True)
    return args


def train(args: argparse.Namespace, *more: str, processes: int = 1, cores: Sequence[int] = ()) -> dict[str, Any]:
    """Train with some processes, on some cores (all by default); return the result."""
    words = ["train", "--data", args.data, "--model", str(args.work / "model"), "--overwrite", "--quiet", "--json"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, "-W", "ignore", *(torchrun if processes > 1 else []), "-m", "trainer", *words, *more]
    pinned = ["taskset", "-c", ",".join(map(str, cores)), *command] if cores else command
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(pinned, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, and the least and the greatest."""
    middle, low, high = (round(one, digits) for one in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


def machine() -> str:
    """What it was measured on."""
    return f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
