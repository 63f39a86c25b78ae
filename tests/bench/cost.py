"""What a corpus costs: core-hours, shuffled and stored bytes for each G tokens.

    python -m tests.bench.cost [--copies 4] [--threads 2] [--work work/bench]

One run over the wiki corpus as plain files. Processor time is counted, not the clock's, and after a first run over one
line, so that neither start-up nor other programs of the machine are in it; the clock only splits it by stage. What is
shuffled is counted where it would enter the shuffle. What stages take of memory at 1 T tokens: `tests.bench.scale`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.config import parse_arguments
from pipeline.dataset.reader import Dataset, open_dataset
from pipeline.dataset.schema import ROW_GROUP_PAIRS
from pipeline.inputs.chunks import CHUNK_BYTES
from pipeline.job import run_job
from pipeline.pairs import sentences
from pipeline.stages import spill
from tests.bench.pipeline import STAGES, plain_text
from tests.support.paths import ROOT

G, T = 10**9, 10**12
GROUPS = 16  # row groups of a shard of 16 Mi pairs


@dataclass
class Measured:
    """One run: its size, the processor's seconds by stage, bytes by what they are."""

    tokens: int
    text: int
    chunks: int
    seconds: dict[str, float]
    shuffled: Counter[str]
    dataset: Dataset


def cpu_seconds(who: int = resource.RUSAGE_SELF) -> float:
    """Processor time of this process, or of the children that have ended."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


@contextmanager
def tallied() -> Iterator[Counter[str]]:
    """Count the bytes that would go through a shuffle: ids by themselves, and all else, which is words' counts."""
    tally: Counter[str] = Counter()
    put, to_bytes = spill.FileSpill.put, sentences.SentenceRun.to_bytes

    def counted_put(self: Any, payload: bytes) -> bytes:
        tally["all"] += len(payload)
        return put(self, payload)

    def counted_ids(self: Any) -> bytes:
        data = to_bytes(self)
        tally["ids"] += len(data)
        return data

    spill.FileSpill.put, sentences.SentenceRun.to_bytes = counted_put, counted_ids  # type: ignore[method-assign]
    try:
        yield tally
    finally:
        spill.FileSpill.put, sentences.SentenceRun.to_bytes = put, to_bytes  # type: ignore[method-assign]


def build(folder: Path, data: Path, threads: int, *more: str) -> tuple[dict[str, float], Counter[str]]:
    """Run the pipeline in this process; return processor seconds by stage, and what was shuffled."""
    shutil.rmtree(data, ignore_errors=True)
    config, _ = parse_arguments(["--input", f"{folder}/*", "--output", str(data), "--threads", str(threads), *more])
    begun = cpu_seconds()
    with tallied() as tally:
        run = run_job(config, [])
    spent = cpu_seconds() - begun
    clock = {stage: run.stage_seconds.get(stage, 0.0) for stage in STAGES}
    return {stage: spent * seconds / sum(clock.values()) for stage, seconds in clock.items()}, tally


def measure(args: argparse.Namespace) -> Measured:
    """Run it over one line, then over the corpus."""
    line = args.work / "one-line"
    line.mkdir(parents=True, exist_ok=True)
    (line / "text").write_text("one line of a few words\n")
    data = args.work / "cost-data"
    build(line, data, args.threads, "--min-count", "1", "--sample", "0")
    seconds, tally = build(plain_text("wiki", args.copies, args.work), data, args.threads)
    dataset = open_dataset(str(data))
    corpus = dataset.manifest.corpus
    chunks = sum(
        -(-size // CHUNK_BYTES) for size in pq.read_table(dataset.path_of("inputs.parquet"))["bytes"].to_pylist()
    )
    return Measured(corpus.tokens, corpus.bytes, chunks, seconds, tally, dataset)


def train_seconds(dataset: Dataset, work: Path) -> float:
    """Processor seconds of one epoch with one thread at D=100, less those of reading the command's own modules."""
    places = ["--data", dataset.uri, "--model", str(work / "cost-model"), "--overwrite"]
    words = ["-m", "trainer", "train", *places, "--quiet", "--json", "--threads", "1", "--device", "cpu"]
    spent = []
    for command in (words, ["-c", "import torch, trainer.engines.cpu, trainer.data.pair_stream"]):
        begun = cpu_seconds(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-W", "ignore", *command], cwd=ROOT, check=True, capture_output=True)
        spent.append(cpu_seconds(resource.RUSAGE_CHILDREN) - begun)
    return spent[0] - spent[1]


def costs(found: Measured, training: float) -> list[tuple[str, float, str]]:
    """What one token costs: name, amount, unit."""
    manifest, shards = found.dataset.manifest, found.dataset.shards
    per = 1 / found.tokens
    rows = [(f"pipeline: {stage}, core-h", seconds * per / 3600, "h") for stage, seconds in found.seconds.items()]
    rows.append(("pipeline: all, core-h", sum(found.seconds.values()) * per / 3600, "h"))
    rows.append(("training, an epoch, D=100, core-h", training * per / 3600, "h"))
    rows.append(("text, bytes", found.text * per, "B"))
    rows.append(("shuffled: words and counts, bytes", (found.shuffled["all"] - found.shuffled["ids"]) * per, "B"))
    rows.append(("shuffled: ids, bytes", found.shuffled["ids"] * per, "B"))
    rows.append(("stored: pairs, a pass, zstd, bytes", int(shards.bytes_S.sum()) * per, "B"))
    rows.append(("pairs, a pass", manifest.passes[0].pairs * per, ""))
    rows.append(("shards, a pass", manifest.passes[0].pairs * per / (GROUPS * ROW_GROUP_PAIRS), ""))
    rows.append(("chunks", found.chunks * per, ""))
    return rows


def shown(amount: float, unit: str) -> str:
    """Round for people."""
    for limit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if amount >= limit:
            return f"{amount / (1e3 if prefix == 'k' else limit):,.3g} {prefix}{unit if unit == 'B' else ''}".strip()
    return f"{amount:,.3g}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=1, help="of the corpus")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "bench")
    parser.add_argument("--json", action="store_true", help="print the costs of a token as JSON on the last line")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    begun = time.time()
    found = measure(args)
    rows = costs(found, train_seconds(found.dataset, args.work))
    load = f"load {os.getloadavg()[0]:.1f}, {time.time() - begun:.0f} s"
    print(f"{found.tokens / 1e6:.1f} M tokens, {platform.machine()}, {args.threads} threads, {load}\n")
    print("| | of 1 G tokens | of 1 T tokens |\n|---|---|---|")
    for name, amount, unit in rows:
        print(f"| {name} | {shown(amount * G, unit)} | {shown(amount * T, unit)} |")
    if args.json:
        print(json.dumps({name: amount for name, amount, _ in rows}))


if __name__ == "__main__":
    main()
