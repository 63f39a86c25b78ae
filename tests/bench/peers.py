"""The trainers that ours is compared with, each a process of its own: gensim, or fastText where words have n-grams."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.engines.install import debian, python_env
from tests.quality.score import Floats, read_vectors
from tests.support.paths import ROOT
from trainer.subwords.ngrams import Subwords

BUCKETS = 2 << 20  # our default, and about fastText's

_RATE = re.compile(r"words/sec/thread:\s+(\d+)")


@dataclass(frozen=True)
class Settings:
    """What both systems train by; the rest is window 5, 5 negatives, sample 1e-3, min_count 5.

    Attributes:
        architecture: skipgram or cbow.
        subwords: n-grams' lengths, such as 3-6; empty for none.
        dim: D.
        epochs: at least 1.
        threads: of each.
        rate: the learning rate of both; empty for each one's default.
        seed: of both.
    """

    architecture: str = "skipgram"
    subwords: str = ""
    dim: int = 100
    epochs: int = 1
    threads: int = 2
    rate: str = ""
    seed: int = 1

    @property
    def peer(self) -> str:
        """Whom we are compared with."""
        return "fastText" if self.subwords else "gensim"

    def flags(self) -> list[str]:
        """Those of our `train`."""
        flags = ["--architecture", self.architecture, "--dim", str(self.dim), "--epochs", str(self.epochs)]
        flags += ["--threads", str(self.threads), "--seed", str(self.seed)]
        flags += ["--subwords", self.subwords, "--power", "0.5"] if self.subwords else []  # by which fastText draws
        return [*flags, "--learning-rate", self.rate] if self.rate else flags


def timed(words: list[str]) -> tuple[dict[str, Any], float]:
    """Run a command of Python; return its last line as JSON, and the seconds of the whole process."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *words], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - start
    return json.loads(done.stdout.splitlines()[-1]), seconds


def command(*words: str) -> dict[str, Any]:
    """Run a command of Python; return its last line as JSON."""
    return timed(list(words))[0]


def train_ours(text: Path, data: str, model: str, settings: Settings, *more: str) -> tuple[Any, Any, float]:
    """Make a dataset, with more flags of the pipeline, and train; returns what both commands say, and their seconds."""
    shards = ["--tokenizer", "whitespace", "--passes", str(settings.epochs), "--seed", str(settings.seed), *more]
    built, built_s = timed(["-m", "pipeline", "--input", str(text), "--output", data, "--json", *shards])
    train = ["-m", "trainer", "train", "--data", data, "--model", model, "--overwrite", "--quiet", "--json"]
    trained, trained_s = timed([*train, *settings.flags()])
    return built, trained, built_s + trained_s


def train_peer(text: Path, vectors: Path, settings: Settings, path: str = "corpus_file") -> tuple[float, float]:
    """Train the peer on a text; returns its raw words a second in training, and the seconds of all."""
    if settings.subwords:
        return _train_fasttext(text, vectors, settings)
    result, seconds = timed(
        ["-m", "tests.bench.gensim_peer", str(text), str(vectors), "--epochs", str(settings.epochs), "--path", path,
         "--workers", str(settings.threads), "--architecture", settings.architecture, "--dim", str(settings.dim),
         "--seed", str(settings.seed), *(["--alpha", settings.rate] if settings.rate else [])]
    )  # fmt: skip
    return settings.epochs * result["words"] / result["train_s"], seconds


def fasttext_python() -> Path:
    """A Python that has fastText, which comes as source."""
    debian({"g++": "g++"})
    return python_env("fasttext", ["fasttext==0.9.3", "numpy==2.4.6"])


def fasttext_vectors(
    text: Path, vectors: Path, settings: Settings, words: Sequence[str]
) -> tuple[list[str], Floats, Floats]:
    """Train fastText; its tokens, their vectors, and those of some words that it does not know."""
    _train_fasttext(text, vectors, settings, words)
    tokens, table_VD = read_vectors(vectors)
    known = len(tokens) - len(words)
    return tokens[:known], table_VD[:known], table_VD[known:]


def _train_fasttext(text: Path, vectors: Path, settings: Settings, words: Sequence[str] = ()) -> tuple[float, float]:
    rule = Subwords.parse(settings.subwords, BUCKETS)
    numbers = [settings.dim, settings.epochs, settings.threads, settings.architecture]
    numbers += [rule.shortest, rule.longest, rule.buckets, settings.rate or 0.05]
    call = [fasttext_python(), "-W", "ignore", ROOT / "tests/bench/fasttext_peer.py", text, vectors, *numbers]
    start = time.perf_counter()
    done = subprocess.run(list(map(str, call)), check=True, stderr=subprocess.PIPE, text=True, input="\n".join(words))
    return settings.threads * float(_RATE.findall(done.stderr)[-1]), time.perf_counter() - start
