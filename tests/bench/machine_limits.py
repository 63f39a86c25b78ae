"""What this machine allows a kernel at most: multiply-adds, random rows of a table, both by threads.

python -m tests.bench.machine_limits [--threads 2]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

from trainer.engines.kernels.numba.instructions.simd import LONG, WORD, Vectors
from trainer.engines.kernels.numba.jit import REORDER, jit, prefetch
from trainer.engines.kernels.numba.shape import host_lanes
from trainer.engines.lines import LINE_BYTES

SUMS = 20  # independent ones: more than a processor has in flight
ROUNDS = 500_000  # a burst of milliseconds: to hand it to a thread takes .05
BURSTS = 100  # short ones, of which the fastest was not disturbed
BURST_ROWS = 20_000
AHEAD = 16  # rows that are on their way


@intrinsic
def multiply_adds(_context: Any, _rounds: Any) -> Any:
    """SUMS vector multiply-adds a round; the result is there so that none is left out."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        v = Vectors(builder, host_lanes())
        slots = [cgutils.alloca_once_value(builder, v.constant(i)) for i in range(SUMS)]
        with cgutils.for_range(builder, arguments[0], intp=LONG):
            for slot in slots:
                builder.store(v.multiply_add(builder.load(slot), v.constant(0.999), v.constant(1)), slot)
        total = builder.load(slots[0])
        for slot in slots[1:]:
            total = v.add(total, builder.load(slot))
        return builder.extract_element(total, WORD(0))

    return types.float32(types.int64), emit


@jit(cache=True)
def compute(rounds: Any) -> Any:
    """Do nothing but multiply and add."""
    return multiply_adds(rounds)


@jit(REORDER, cache=True)
def visit_rows(table_VD: Any, ids_N: Any) -> Any:
    """Change each number of the rows, each row prefetched AHEAD rows before."""
    base, row_bytes = table_VD.ctypes.data, table_VD.shape[1] * 4
    for n in range(ids_N.size - AHEAD):
        ahead = base + ids_N[n + AHEAD] * row_bytes
        for offset in range(0, row_bytes, LINE_BYTES):
            prefetch(ahead + offset)
        row = ids_N[n]
        for d in range(table_VD.shape[1]):
            table_VD[row, d] += np.float32(1)
    return ids_N.size - AHEAD


def on_threads(work: Callable[[int, int], Any], threads: int) -> float:
    """Seconds until all threads are done, of the fastest burst."""
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for burst in range(BURSTS):
            start = time.perf_counter()
            list(pool.map(work, range(threads), [burst] * threads))
            best = min(best, time.perf_counter() - start)
    return best


def peak_gflops(threads: int = 1) -> float:
    """GFLOP/s of multiply-adds in registers."""
    compute(1)
    seconds = on_threads(lambda _thread, _burst: compute(ROUNDS), threads)
    return threads * ROUNDS * SUMS * host_lanes() * 2 / seconds / 1e9


def row_rate(rows: int = 80_000, dim: int = 100, threads: int = 1) -> float:
    """Rows a second that are read and written at uniformly random places of a table."""
    table_VD = np.ones((rows, dim), np.float32)
    ids = np.random.default_rng(1).integers(0, rows, (threads, BURSTS, BURST_ROWS))  # rows that no cache holds yet
    visit_rows(table_VD, ids[0, 0, : AHEAD + 1])
    seconds = on_threads(lambda thread, burst: visit_rows(table_VD, ids[thread, burst]), threads)
    return threads * (BURST_ROWS - AHEAD) / seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    threads = parser.parse_args().threads
    print(f"| vectors of {host_lanes()} floats | GFLOP/s | M rows of 400 bytes/s: 80 k rows | 1 M | 3 M |")
    print("|---|---|---|---|---|")
    for count in sorted({1, threads}):
        rates = " | ".join(f"{row_rate(rows, threads=count) / 1e6:.0f}" for rows in (80_000, 1_000_000, 3_000_000))
        print(f"| {count} threads | {peak_gflops(count):.0f} | {rates} |")


if __name__ == "__main__":
    main()
