"""How fast the CPU kernel is: beside gensim and its own plain loops, fed from shards, and over the settings.

    python -m tests.bench.kernel [--rounds 3] [--threads 2] [--words 0] [--no-gensim] [--work work/bench]

All of a round runs one after the other, so that ratios are of one round. The text is the wiki corpus beside the
checkout; --words lets gensim have no more than so many of it. GFLOP/s count 6·D for each of a pair's 1 + K terms.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.dataset.reader import Dataset, open_dataset
from tests.bench.engines import Pairs, engine_rate, other_engines
from tests.bench.machine_limits import peak_gflops, row_rate
from tests.bench.support import machine, spread
from tests.quality.corpora import plain_words, shared_folder
from tests.support.paths import ROOT
from trainer.data.batches import Batches
from trainer.data.order import read_threads
from trainer.engines.cpu import whole_vectors
from trainer.engines.init import initial_tables
from trainer.engines.kernels.numba.arguments import SHARING
from trainer.engines.kernels.numba.cpu import start_batch
from trainer.engines.negatives import build_alias, unigram_weights

WARM_UP = 4096
SHORT = 200_000  # pairs are enough where one thread works


class Subject:
    """Tables of some size, and steps on them."""

    def __init__(self, counts_V: npt.NDArray[Any], dim: int = 100, negatives: int = 5, **settings: Any) -> None:
        self.dim, self.negatives, self.settings = dim, negatives, settings
        input_VD, output_VD = initial_tables("word2vec", len(counts_V), dim, seed=1)
        self.tables = whole_vectors(input_VD), whole_vectors(output_VD)  # as the engine trains them
        self.alias = build_alias(unigram_weights(counts_V, 0.75))

    def train(self, pairs: Pairs, key: int = 0) -> None:
        """One batch."""
        self.start(pairs, key)()

    def start(self, pairs: Pairs, key: int = 0) -> Callable[[], float]:
        """Begin with a batch; what waits for it."""
        return start_batch(
            *pairs, *self.tables, self.alias, negatives=self.negatives, learning_rate_start=0.025,
            learning_rate_end=0.025, key=key, **self.settings,
        )  # fmt: skip

    def rate(self, batches: Sequence[Pairs]) -> float:
        """Pairs a second, compiling apart; the median of the batches."""
        self.train((batches[0][0][:WARM_UP], batches[0][1][:WARM_UP]))
        rates = []
        for key, pairs in enumerate(batches):
            start = time.perf_counter()
            self.train(pairs, key)
            rates.append(len(pairs[0]) / (time.perf_counter() - start))
        return statistics.median(rates)

    def gflops(self, rate: float) -> float:
        """Arithmetic of so many pairs a second."""
        return rate * 6 * self.dim * (1 + self.negatives) / 1e9


def make_dataset(text: Path, work: Path, codec: str) -> Dataset:
    """Build the corpus's pairs with a codec, once."""
    data = work / f"pairs-{codec}"
    if not (data / "LATEST.json").exists():
        words = ["--input", str(text), "--output", str(data), "--tokenizer", "whitespace", "--compression", codec]
        subprocess.run([sys.executable, "-m", "pipeline", *words], cwd=ROOT, check=True)
    return open_dataset(str(data))


def shorten(text: Path, words: int, work: Path) -> Path:
    """The first lines of a text, until they have so many words; 0 for all."""
    if not words:
        return text
    target = work / f"words-{words}.txt"
    with text.open() as lines, target.open("w") as out:
        for line in lines:
            if words <= 0:
                break
            words -= len(line.split())
            out.write(line)
    return target


