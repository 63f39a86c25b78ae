"""How long nearest neighbours take in a large model: opening it, then single queries and eight at once.

python -m tests.bench.neighbors [--tokens 1000000] [--dim 300] [--runs 20] [--gensim]

The model is made in a temporary folder: random input vectors (4 bytes a number on disk), output vectors of zeros in a
sparse file. With --gensim its KeyedVectors answer the same queries, from memory.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import trainer
from pipeline.dataset.schema import FORMAT_VERSION, canonical_json, sha256_hex
from pipeline.dataset.vocabulary import Vocabulary, save_vocab
from tests.bench.support import machine, spread
from tests.support.paths import ROOT
from trainer.keyed_vectors.vectors import Vectors

BLOCK_ROWS = 1 << 14
BATCH = 8


def make_model(folder: Path, tokens: int, dim: int) -> None:
    """Write a model's files, a block of rows at a time."""
    version = folder / "versions" / "v"
    version.mkdir(parents=True)
    column = pa.chunked_array([pa.array([f"token{i}" for i in range(tokens)])])
    counts = np.arange(tokens, 0, -1, dtype=np.int64)
    vocabulary = bytes(memoryview(save_vocab(Vocabulary(column, counts))))
    (version / "vocab.parquet").write_bytes(vocabulary)
    sha256 = write_tables(version / "model.safetensors", tokens, dim)
    files = {
        "vocab.parquet": {"bytes": len(vocabulary), "sha256": sha256_hex(vocabulary)},
        "model.safetensors": {"bytes": (version / "model.safetensors").stat().st_size, "sha256": sha256},
    }
    info = {"format_version": FORMAT_VERSION, "version": "v", "config": {}, "lineage": {}, "metrics": {}}
    (version / "model.json").write_bytes(canonical_json(info | {"files": files}))
    (folder / "LATEST.json").write_bytes(canonical_json({"format_version": FORMAT_VERSION, "version": "v"}))


def write_tables(path: Path, tokens: int, dim: int) -> str:
    """Write random rows and, for the second table, a hole; return the file's SHA-256."""
    size = tokens * dim * 4
    header = {
        name: {"dtype": "F32", "shape": [tokens, dim], "data_offsets": [i * size, (i + 1) * size]}
        for i, name in enumerate(("input", "output"))
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = np.random.default_rng(1)
    with open(path, "wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for start in range(0, tokens, BLOCK_ROWS):
            rows = min(BLOCK_ROWS, tokens - start)
            stream.write(generator.standard_normal((rows, dim), np.float32).tobytes())
        stream.truncate(stream.tell() + size)
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if sys.version_info >= (3, 11) else _sha256(stream)


def _sha256(stream: Any) -> str:
    sha = hashlib.sha256()
    while data := stream.read(1 << 22):
        sha.update(data)
    return sha.hexdigest()


def timed(work: Callable[[], Any]) -> float:
    """Seconds that something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def milliseconds(work: Callable[[int], Any], runs: int, queries: int = 1) -> str:
    """Median, least and greatest, a query; and processor time, which a busy machine changes less."""
    used = time.process_time()
    seconds = [timed(lambda run=run: work(run)) for run in range(runs)]
    used = (time.process_time() - used) / runs
    return f"{spread([1e3 * one / queries for one in seconds], 0)} ms, of a core {1e3 * used / queries:.0f} ms"


def own_memory_mb() -> int:
    """What the process holds that is no page of a file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("RssAnon:"))


def gensim_vectors(vectors: Vectors) -> Any:
    """Gensim's own object for the same vectors, in memory."""
    from gensim.models import KeyedVectors

    peer = KeyedVectors(vectors.vector_size)
    peer.add_vectors(vectors.tokens, np.array(vectors.vectors))
    return peer


def batch(vectors: Vectors, run: int) -> None:
    """Eight queries as `neighbors` asks them: the table is read once."""
    rows = range(run * BATCH, (run + 1) * BATCH)
    scores = vectors.cosines(vectors.vectors[list(rows)])
    for row, scores_V in zip(rows, scores, strict=True):
        vectors.nearest(scores_V, 10, [row])


def measure(folder: Path, args: argparse.Namespace) -> None:
    """Print the table."""
    opened: list[Vectors] = []
    rows = [("open, checked", f"{timed(lambda: opened.append(trainer.load(str(folder)))):.2f} s")]
    rows.append(("open, unchecked", f"{timed(lambda: trainer.load(str(folder), verify=False)):.2f} s"))
    vectors = opened[0]
    rows.append(("lengths of all rows, once", f"{timed(lambda: vectors.norms):.2f} s"))
    rows.append(("tokens to ids, once", f"{timed(lambda: vectors.key_to_index):.2f} s"))
    rows.append(("one query", milliseconds(lambda run: vectors.most_similar(f"token{run}"), args.runs)))
    rows.append((f"of {BATCH} queries, each", milliseconds(lambda run: batch(vectors, run), args.runs, BATCH)))
    rows.append(("memory of its own", f"{own_memory_mb()} MB"))
    command = [sys.executable, "-m", "trainer", "neighbors", "--model", str(folder), "token5"]
    run = [timed(lambda: subprocess.run(command, cwd=ROOT, check=True, capture_output=True)) for _ in range(3)]
    rows.append(("python -m trainer neighbors, in all", f"{spread(run)} s"))
    if args.gensim:
        peer = gensim_vectors(vectors)
        peer.most_similar("token0")
        rows.append(("gensim, one query", milliseconds(lambda run: peer.most_similar(f"token{run}"), args.runs)))
    print(f"{args.tokens:,} tokens, {args.dim} dimensions; {machine()}\n\n| | |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value} |")


def main() -> None:
    """Make a model, measure, remove it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=300)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--gensim", action="store_true")
    args = parser.parse_args()
    os.environ["PYTHONWARNINGS"] = "ignore"
    with tempfile.TemporaryDirectory(prefix="pairstream-bench-") as folder:
        make_model(Path(folder), args.tokens, args.dim)
        measure(Path(folder), args)


if __name__ == "__main__":
    main()
