"""The GPU benchmark runs from text to table: in Triton's interpreter, and with nothing that a bare machine lacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from pipeline.dataset.reader import open_dataset
from tests.bench.gpu_corpus import WINDOW, make_gpu_dataset, make_pairs
from tests.support.datasets import window_pairs
from tests.support.paths import ROOT

BARE = """
import runpy, sys
BLOCKED = {"apache_beam", "smart_open", "numba", "llvmlite", "regex"}
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
runpy.run_module("tests.bench.gpu", run_name="__main__", alter_sys=True)
"""


def write_text(path: Path, sentences: int) -> None:
    rng = np.random.default_rng(0)
    words = [letter * 3 for letter in "abcdefghijklmnopqrst"]
    path.write_text("\n".join(" ".join(rng.choice(words, 8)) for _ in range(sentences)) + "\n", encoding="ascii")


def test_the_whole_script_on_a_bare_machine(tmp_path: Path) -> None:
    write_text(tmp_path / "text.txt", 10)
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "some.tsv").write_text("aaa\tbbb\t3\nccc\tddd\t1\neee\tfff\t2\n", encoding="ascii")
    flags = {"corpus": "text.txt", "work": "work", "out": "out.json", "evalsets": "sets"}
    words = [f"--{name}={tmp_path / value}" for name, value in flags.items()]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BARE, "--tiny", "--dim=6", *words],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "share of the memory roof" in done.stdout
    report = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert report["words"] == 80
    assert report["kernel"].keys() == {"fp32", "bf16"}
    assert [one["name"] for one in report["trainer"]] == ["1-epoch", "1-epoch-bf16", "1-epoch-cbow", "2-epochs"]
    assert all("some" in one["scores"] for one in report["trainer"])
    assert len(report["sweep"]) >= 4


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.bench.gpu", "--corpus", "x", "--work", str(tmp_path / "w")],
        cwd=ROOT, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: no usable CUDA device (--tiny tries the script without)"


def test_its_pairs_are_those_of_the_format() -> None:
    sentences = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [3], [4, 4, 5]]
    ids = np.concatenate(sentences).astype(np.int32)
    numbers = np.repeat(np.arange(3, dtype=np.int32), [len(one) for one in sentences])
    found = make_pairs(ids, numbers, np.full(ids.size, WINDOW))
    expected = [window_pairs(one, WINDOW) for one in sentences]
    for column in range(2):
        np.testing.assert_array_equal(found[column], np.concatenate([one[column] for one in expected]))
    center, context = make_pairs(ids, numbers, np.ones(ids.size, np.int64))
    assert center.size == context.size == 2 * 8 + 2 * 2


def test_its_dataset_has_the_words_and_whole_sentences(tmp_path: Path) -> None:
    write_text(tmp_path / "text.txt", 60)
    with (tmp_path / "text.txt").open("a") as file:
        file.write("Rare, and\tONCE.\n\n")
    corpus = make_gpu_dataset(str(tmp_path / "text.txt"), str(tmp_path / "data"), passes=2, threads=2, group_pairs=200)
    assert (corpus.words, len(corpus.vocabulary), corpus.ids_T.size) == (483, 20, 480)
    counts = corpus.vocabulary.counts
    assert counts.sum() == 480
    assert (np.diff(counts) <= 0).all()
    dataset = open_dataset(str(tmp_path / "data"))
    assert (dataset.passes, dataset.total_tokens) == (2, 483)
    assert len(dataset.row_groups(0)) >= 2
    first, second = (np.concatenate(dataset.read_row_group(dataset.row_groups(p)[0])) for p in range(2))
    assert not np.array_equal(first, second), "each pass has its own draws"
