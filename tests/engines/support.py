"""One corpus, one command line and one digest for every engine and store: what all of them must agree on."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.dataset.manifest import MANIFEST
from pipeline.dataset.reader import Dataset, open_dataset
from pipeline.storage import storage
from tests.support.paths import ROOT

#: Many small shards, so that every worker writes some; both passes, and words of every script.
FLAGS = ("--min-count", "3", "--passes", "2", "--shard-pairs", "120000", "--sample", "0.01", "--seed", "7")

_SYLLABLES = ("ka lo mi tra nu ve sho pi ran do stel ur", "λο γος θα να", "во да ми ру", "ığ şe İz çi", "語 文 字")
_FILE_LINES = {"a.txt": 9000, "b.txt.gz": 5000, "c.txt.gz": 5000, "d.txt.gz": 4000, "e.txt": 3000, "f.txt.gz": 2000}


def make_corpus(folder: Path, seed: int = 11) -> Path:
    """Write some 400,000 words in several plain and compressed files, the same on any machine; return their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(seed)
    words = list(_words(draw, 9000))
    ends = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(words))))
    for name, lines in _FILE_LINES.items():
        text = b"".join(_line(draw, words, ends) for _ in range(lines)) + b"\xff no UTF-8: a dead letter\n"
        (folder / name).write_bytes(gzip.compress(text, 6, mtime=0) if name.endswith(".gz") else text)
    return folder


def _words(draw: random.Random, count: int) -> Iterator[str]:
    found = set[str]()
    alphabets = [alphabet.split() for alphabet in _SYLLABLES]
    while len(found) < count:
        syllables = alphabets[0] if draw.random() < 0.9 else draw.choice(alphabets[1:])
        word = "".join(draw.choices(syllables, k=draw.randint(2, 5)))
        if word not in found:
            found.add(word)
            yield word.capitalize() if draw.random() < 0.1 else word


def _line(draw: random.Random, words: Sequence[str], ends: Sequence[float]) -> bytes:
    return (" ".join(draw.choices(words, cum_weights=ends, k=draw.randint(1, 28))) + ".\n").encode()


def pipeline_words(corpus: Path | str, output: Path | str, *flags: str) -> list[str]:
    """Return the arguments of the command that every engine runs."""
    return ["--input", f"{corpus}/*", "--output", str(output), *FLAGS, *flags]


def run_pipeline(corpus: Path | str, output: Path | str, *flags: str, **environment: str) -> float:
    """Build and publish the dataset in a process of its own; return the seconds that it took."""
    started = time.perf_counter()
    process = start_pipeline(corpus, output, *flags, **environment)
    try:
        _, error = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 0, error[-6000:]
    return time.perf_counter() - started


def start_pipeline(
    corpus: Path | str, output: Path | str, *flags: str, before: str = "", cwd: Path | None = None, **environment: str
) -> subprocess.Popen[str]:
    """Start the command in a process of its own, in some folder, after some code of the test's."""
    code = f"import sys\n{before}\nfrom pipeline.cli import main\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-W", "ignore", "-c", code, *pipeline_words(corpus, output, *flags)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen(command, cwd=cwd, env=environment, text=True, **pipes)


def files_below(folder: Path) -> set[str]:
    """Return the paths of all files below a local folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def dataset_sha256(uri: Path | str) -> str:
    """SHA-256 over name and SHA-256 of each file of the published run, read from where it lies; without clocks.

    They are the manifest, the files that it names, and the shards: all but run.json and the list of inputs.
    """
    dataset = open_dataset(str(uri))
    folder = storage.join(str(uri), "runs", dataset.run_id)
    digest = hashlib.sha256()
    for name in sorted(names_of(dataset)):
        content = hashlib.sha256(storage.read_bytes(storage.join(folder, name))).hexdigest()
        digest.update(f"{name} {content}\n".encode())
    return digest.hexdigest()


def names_of(dataset: Dataset) -> set[str]:
    """Return the names of a run's files that are the same wherever it ran."""
    return {MANIFEST, *dataset.manifest.files, *(shard.name for shard in dataset.shards)}
