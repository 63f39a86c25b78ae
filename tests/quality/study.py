"""Why the defaults are what they are: scores over learning rate, epochs, shared negatives and order, three seeds each.

    python -m tests.quality.study [--seeds 3] [--threads 2] [--work work/study] [--only PART …]

D=100, window 5, 5 negatives, on the wiki corpus (docs/performance.md). Each part changes one thing from the defaults of
five epochs over five passes. Runs that were done before are read from WORK/scores.jsonl; the table comes at the end.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.dataset.reader import Dataset, open_dataset
from tests.bench.peers import command
from tests.quality.corpora import plain_words, shared_folder
from tests.quality.score import score
from tests.support.paths import ROOT
from trainer.config import LEARNING_RATES, TrainConfig
from trainer.data.order import Ids, epoch_order, negatives_key, pairs_to_come, read_ahead
from trainer.engines.cpu import FusedEngine
from trainer.engines.init import initial_tables
from trainer.training.schedule import learning_rate

SETS = ("wordsim353", "mturk771", "analogy")
PASSES = 10


@dataclass(frozen=True)
class Trial:
    """One training of the study.

    Attributes:
        order: of the windows: "groups" (row groups shuffled, the default), "text" (as written), "windows" (row groups,
            and the windows within each, shuffled), "all" (all windows of a pass shuffled).
        passes: draws of subsampling and windows that the epochs walk in turn.
    """

    learning_rate: float = LEARNING_RATES["sgd"]
    epochs: int = 5
    sharing: str = "pool"
    predict: str = "center"
    order: str = "groups"
    passes: int = 5


DEFAULT = Trial()
PARTS: dict[str, list[Trial]] = {
    "defaults": [DEFAULT],
    "learning rate": [replace(DEFAULT, learning_rate=rate) for rate in (0.025, 0.05, 0.06)],
    "epochs": [replace(DEFAULT, epochs=epochs, passes=epochs) for epochs in (1, 10)],
    "sharing": [replace(DEFAULT, sharing=sharing) for sharing in ("window", "pair")],
    "order": [replace(DEFAULT, order=order) for order in ("text", "windows", "all")],
    "frozen draw": [replace(DEFAULT, passes=1)],
    "predict": [replace(DEFAULT, predict="context")],
}


def shuffle_windows(center_N: Ids, context_N: Ids, rng: np.random.Generator) -> tuple[Ids, Ids]:
    """Bring the windows, runs of one center, into a random order."""
    starts_W = np.flatnonzero(np.concatenate(([True], center_N[1:] != center_N[:-1])))
    lengths_W = np.diff(starts_W, append=center_N.size)
    order_W = rng.permutation(starts_W.size)
    lengths_W, starts_W = lengths_W[order_W], starts_W[order_W]
    ends_W = np.cumsum(lengths_W)
    rows_N = np.arange(center_N.size) + np.repeat(starts_W - (ends_W - lengths_W), lengths_W)
    return center_N[rows_N], context_N[rows_N]


def read_epoch(dataset: Dataset, trial: Trial, seed: int, epoch: int) -> Iterator[tuple[int, Ids, Ids]]:
    """Yield (key, center_N, context_N) in the trial's order."""
    rng = np.random.default_rng([seed, epoch])
    kept: list[tuple[int, Ids, Ids]] = []
    places = epoch_order(dataset, seed, epoch % trial.passes, trial.order != "text")
    with closing(read_ahead(dataset, places)) as reading:
        for place, center_N, context_N in reading:
            key = negatives_key(seed, replace(place, epoch=epoch))
            if trial.order == "windows":
                center_N, context_N = shuffle_windows(center_N, context_N, rng)
            if trial.order == "all":
                kept.append((key, center_N, context_N))
            else:
                yield key, center_N, context_N
    if kept:
        whole = [np.concatenate([one[part] for one in kept]) for part in (1, 2)]
        center_N, context_N = shuffle_windows(whole[0], whole[1], rng)
        edges = np.linspace(0, center_N.size, len(kept) + 1).astype(int)
        for (key, *_), first, last in zip(kept, edges[:-1], edges[1:], strict=True):
            yield key, center_N[first:last], context_N[first:last]


