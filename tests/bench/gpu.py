"""The fused engine on a GPU, from plain text to scores: `make bench-gpu CORPUS=path`, or

    python -m tests.bench.gpu --corpus PATH [--work work/gpu] [--out FILE] [--evalsets ../shared/evalsets]

It needs a CUDA device, torch ≥ 2.11 with Triton, NumPy, PyArrow, safetensors and xxhash; neither Beam nor Numba nor
smart-open. PATH is text with one sentence a line: a file, a folder or a glob, plain or .gz.

--tiny tries every step in seconds on any machine, in Triton's interpreter: its figures mean nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import statistics
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

from tests.support import triton_mode
from tests.support.paths import ROOT

# isort: split
import numpy as np
import torch

from pipeline.dataset.reader import Dataset, open_dataset
from tests.bench.gpu_corpus import make_gpu_dataset
from tests.bench.gpu_report import describe
from trainer.cli import main as trainer_main
from trainer.config import TrainConfig, usable_cores
from trainer.data.order import epoch_order, read_ahead, read_threads
from trainer.engines import gpu
from trainer.engines.base import pending_loss
from trainer.engines.choose import make_engine
from trainer.engines.init import initial_tables
from trainer.engines.kernels.triton import launch
from trainer.engines.kernels.triton.launch import ARITHMETIC, PROGRAMS_PER_SM, Launcher, alias_tensor, choose_shape
from trainer.engines.negatives import build_alias, unigram_weights
from trainer.training import command

DEVICE = triton_mode.DEVICE
NEGATIVES, RATE, KEY = 5, 0.04, 1
Groups = list[tuple[torch.Tensor, torch.Tensor]]


def timed(run: Callable[[], None], repeats: int) -> float:
    """Median seconds of a call on the device, after one that is not counted."""
    seconds = []
    for _ in range(repeats + 1):
        wait()
        start = time.perf_counter()
        run()
        wait()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def wait() -> None:
    """Let the device finish."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def copy_bandwidth(tiny: bool) -> float:
    """Bytes a second that a copy on the device reads and writes: the roof of what moves rows."""
    source = torch.randn(1 << (16 if tiny else 29), device=DEVICE)
    target = torch.empty_like(source)
    return 2 * source.nbytes / timed(lambda: [target.copy_(source) for _ in range(10)] and None, 3) * 10


def window_bytes(groups: Groups, dim: int) -> tuple[float, float]:
    """Pairs of a window, and bytes that a window moves.

    C input rows and 1 + K output rows are read once and added to once; ids, the alias table's entries and the
    gradients between the kernel's two loops come on top.
    """
    center = groups[0][0].cpu().numpy()
    pairs = center.size / (np.count_nonzero(np.diff(center)) + 1)
    outputs = 1 + NEGATIVES
    return pairs, 2 * 4 * dim * (pairs + outputs) + 8 * pairs + 8 * NEGATIVES + 2 * 4 * outputs * pairs


class Kernel:
    """The kernel over row groups that are on the device already."""

    def __init__(self, dataset: Dataset, groups: Groups, dim: int) -> None:
        """Put an alias table beside them."""
        self.counts, self.groups, self.dim = dataset.vocabulary().counts, groups, dim
        self.alias = alias_tensor(build_alias(unigram_weights(self.counts, 0.75)), DEVICE)
        self.pairs = sum(center.numel() for center, _ in groups)

    def pairs_per_s(self, repeats: int, arithmetic: str = "fp32", warps: int = 0, programs: int = 0) -> float:
        """Speed with fresh tables."""
        tables = [torch.from_numpy(t).to(DEVICE) for t in initial_tables("word2vec", len(self.counts), self.dim, 1)]
        shape = choose_shape(self.dim, NEGATIVES, arithmetic=arithmetic, warps=warps)
        launcher = Launcher((tables[0], tables[1]), self.alias, shape, programs=programs)
        loss_P = torch.zeros(launcher.programs, dtype=torch.float64, device=DEVICE)

        def run() -> None:
            for key, (center, context) in enumerate(self.groups):
                launcher.launch(center, context, loss_P, key=key, rate_start=RATE, rate_end=RATE)

        return self.pairs / timed(run, repeats)

    def sweep(self, tiny: bool) -> list[dict[str, Any]]:
        """Programs a multiprocessor, warps a program, arithmetic."""
        processors = torch.cuda.get_device_properties(DEVICE).multi_processor_count if DEVICE.type == "cuda" else 1
        found = []
        for arithmetic, warps in product(ARITHMETIC, (0,) if tiny else (1, 2, 4)):
            for each in (1, 2) if tiny else (2, 4, PROGRAMS_PER_SM, 12, 16, 32):
                speed = self.pairs_per_s(1 if tiny else 3, arithmetic, warps, each * processors)
                found.append({"arithmetic": arithmetic, "warps": warps, "programs_per_sm": each, "pairs_per_s": speed})
        return found


