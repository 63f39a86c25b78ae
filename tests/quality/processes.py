"""Quality of several processes, and of a training that is killed again and again, against one process with one thread.

    python -m tests.quality.processes [--processes 2 4 8 16] [--seeds 1] [--words 0] [--train='--dim 300']
                                      [--work work/processes]

Settings as in the quality lane. The processes share this machine's cores, so only quality is measured. N processes must
score within .015 of one on each set (16: .03), on the mean of the seeds, and no epoch's loss may rise by more than 2 %.
With fewer --words of the corpus, which CI trains on, a single seed may differ by .05. Two threads that are killed and
resumed must stay within .015, with every pair counted once an epoch.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.bench.peers import command
from tests.quality.corpora import plain_words, shared_folder
from tests.quality.score import ANALOGY_PARTS, read_vectors, score
from tests.support.paths import ROOT

ALLOWED, ALLOWED_16, ALLOWED_SMALL, MOST_RISE = 0.015, 0.03, 0.05, 1.02
EPOCHS, KILL_AFTER_S = "5", (4.0, 5.0, 3.0)


def cut_words(text: Path, words: int, work: Path) -> Path:
    """Write the first lines of a text that have so many words; all of it for 0."""
    if not words:
        return text
    part, left = work / f"first-{words}.txt", words
    with text.open(encoding="ascii") as source, part.open("w", encoding="ascii") as target:
        for line in source:
            target.write(line)
            left -= line.count(" ") + 1
            if left <= 0:
                break
    return part


def trainer_words(data: Path, model: Path, seed: int, more: Sequence[str], threads: int = 1) -> list[str]:
    """The training's command line, after its program."""
    flags = ["--epochs", EPOCHS, "--threads", str(threads), "--seed", str(seed), "--overwrite", "--quiet", "--json"]
    return ["-m", "trainer", "train", "--data", str(data), "--model", str(model), *flags, *more]


def train(data: Path, model: Path, seed: int, processes: int, more: Sequence[str]) -> dict[str, Any]:
    """Train as torchrun starts processes; return the result."""
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    words = [sys.executable, "-W", "ignore", *(run if processes > 1 else []), *trainer_words(data, model, seed, more)]
    done = subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def killed_and_resumed(data: Path, model: Path, seed: int, more: Sequence[str]) -> dict[str, Any]:
    """Train with kill -9 after some seconds, each time resumed by the same command; return the result."""
    words = [word for word in trainer_words(data, model, seed, more, threads=2) if word != "--overwrite"]
    command_line = [sys.executable, "-W", "ignore", *words, "--checkpoint-minutes", "0.05", "--audit"]
    for seconds in KILL_AFTER_S:
        process = subprocess.Popen(command_line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        process.kill()
        process.wait()
    done = subprocess.run(command_line, cwd=ROOT, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert all(epoch["missing"] == epoch["repeated"] == 0 for epoch in result.get("audit", ()))
    return result


def scores_of(model: Path, work: Path) -> dict[str, float]:
    """Export a model and score it."""
    vectors = str(work / "vectors.parquet")
    command("-m", "trainer", "export", "--model", str(model), "--format", "parquet", "--to", vectors, "--json")
    found = score(*read_vectors(Path(vectors)))
    return {name: value for name, value in found.items() if name not in ANALOGY_PARTS}


def measure(args: argparse.Namespace, text: Path, kinds: list[str]) -> dict[str, list[dict[str, float]]]:
    """Train each kind with each seed; print losses and scores."""
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for seed in range(1, args.seeds + 1):
        data = args.work / f"data-{seed}"
        command(
            "-m", "pipeline", "--input", str(text), "--output", str(data), "--tokenizer", "whitespace",
            "--passes", EPOCHS, "--seed", str(seed), "--json",
        )  # fmt: skip
        for kind in kinds:
            model = args.work / f"model-{kind}-{seed}"
            if kind == "killed":
                result = killed_and_resumed(data, model, seed, args.train)
            else:
                result = train(data, model, seed, int(kind), args.train)
            losses = result["epoch_losses"]
            assert all(after <= before * MOST_RISE for before, after in pairwise(losses)), f"{kind}: losses {losses}"
            found[kind].append(scores_of(model, args.work))
            shown = " ".join(f"{loss:.3f}" for loss in losses)
            print(f"{kind:>6}  seed {seed}  losses {shown}  {found[kind][-1]}", flush=True)
            subprocess.run(["rm", "-rf", str(model)], check=True)
        subprocess.run(["rm", "-rf", str(data)], check=True)
    return found


def main() -> int:
    """Print the table; return 1 where a score is further below one process than allowed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--words", type=int, default=0)
    parser.add_argument("--train", type=shlex.split, default=[], help="more flags of train")
    parser.add_argument("--killed", action="store_true", help="also two threads that are killed and resumed")
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "processes")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    text = cut_words(plain_words(shared_folder(), args.work), args.words, args.work)
    kinds = ["1", *map(str, args.processes), *(["killed"] if args.killed else [])]
    found, missed = measure(args, text, kinds), 0
    for kind, runs in found.items():
        means = {name: sum(run[name] for run in runs) / len(runs) for name in runs[0]}
        base = {name: sum(run[name] for run in found["1"]) / len(runs) for name in runs[0]}
        allowed = ALLOWED_SMALL if args.words else ALLOWED_16 if kind == "16" else ALLOWED
        late = [name for name, mean in means.items() if mean < base[name] - allowed]
        missed += len(late)
        row = "  ".join(f"{name} {mean:.4f} ({mean - base[name]:+.4f})" for name, mean in means.items())
        print(f"{kind:>6}  {row}{f'  below the {allowed} allowed: ' + ', '.join(late) if late else ''}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