def train(dataset: Dataset, trial: Trial, seed: int, threads: int) -> npt.NDArray[np.float32]:
    """Train as the trainer does, but for the trial's order; returns the input table [V, D]."""
    vocabulary = dataset.vocabulary()
    config = TrainConfig(
        data="", model="", threads=threads, negative_sharing=trial.sharing, predict=trial.predict, seed=seed
    )
    tables = initial_tables("word2vec", len(vocabulary), config.dim, seed)
    engine = FusedEngine(config, tables, vocabulary.counts)
    total, seen = pairs_to_come(dataset, 0, trial.epochs), 0
    if trial.passes == 1:
        total = trial.epochs * dataset.pairs_in_pass(0)
    for epoch in range(trial.epochs):
        for key, center_N, context_N in read_epoch(dataset, trial, seed, epoch):
            rates = [
                learning_rate("linear", trial.learning_rate, pairs / total) for pairs in (seen, seen + center_N.size)
            ]
            engine.step(center_N, context_N, lr_start=rates[0], lr_end=rates[1], key=key)
            seen += center_N.size
    return tables[0]


def make_data(work: Path, seed: int) -> Dataset:
    """The corpus's pairs in PASSES draws, of a seed of its own; made once."""
    data = work / f"data-{seed}"
    if not (data / "LATEST.json").exists():
        command(
            "-m", "pipeline", "--input", str(plain_words(shared_folder(), work)), "--output", str(data),
            "--tokenizer", "whitespace", "--passes", str(PASSES), "--seed", str(seed), "--json",
        )  # fmt: skip
    return open_dataset(str(data))


def show(done: dict[str, list[dict[str, float]]]) -> None:
    """Print each part's trials: means, and the spread of seeds."""
    print(f"| | trial | {' | '.join(SETS)} | seconds |\n|---|---|{'---|' * (len(SETS) + 1)}")
    for part, trials in PARTS.items():
        for trial in trials:
            changed = [f"{name} {value}" for name, value in asdict(trial).items() if value != getattr(DEFAULT, name)]
            if runs := done.get(json.dumps(asdict(trial))):
                cells = [
                    f"{np.mean([run[name] for run in runs]):.3f} ± {np.std([run[name] for run in runs]):.3f}"
                    for name in SETS
                ]
                seconds = np.median([run["seconds"] for run in runs])
                print(f"| {part} | {', '.join(changed)} | {' | '.join(cells)} | {seconds:.0f} |")


def main() -> None:
    """Run what is missing, then print everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "study")
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=list(PARTS))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    book = args.work / "scores.jsonl"
    known = [json.loads(line) for line in book.read_text().splitlines()] if book.exists() else []
    done = {(json.dumps(run["trial"]), run["seed"]): run for run in known}
    for seed in range(1, args.seeds + 1):
        dataset = make_data(args.work, seed)
        for trial in (trial for part in args.only for trial in PARTS[part]):
            name = json.dumps(asdict(trial))
            if (name, seed) in done:
                continue
            start = time.perf_counter()
            table_VD = train(dataset, trial, seed, args.threads)
            seconds = time.perf_counter() - start
            run = {
                "trial": asdict(trial),
                "seed": seed,
                "seconds": seconds,
                **score(dataset.vocabulary().tokens, table_VD),
            }
            done[name, seed] = run
            with book.open("a") as out:
                out.write(json.dumps(run) + "\n")
            print(run, file=sys.stderr, flush=True)
    by_trial: dict[str, list[dict[str, float]]] = {}
    for (name, _), run in done.items():
        by_trial.setdefault(name, []).append(run)
    show(by_trial)


if __name__ == "__main__":
    main()