def parts_of_a_step(dataset: Dataset, config: TrainConfig, groups: int) -> dict[str, float]:
    """Milliseconds a row group: of the device by kind of work, and of the wall, fed from memory."""
    counts = dataset.vocabulary().counts
    engine = make_engine(config, initial_tables("word2vec", len(counts), config.dim, 1), counts)
    pairs = [dataset.read_row_group(ref) for ref in dataset.row_groups(0)[:groups]]

    def run() -> None:
        for key, (center, context) in enumerate(pairs):
            engine.step(center, context, lr_start=RATE, lr_end=RATE, key=key)
        pending_loss(engine)

    wall_ms = timed(run, 1) * 1000 / len(pairs)
    if DEVICE.type != "cuda":
        return {"wall": wall_ms}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run()
        wait()
    parts = {"wall": wall_ms}
    for event in profile.key_averages():
        kind = "kernel" if "train_windows" in event.key else "copies" if "Memcpy" in event.key else "other"
        parts[kind] = parts.get(kind, 0.0) + event.self_device_time_total / 1000 / len(pairs)
    return parts


def decode_speed(dataset: Dataset, threads: int) -> float:
    """Pairs a second that come out of the Parquet files."""
    start, pairs = time.perf_counter(), 0
    for _, center, _ in read_ahead(dataset, epoch_order(dataset, 1, 0), threads):
        pairs += center.size
    return pairs / (time.perf_counter() - start)


def train_and_score(args: argparse.Namespace, pairs_a_window: float, name: str, **changes: Any) -> dict[str, Any]:
    """One training of the command, from Parquet to a published model, and its scores."""
    data, model = str(args.work / "data"), str(args.work / f"model-{name}")
    config = TrainConfig(
        data, model, dim=args.dim, device="cuda", engine="fused", overwrite=True, quiet=True, **changes
    )
    result = command.train(config)
    wanted = ("seconds", "start_up_s", "raw_words_per_s", "pairs_per_s", "first_loss", "loss")
    found = {key: result[key] for key in wanted}
    return {
        "name": name,
        **found,
        "tokens_per_s": found["pairs_per_s"] / pairs_a_window,
        "scores": scores(args.evalsets, model),
    }


