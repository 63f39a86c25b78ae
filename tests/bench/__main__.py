"""Side by side with gensim, interleaved in one run: `make bench`, or

    python -m tests.bench [--text FILE] [--runs 3] [--threads 2] [--epochs 1] [--learning-rate RATE] [--work work/bench]

FILE has one sentence a line, tokens separated by white space; by default the wiki corpus as a–z words
(docs/performance.md). The shards are written with --tokenizer whitespace and --compression lz4, one pass an epoch: the
shortest way from text to vectors. Each system trains at its own default rate, 0.04 and gensim's 0.025, or both at RATE.
Prints the medians and ratios as a table: speed, and the scores of what both have trained.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.quality.corpora import evaluation_sets, plain_words, shared_folder
from tests.quality.score import read_vectors, score
from tests.support.paths import ROOT

SETTINGS = "D=100, window 5, 5 negatives, sample 1e-3, min_count 5"


def timed(words: Sequence[str]) -> tuple[dict[str, Any], float]:
    """Run a command of Python; return its last line as JSON, and the seconds of the whole process."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *words], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - start
    return json.loads(done.stdout.splitlines()[-1]), seconds


def measure(text: Path, args: argparse.Namespace) -> dict[str, float]:
    """One round: gensim, then ours, each from text to vectors; raw words a second, seconds, scores."""
    work, epochs, threads, rate = args.work, args.epochs, args.threads, args.learning_rate
    shutil.rmtree(work / "data", ignore_errors=True)
    data, model = str(work / "data"), str(work / "model")
    peer = ["-m", "tests.bench.gensim_peer", str(text), str(work / "gensim.bin"), "--epochs", str(epochs)]
    gensim, gensim_s = timed([*peer, "--workers", str(threads), *(["--alpha", rate] if rate else [])])
    common = ["-m", "pipeline", "--input", str(text), "--output", data, "--json", "--threads", str(threads)]
    built, built_s = timed([*common, "--tokenizer", "whitespace", "--compression", "lz4", "--passes", str(epochs)])
    trained, trained_s = timed(
        ["-m", "trainer", "train", "--data", data, "--model", model, "--threads", str(threads),
         "--epochs", str(epochs), "--overwrite", "--quiet", "--json", *(["--learning-rate", rate] if rate else [])]
    )  # fmt: skip
    _, exported_s = timed(
        ["-m", "trainer", "export", "--model", model, "--format", "word2vec-bin", "--to", str(work / "ours.bin"),
         "--json"]
    )  # fmt: skip
    words = gensim["words"]
    return {
        "gensim training, words/s": epochs * words / gensim["train_s"],
        "our training, words/s": epochs * words / trained["seconds"],
        "our training, pairs/s": trained["pairs_per_s"],
        "our pipeline, tokens/s": words / built["seconds"],
        "gensim text to vectors, s": gensim_s,
        "our text to vectors, s": built_s + trained_s + exported_s,
    } | {
        f"{whose} {name}": value
        for whose, file in (("gensim", "gensim.bin"), ("our", "ours.bin"))
        for name, value in score(*read_vectors(work / file)).items()
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--learning-rate", help="for both systems, in place of each one's default")
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "bench")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    text = args.text or plain_words(shared_folder(), args.work)
    rounds = [measure(text, args) for _ in range(args.runs)]
    middle = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    print(f"{platform.machine()}, {args.threads} threads, medians of {args.runs} interleaved runs; {SETTINGS}\n")
    span = "one epoch" if args.epochs == 1 else f"{args.epochs} epochs"
    print(f"| {span} | gensim | pairstream | ratio (min to max) |\n|---|---|---|---|")
    for what, peer, ours, unit, faster in (
        ("training, raw words/s", "gensim training, words/s", "our training, words/s", "{:,.0f}", False),
        ("text to vectors, s", "gensim text to vectors, s", "our text to vectors, s", "{:.1f}", True),
    ):
        ratios = [one[peer] / one[ours] if faster else one[ours] / one[peer] for one in rounds]
        cells = " | ".join(unit.format(middle[name]) for name in (peer, ours))
        print(f"| {what} | {cells} | {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) |")
    for name in evaluation_sets():
        ratios = [one[f"our {name}"] / one[f"gensim {name}"] for one in rounds]
        cells = " | ".join(f"{middle[f'{whose} {name}']:.3f}" for whose in ("gensim", "our"))
        print(f"| {name} | {cells} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |")
    for name in ("our pipeline, tokens/s", "our training, pairs/s"):
        print(f"| {name.removeprefix('our ')} | | {middle[name]:,.0f} | |")


if __name__ == "__main__":
    main()
