"""`import pairstream` and the command of that name, beside files of a user that are called as our packages are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pairstream

ROOT = Path(__file__).resolve().parents[2]
TEXT = "".join(
    f"the {animal} ran to the {place} and back\n" for animal in ("fox", "dog", "cat") for place in ("den", "barn")
)
HIJACKER = "raise SystemExit('a file of the user was taken for the package')\n"

pytestmark = pytest.mark.e2e


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT * 40)
    for name in ("trainer.py", "pipeline.py"):
        (tmp_path / name).write_text(HIJACKER)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pairstream").write_text("import sys\nfrom pairstream import run\nsys.exit(run())\n")
    return tmp_path


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command: a script elsewhere, so that Python looks for no module in the working folder."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(folder / "bin" / "pairstream"), *words], cwd=folder, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=False,
    )  # fmt: skip


def succeed(folder: Path, *words: str) -> str:
    done = command(folder, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_works_beside_files_of_the_same_names(folder: Path) -> None:
    shape = ("--input", "text.txt", "--min-count", "1", "--sample", "0")
    workers = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    succeed(folder, "pipeline", *shape, "--output", "data")
    succeed(folder, "pipeline", *shape, "--output", "again", *workers)
    succeed(folder, "train", "--data", "data", "--model", "model", "--dim", "8", "--quiet")
    assert "dog" in succeed(folder, "neighbors", "--model", "model", "fox")
    one, other = (pairstream.open_dataset(str(folder / name)) for name in ("data", "again"))
    assert one.dataset_id == other.dataset_id
    settings = ("--data", "nightly", "--model", "live", "--input", "text.txt", "--dim", "8")
    assert json.loads(succeed(folder, "retrain", *settings, "--json"))["status"] == "published"


def test_the_command_says_what_it_is_and_what_was_meant(folder: Path) -> None:
    assert succeed(folder, "--version").startswith(f"pairstream {pairstream.__version__} ")
    help_text = succeed(folder, "--help")
    assert all(f"\n  {name} " in help_text for name in ("pipeline", "train", "neighbors", "retrain"))
    assert succeed(folder, "pipeline", "--help").startswith("usage: pairstream pipeline ")
    assert succeed(folder, "train", "--help").startswith("usage: pairstream train ")
    for words, meant in ((("trian",), "train"), (("train", "--modle", "m"), "--model")):
        done = command(folder, *words)
        assert done.returncode == 2
        assert f"did you mean {meant}?" in done.stderr


def test_debug_shows_the_traceback(folder: Path) -> None:
    words = ("neighbors", "--model", "nowhere", "fox")
    plain, full = command(folder, *words), command(folder, "--debug", *words)
    assert plain.stderr.count("\n") == 1
    assert full.stderr.startswith("Traceback")
    assert full.stderr.endswith(plain.stderr)


def test_from_text_to_vectors_in_python(folder: Path) -> None:
    data, model = str(folder / "data"), str(folder / "model")
    dataset = pairstream.prepare(str(folder / "text.txt"), data, min_count=1, sample=0.0, passes=2)
    assert (dataset.passes, dataset.total_tokens) == (2, 6 * 40 * 8)
    vectors = pairstream.train(data, model, dim=8, epochs=2)
    assert vectors.vector_size == 8
    np.testing.assert_array_equal(pairstream.load(model)["fox"], vectors["fox"])
    batches = list(pairstream.PairStream(data))
    assert sum(len(batch["center_B"]) for batch in batches) == dataset.pairs_in_pass(0)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = pairstream.nothing
