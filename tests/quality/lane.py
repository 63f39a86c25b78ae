"""The quality lane: equal settings with gensim on real text must give vectors at least as good.

    python -m tests.quality.lane [--seeds 1] [--work work/quality]

D=100, window 5, 5 negatives, sample 1e-3, min_count 5, 5 epochs over 5 passes, two threads. The figures to reach are
gensim 4.4's at the same settings; a single seed is allowed to lie .015 below, the spread of seeds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from tests.quality.corpora import ROOT, plain_words, shared_folder

GENSIM = {"wordsim353": 0.634, "mturk771": 0.561, "analogy": 0.392}
SPREAD = 0.015
EPOCHS = "5"


def command(*words: str) -> dict[str, object]:
    """Run one command of ours with --json; return its result."""
    done = subprocess.run([sys.executable, *words], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def score(vectors: str, shared: Path) -> dict[str, float]:
    """What exported vectors come to on the three sets."""
    return {
        name: float(value["spearman" if "spearman" in value else "accuracy"])
        for name, value in command(str(shared / "measure" / "score.py"), vectors).items()
        if isinstance(value, dict)
    }


def train_and_score(text: Path, work: Path, shared: Path, seed: int) -> dict[str, float]:
    """Build the dataset, train, export and score one seed."""
    data, model, vectors = (str(work / f"{name}-{seed}") for name in ("data", "model", "vectors"))
    vectors += ".parquet"
    built = command(
        "-m", "pipeline", "--input", str(text), "--output", data, "--tokenizer", "whitespace",
        "--passes", EPOCHS, "--seed", str(seed), "--json",
    )  # fmt: skip
    trained = command(
        "-m", "trainer", "train", "--data", data, "--model", model, "--epochs", EPOCHS, "--threads", "2",
        "--seed", str(seed), "--overwrite", "--quiet", "--json",
    )  # fmt: skip
    command("-m", "trainer", "export", "--model", model, "--format", "parquet", "--to", vectors, "--json")
    subprocess.run(["rm", "-rf", data, model], check=True)
    print(f"seed {seed}: pipeline {built['seconds']} s, training {trained['seconds']} s, loss {trained['loss']}")
    return score(vectors, shared)


def main() -> int:
    """Run the lane; return 1 where a figure is not reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "quality")
    args = parser.parse_args()
    shared, started = shared_folder(), time.perf_counter()
    text = plain_words(shared, args.work)
    runs = [train_and_score(text, args.work, shared, seed) for seed in range(1, args.seeds + 1)]
    allowed = SPREAD if args.seeds == 1 else 0.0
    missed = 0
    print(f"{'set':<12} {'ours':>7} {'gensim':>7} {'needed':>7}   by seed")
    for name, gensim in GENSIM.items():
        values = [run[name] for run in runs]
        mean = sum(values) / len(values)
        missed += mean < gensim - allowed
        print(f"{name:<12} {mean:7.4f} {gensim:7.3f} {gensim - allowed:7.3f}   {' '.join(map(str, values))}")
    print(f"{len(runs)} seeds in {time.perf_counter() - started:.0f} s: {'missed' if missed else 'reached'}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
