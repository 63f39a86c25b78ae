"""Side by side with gensim, or fastText where words have n-grams, interleaved in one run: `make bench`, or

    python -m tests.bench [--text FILE] [--runs 3] [--threads 2] [--epochs 1] [--architecture skipgram|cbow]
                          [--subwords 3-6] [--dim 100] [--learning-rate RATE] [--work work/bench]

FILE has one sentence a line, tokens separated by white space; by default the wiki corpus as a–z words
(docs/performance.md). The shards are written with --tokenizer whitespace and --compression lz4, one pass an epoch: the
shortest way from text to vectors. Each system trains at its own default rate, or both at RATE; gensim's is 0.025,
fastText's 0.05. Prints the medians and ratios as a table: speed, and the scores of what both have trained.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
from pathlib import Path

from tests.bench.peers import Settings, timed, train_ours, train_peer
from tests.quality.corpora import evaluation_sets, plain_words, shared_folder
from tests.quality.score import read_vectors, score
from tests.support.paths import ROOT

SETTINGS = "window 5, 5 negatives, sample 1e-3, min_count 5"


def measure(text: Path, work: Path, settings: Settings) -> dict[str, float]:
    """One round: the peer, then ours, each from text to vectors; raw words a second, seconds, scores."""
    shutil.rmtree(work / "data", ignore_errors=True)
    data, model = str(work / "data"), str(work / "model")
    peer_rate, peer_s = train_peer(text, work / "peer.bin", settings)
    threads = ["--compression", "lz4", "--threads", str(settings.threads)]
    built, trained, ours_s = train_ours(text, data, model, settings, *threads)
    export = ["-m", "trainer", "export", "--model", model, "--format", "word2vec-bin", "--to", str(work / "ours.bin")]
    _, exported_s = timed([*export, "--json"])
    words = built["tokens"]
    return {
        "peer training, words/s": peer_rate,
        "our training, words/s": settings.epochs * words / trained["seconds"],
        "our training, pairs/s": trained["pairs_per_s"],
        "our pipeline, tokens/s": words / built["seconds"],
        "peer text to vectors, s": peer_s,
        "our text to vectors, s": ours_s + exported_s,
    } | {
        f"{whose} {name}": value
        for whose, file in (("peer", "peer.bin"), ("our", "ours.bin"))
        for name, value in score(*read_vectors(work / file)).items()
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--architecture", choices=("skipgram", "cbow"), default="skipgram")
    parser.add_argument("--subwords", default="", help="lengths of n-grams; the peer is then fastText")
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--learning-rate", default="", help="for both systems, in place of each one's default")
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "bench")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    text = args.text or plain_words(shared_folder(), args.work)
    settings = Settings(args.architecture, args.subwords, args.dim, args.epochs, args.threads, args.learning_rate)
    rounds = [measure(text, args.work, settings) for _ in range(args.runs)]
    middle = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    model = f"{args.architecture}, D={args.dim}" + (f", n-grams {args.subwords}" if args.subwords else "")
    print(
        f"{platform.machine()}, {args.threads} threads, medians of {args.runs} interleaved runs; {model}, {SETTINGS}\n"
    )
    span = "one epoch" if args.epochs == 1 else f"{args.epochs} epochs"
    print(f"| {span} | {settings.peer} | pairstream | ratio (min to max) |\n|---|---|---|---|")
    for what, peer, ours, unit, faster in (
        ("training, raw words/s", "peer training, words/s", "our training, words/s", "{:,.0f}", False),
        ("text to vectors, s", "peer text to vectors, s", "our text to vectors, s", "{:.1f}", True),
    ):
        ratios = [one[peer] / one[ours] if faster else one[ours] / one[peer] for one in rounds]
        cells = " | ".join(unit.format(middle[name]) for name in (peer, ours))
        print(f"| {what} | {cells} | {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) |")
    for name in evaluation_sets():
        ratios = [one[f"our {name}"] / one[f"peer {name}"] for one in rounds]
        cells = " | ".join(f"{middle[f'{whose} {name}']:.3f}" for whose in ("peer", "our"))
        print(f"| {name} | {cells} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |")
    for name in ("our pipeline, tokens/s", "our training, pairs/s"):
        print(f"| {name.removeprefix('our ')} | | {middle[name]:,.0f} | |")


if __name__ == "__main__":
    main()