def gensim_rate(text: Path, work: Path, threads: int, path: str) -> float:
    """Raw words a second of gensim's training."""
    command = ["-m", "tests.bench.gensim_peer", str(text), str(work / "gensim.bin"), "--workers", str(threads)]
    done = subprocess.run(
        [sys.executable, *command, "--path", path], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    result = json.loads(done.stdout.splitlines()[-1])
    return float(result["words"] / result["train_s"])


def fed_from_shards(dataset: Dataset, subject: Subject, groups: int) -> tuple[float, float]:
    """Pairs a second of a kernel that reads its pairs as the trainer does, and the share of time that it waits."""
    waited, pairs = 0.0, 0
    running: Callable[[], float] = float
    threads = read_threads("cpu", subject.settings["threads"])
    start = time.perf_counter()
    with closing(Batches(dataset, 0, batch_size=0, seed=1).read(threads)) as reading:
        for key in range(groups):
            asked = time.perf_counter()
            batch = next(reading)
            waited += time.perf_counter() - asked
            before, running = running, subject.start((batch.center_B, batch.context_B), key)
            before()
            pairs += batch.center_B.size
    running()
    seconds = time.perf_counter() - start
    return pairs / seconds, waited / seconds


def compare(args: argparse.Namespace, text: Path, batches: Sequence[Pairs], counts_V: Any, words_a_pair: float) -> None:
    """Print the table of kernels, by threads."""
    short = shorten(text, args.words, args.work)
    print("| threads | kernel | M raw words/s | M pairs/s | GFLOP/s | of the peak | × plain | × gensim's faster path |")
    print("|---|---|---|---|---|---|---|---|")
    for threads in sorted({1, args.threads}):
        peak = peak_gflops(threads)
        rounds: dict[str, list[float]] = {}
        for _ in range(args.rounds):
            for path in ("corpus_file", "sentences") if args.gensim else ():
                rounds.setdefault(f"gensim {path}", []).append(gensim_rate(short, args.work, threads, path))
            for name, settings in kernels():
                subject = Subject(counts_V, threads=threads, **settings)
                rounds.setdefault(name, []).append(subject.rate(batches) * words_a_pair)
            few = batches[0][0][:SHORT], batches[0][1][:SHORT]
            for name, settings in other_engines(threads).items():
                pairs_of = batches[0] if name == "CUDA" else few
                rounds.setdefault(name, []).append(engine_rate(pairs_of, counts_V, threads, settings) * words_a_pair)
        for name, rates in rounds.items():
            rate = statistics.median(rates)
            plain = spread([ours / other for ours, other in zip(rates, rounds["plain loops, window"], strict=True)], 1)
            peers = [found for peer, found in rounds.items() if peer.startswith("gensim")]
            times = spread([one / max(both) for one, *both in zip(rates, *peers, strict=True)], 1) if peers else ""
            pairs = "" if name.startswith("gensim") else f"{rate / words_a_pair / 1e6:.1f}"
            gflops = rate / words_a_pair * 3600 / 1e9
            work = "" if name.startswith(("gensim", "CUDA")) else f"{gflops:.0f} | {gflops / peak:.0%}"
            print(
                f"| {threads} | {name} | {rate / 1e6:.2f} | {pairs} | {work or ' | '} | {plain} | {times} |", flush=True
            )


def kernels() -> Iterator[tuple[str, dict[str, Any]]]:
    """What is compared, by name."""
    yield "plain loops, window", {"plain": True, "sharing": "window"}
    for sharing in SHARING:
        yield sharing, {"sharing": sharing}
    yield "CBOW, pool", {"sharing": "pool", "architecture": "cbow"}


def feed(args: argparse.Namespace, text: Path, counts_V: Any) -> None:
    """Print what reading costs, by codec."""
    print("\n| fed from shards | M pairs/s | of the kernel alone | waiting |\n|---|---|---|---|")
    for codec in ("zstd", "lz4", "none"):
        dataset = make_dataset(text, args.work, codec)
        subject = Subject(counts_V, threads=args.threads, sharing="pool")
        groups = [dataset.read_row_group(ref) for ref in dataset.row_groups(0)[:24]]
        shares, rates, waits = [], [], []
        for _ in range(args.rounds):
            alone = subject.rate(groups)
            rate, waiting = fed_from_shards(dataset, subject, len(groups))
            shares.append(100 * rate / alone)
            rates.append(rate / 1e6)
            waits.append(100 * waiting)
        print(f"| {codec} | {spread(rates, 1)} | {spread(shares, 0)} % | {spread(waits, 1)} % |", flush=True)


def zipf_batch(words: int, pairs: int = 400_000) -> tuple[npt.NDArray[np.int64], Pairs]:
    """Counts and windows of words by Zipf's law."""
    rng = np.random.default_rng(2)
    counts_V = np.maximum(1e9 / np.arange(1, words + 1), 5).astype(np.int64)
    ends_V = np.cumsum(counts_V)
    runs = rng.integers(1, 6, pairs // 5) * 2
    text = np.searchsorted(ends_V, rng.integers(0, ends_V[-1], runs.size + 10), side="right").astype(np.int32)
    place = np.repeat(np.arange(runs.size) + 5, runs)
    step = np.arange(place.size) - np.repeat(np.cumsum(runs) - runs, runs) - np.repeat(runs // 2, runs)
    return counts_V, (text[place], text[place + step + (step >= 0)])


def curves(args: argparse.Namespace, batches: Sequence[Pairs], counts_V: Any) -> None:
    """Print rates over dimensions, negatives, vocabularies and threads."""
    print("\n| setting | pool, M pairs/s | window | plain loops | pool / plain | pool, GFLOP/s |")
    print("|---|---|---|---|---|---|")
    short = [(center[:SHORT], context[:SHORT]) for center, context in batches]
    cases: list[tuple[str, Any, Sequence[Pairs], dict[str, Any]]] = []
    cases += [(f"D={dim}", counts_V, short, {"dim": dim}) for dim in (50, 100, 200, 300, 512, 1024)]
    cases += [(f"K={k}", counts_V, short, {"negatives": k}) for k in (1, 5, 10, 20)]
    for words in (10_000, 100_000, 1_000_000, 3_000_000):
        zipf_V, pairs = zipf_batch(words)
        cases.append((f"V={words:,}, Zipf", zipf_V, [pairs] * 3, {}))
    more = sorted({1, 2, args.threads, 2 * args.threads})
    cases += [(f"threads={threads}", counts_V, batches, {"threads": threads}) for threads in more]
    for name, counts, pairs_of, settings in cases:
        subject = Subject(counts, **settings)
        rates = []
        for how in ({"sharing": "pool"}, {"sharing": "window"}, {"sharing": "window", "plain": True}):
            subject.settings |= {"plain": False, **how}
            rates.append(subject.rate(pairs_of))
        cells = " | ".join(f"{rate / 1e6:.1f}" for rate in rates)
        print(f"| {name} | {cells} | {rates[0] / rates[2]:.1f} | {subject.gflops(rates[0]):.0f} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--words", type=int, default=0)
    parser.add_argument("--gensim", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "bench")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    text = plain_words(shared_folder(), args.work)
    dataset = make_dataset(text, args.work, "zstd")
    counts_V = np.asarray(dataset.vocabulary().counts)
    refs = dataset.row_groups(0)
    batches = [dataset.read_row_group(ref) for ref in refs[:: max(1, len(refs) // 12)]]
    rows = row_rate(len(counts_V)) / 1e6
    print(f"{machine()}; D=100, window 5, K=5, sample 1e-3; medians of {args.rounds} rounds (least to greatest)")
    print(f"one thread: peak {peak_gflops():.0f} GFLOP/s, {rows:.0f} M random rows of 400 bytes/s\n")
    compare(args, text, batches, counts_V, dataset.total_tokens / dataset.pairs_in_pass(0))
    feed(args, text, counts_V)
    curves(args, batches, counts_V)


if __name__ == "__main__":
    main()