def scores(folder: Path, model: str) -> dict[str, float]:
    """What `trainer evaluate` says of the sets in a folder: NAME.tsv word similarity, NAME.txt analogies."""
    similarity, analogies = (sorted(folder.glob(f"*.{kind}")) for kind in ("tsv", "txt"))
    words = [word for file in similarity for word in ("--similarity", str(file))]
    words += [word for file in analogies for word in ("--analogies", str(file))]
    if not words:
        return {}
    with contextlib.redirect_stdout(io.StringIO()) as out:
        status = trainer_main(["evaluate", "--model", model, *words, "--json"])
    if status:
        return {}
    found = json.loads(out.getvalue().splitlines()[-1])
    figures = {Path(one["file"]).stem: one["spearman"] for one in found["similarity"]}
    return figures | {Path(one["file"]).stem: one["accuracy"] for one in found["analogies"]}


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Everything, in the order of the table."""
    tiny, started = args.tiny, time.perf_counter()
    data, threads = str(args.work / "data"), read_threads("cuda", usable_cores())
    passes = 2 if tiny else 5
    small = {"min_count": 1, "group_pairs": 64} if tiny else {}
    corpus = make_gpu_dataset(args.corpus, data, passes=passes, threads=threads, **small)
    made_s, dataset = time.perf_counter() - started, open_dataset(data)
    kept = dataset.row_groups(0)[: 2 if tiny else 24]
    groups = [tuple(torch.from_numpy(ids.copy()).to(DEVICE) for ids in dataset.read_row_group(ref)) for ref in kept]
    kernel = Kernel(dataset, groups, args.dim)  # type: ignore[arg-type]
    pairs_a_window, bytes_a_window = window_bytes(kernel.groups, args.dim)
    bandwidth = copy_bandwidth(tiny)
    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "Triton's interpreter",
        "torch": torch.__version__, "cores": usable_cores(), "dim": args.dim, "negatives": NEGATIVES,
        "words": corpus.words, "vocabulary": len(corpus.vocabulary), "pairs_a_pass": dataset.pairs_in_pass(0),
        "making_the_dataset_s": made_s, "copy_bytes_per_s": bandwidth, "pairs_a_window": pairs_a_window,
        "bytes_a_window": bytes_a_window, "decoding_pairs_per_s": decode_speed(dataset, threads), "kernel": {},
    }  # fmt: skip
    for arithmetic in ARITHMETIC:
        speed = kernel.pairs_per_s(1 if tiny else 5, arithmetic)
        share = speed / pairs_a_window * bytes_a_window / bandwidth
        report["kernel"][arithmetic] = {
            "pairs_per_s": speed, "tokens_per_s": speed / pairs_a_window, "share_of_memory_roof": share,
            "raw_words_per_s": speed / dataset.pairs_in_pass(0) * corpus.words,
        }  # fmt: skip
    config = TrainConfig(data, "", dim=args.dim, device="cuda", engine="fused").resolve(lambda: True, threads)
    report["parts_ms"] = parts_of_a_step(dataset, config, 2 if tiny else 24)
    report["sweep"] = kernel.sweep(tiny)
    report["trainer"] = [
        train_and_score(args, pairs_a_window, "1-epoch", epochs=1),
        train_and_score(args, pairs_a_window, "1-epoch-bf16", epochs=1, arithmetic="bf16"),
        train_and_score(args, pairs_a_window, "1-epoch-cbow", epochs=1, architecture="cbow"),
        train_and_score(args, pairs_a_window, f"{passes}-epochs", epochs=passes),
    ]
    for each in () if tiny else (2, 32):  # the more windows are under way, the older the rows that they train from
        with mock.patch.object(launch, "PROGRAMS_PER_SM", each):
            report["trainer"].append(train_and_score(args, pairs_a_window, f"1-epoch-{each}-programs", epochs=1))
    return {**report, "seconds": time.perf_counter() - started}


def main() -> None:
    """Print the tables, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "gpu")
    parser.add_argument("--out", type=Path)
    shared = Path(os.environ.get("CORPORA") or ROOT.parent / "shared")
    parser.add_argument("--evalsets", type=Path, default=shared / "evalsets")
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    if args.tiny:
        gpu.DEVICE, command.has_cuda = DEVICE.type, lambda: True
    elif not triton_mode.HAS_CUDA:
        raise SystemExit("error: no usable CUDA device (--tiny tries the script without)")
    shutil.rmtree(args.work, ignore_errors=True)
    args.work.mkdir(parents=True)
    report = run(args)
    out = args.out or args.work / "bench.json"
    out.write_text(json.dumps(report, indent=1), encoding="utf-8")
    print(describe(report))


if __name__ == "__main__":
    main()
