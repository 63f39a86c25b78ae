"""What the shards cost by codec: bytes of a raw word, seconds to decode, cores for a fast device.

    python -m tests.bench.data_cost [--rounds 3] [--device-tokens 100e6] [--work work/bench]

Rates are those of one core: processor time, all checks included (checksums of the row group and of its pages, ids).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.dataset.reader import Dataset
from tests.bench.kernel import make_dataset
from tests.bench.support import machine, spread
from tests.quality.corpora import plain_words, shared_folder
from tests.support.paths import ROOT

CODECS = ("zstd", "lz4", "none")
GROUPS = 24


def processor_s(work: Callable[[], object]) -> float:
    """Seconds of processor time."""
    start = time.process_time()
    work()
    return time.process_time() - start


def decode_rate(dataset: Dataset) -> float:
    """Pairs a second of one core."""
    refs = dataset.row_groups(0)[:GROUPS]
    seconds = processor_s(lambda: [dataset.read_row_group(ref) for ref in refs])
    return sum(ref.rows for ref in refs) / seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device-tokens", type=float, default=100e6)
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "bench")
    args = parser.parse_args()
    text = plain_words(shared_folder(), args.work)
    datasets = {codec: make_dataset(text, args.work, codec) for codec in CODECS}
    rates: dict[str, list[float]] = {codec: [] for codec in CODECS}
    for _ in range(args.rounds):
        for codec, dataset in datasets.items():
            rates[codec].append(decode_rate(dataset) / 1e6)
    print(f"{machine()}; medians of {args.rounds} interleaved rounds (least to greatest)\n")
    kept = args.device_tokens / 1e6
    print(f"| codec | bytes a pair | bytes a raw word | M pairs/s a core | cores for {kept:.0f} M tokens/s | GB/s |")
    print("|---|---|---|---|---|---|")
    for codec, dataset in datasets.items():
        pairs, size = dataset.pairs_in_pass(0), sum(shard.bytes for shard in dataset.shards if shard.pass_index == 0)
        # A trained token is one that subsampling kept: the middle of a window.
        needed = args.device_tokens * pairs / dataset.manifest.passes[0].kept
        cores = needed / 1e6 / sorted(rates[codec])[len(rates[codec]) // 2]
        print(
            f"| {codec} | {size / pairs:.2f} | {size / dataset.total_tokens:.2f} | {spread(rates[codec], 0)} "
            f"| {cores:.1f} | {needed * size / pairs / 1e9:.2f} |"
        )


if __name__ == "__main__":
    main()
