"""From text to vectors through the two command lines, as a user runs them."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.e2e
TOPICS = {
    "animals": ["fox", "dog", "cat", "bear", "wolf", "hare", "deer", "lynx"],
    "fruit": ["apple", "pear", "plum", "fig", "grape", "lemon", "quince", "cherry"],
    "tools": ["hammer", "saw", "chisel", "plane", "drill", "rasp", "vice", "awl"],
    "πόλεις": ["αθήνα", "σπάρτη", "κόρινθος", "θήβα", "άργος", "δελφοί", "πάτρα", "ρόδος"],
}


def call(*words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-m", *words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done


def result(*words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call(*words, "--json").stdout.splitlines()[-1])
    return found


def planted_text(sentences: int) -> str:
    """Sentences about one topic each, with a few words that stand anywhere."""
    words = np.random.Philox(key=11).random_raw(sentences * 12).astype(np.uint64)
    topics, lines = list(TOPICS.values()), []
    for number in range(sentences):
        draws = [int(word >> np.uint64(20)) for word in words[number * 12 : number * 12 + 12]]
        topic = topics[draws[0] % len(topics)]
        lines.append(" ".join(["the", "of", "and", "a"][d % 4] if d % 5 == 0 else topic[d % 8] for d in draws[1:]))
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("e2e")
    (folder / "text").mkdir()
    text = planted_text(6000).encode()
    half = text.index(b"\n", len(text) // 2) + 1
    (folder / "text" / "a.txt.gz").write_bytes(gzip.compress(text[:half]))
    (folder / "text" / "b.txt").write_bytes(text[half:])
    result("pipeline", "--input", f"{folder}/text/*", "--output", f"{folder}/data", "--passes", "3", "--sample", "0.05",
           "--shard-pairs", "50000")  # fmt: skip
    return folder


def train(work: Path, name: str, *flags: str) -> dict[str, Any]:
    common = ["--data", f"{work}/data", "--model", f"{work}/{name}", "--dim", "24", "--epochs", "3"]
    return result("trainer", "train", *common, *flags)


@pytest.mark.parametrize(
    "flags",
    [
        ["--learning-rate", "0.05", "--threads", "1"],
        ["--learning-rate", "0.05", "--threads", "2"],
        ["--learning-rate", "0.05", "--predict", "context"],
        [
            "--engine",
            "reference",
            "--optimizer",
            "adam",
            "--learning-rate",
            "0.01",
            "--batch-size",
            "2048",
            "--epochs",
            "1",
        ],
    ],
    ids=["one thread", "two threads", "predict context", "reference"],
)
def test_words_that_share_contexts_become_neighbours(
    work: Path, flags: list[str], request: pytest.FixtureRequest
) -> None:
    name = "model-" + request.node.callspec.id.replace(" ", "-")
    trained = train(work, name, *flags)
    assert 0 < trained["loss"] < 6 * np.log(2)
    words = [word for topic in TOPICS.values() for word in topic]
    answers = result("trainer", "neighbors", "--model", f"{work}/{name}", "--top", "5", *words)["words"]
    right = [near["token"] in topic for answer in answers for near in answer["neighbors"]
             for topic in TOPICS.values() if answer["word"] in topic]  # fmt: skip
    assert len(right) == 5 * len(words)
    assert sum(right) >= 0.95 * len(right)


def test_one_thread_gives_the_same_bytes_twice(work: Path) -> None:
    digests = []
    for name in ("same-1", "same-2"):
        train(work, name, "--threads", "1")
        folder = next((work / name / "versions").iterdir())
        files = ["model.safetensors", "vocab.parquet", "model.json"]
        digests.append([folder.name, *(hashlib.sha256((folder / f).read_bytes()).hexdigest() for f in files)])
    assert digests[0] == digests[1]


def test_the_same_command_again_says_that_it_is_done(work: Path) -> None:
    train(work, "again", "--threads", "1")
    before = {path: path.stat().st_mtime_ns for path in (work / "again").rglob("*") if path.is_file()}
    train(work, "again", "--threads", "1")
    assert before == {path: path.stat().st_mtime_ns for path in (work / "again").rglob("*") if path.is_file()}
    words = ["trainer", "train", "--data", f"{work}/data", "--model", f"{work}/again", "--dim", "25", "--epochs", "3"]
    error = call(*words, status=1).stderr
    assert "dim" in error
    assert "24" in error
    assert "25" in error


def test_vectors_leave_in_the_order_of_frequency(work: Path) -> None:
    train(work, "out")
    call("trainer", "export", "--model", f"{work}/out", "--format", "parquet", "--to", f"{work}/out.parquet")
    table = pq.read_table(work / "out.parquet")
    assert table.schema.names == ["token", "count", "vector"]
    counts = table["count"].to_pylist()
    assert counts == sorted(counts, reverse=True)
    assert {len(vector) for vector in table["vector"].to_pylist()} == {24}


@pytest.mark.parametrize(
    ("words", "status", "parts"),
    [
        (["pipeline", "--input", "{w}/none*", "--output", "{w}/x"], 1, ["none*", "no file matches"]),
        (
            ["pipeline", "--input", "{w}/text/*", "--output", "{w}/x", "--min-count", "99999"],
            1,
            ["--min-count", "no token in the input"],
        ),
        (["pipeline", "--input", "{w}/text/*", "--output", "{w}/text/b.txt"], 1, ["b.txt"]),
        (["pipeline", "--input", "{w}/text/*", "--output", "{w}/x", "--windw", "3"], 2, ["--windw"]),
        (["pipeline", "--output", "{w}/x"], 2, ["--input"]),
        (["trainer", "train", "--data", "{w}/none", "--model", "{w}/m"], 1, ["none/LATEST.json", "found no file"]),
        (["trainer", "train", "--data", "{w}/data", "--run", "gone", "--model", "{w}/m"], 1, ["gone/manifest.json"]),
        (["trainer", "train", "--data", "{w}/data", "--model", "{w}/m", "--dim", "0"], 2, ["--dim", "found 0"]),
        (["trainer", "train", "--data", "{w}/data", "--model", "{w}/m", "--epoch", "2"], 2, ["--epoch"]),
        (["trainer", "neighbors", "--model", "{w}/none", "fox"], 1, ["none"]),
        (["trainer", "neighbors", "--model", "{w}/out", "foxx"], 1, ["'foxx'", "fox"]),
        (["trainer", "export", "--model", "{w}/out", "--format", "parquet", "--to", "{w}/text"], 1, ["text"]),
        (["trainer", "evaluate", "--model", "{w}/out", "--similarity", "{w}/none.tsv"], 1, ["none.tsv"]),
        (["trainer", "fly"], 2, ["fly"]),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else str(value),
)
def test_what_goes_wrong_is_one_line(work: Path, words: list[str], status: int, parts: list[str]) -> None:
    if "{w}/out" in words and not (work / "out").exists():
        train(work, "out")
    error = call(*(word.format(w=work) for word in words), status=status).stderr
    assert error.startswith("error: ")
    assert error.count("\n") == 1, error
    assert all(part in error for part in parts), error
    assert not (work / "x").exists()
    assert not (work / "m").exists()
