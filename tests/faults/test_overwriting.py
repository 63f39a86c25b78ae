"""Readers of a model that is trained again and again with --overwrite: they never see anything but whole versions."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.datasets import group_of, make_dataset
from tests.support.paths import ROOT
from trainer.config import TrainConfig
from trainer.models.store import load_model
from trainer.training import command as train
from trainer.training.loop import Loop
from trainer.versions.command import list_versions

TIMES = 20

READER = """
import sys
from pathlib import Path
import trainer
model, done = sys.argv[1], Path(sys.argv[2])
print("ready", flush=True)
versions, reads = set(), 0
while not done.exists() or not reads:
    vectors = trainer.load(model)
    vectors.most_similar("w1", topn=3)
    versions.add(vectors.info["version"])
    reads += 1
print(len(versions), reads)
"""


def test_twenty_overwrites_beside_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    # Frequent words and long vectors: two threads write the same rows at the same time.
    groups = [group_of([list(rng.zipf(1.3, 60) % 300) for _ in range(100)]) for _ in range(2)]
    loops, run = itertools.count(), Loop.run

    def race(loop: Loop) -> None:
        """Train; on a busy machine one thread may have done all, so add what a lost update would change."""
        run(loop)
        loop.engine.live()["input"][0, 0] += next(loops) * 1e-3

    monkeypatch.setattr(Loop, "run", race)
    config = TrainConfig(
        make_dataset(tmp_path / "data", passes=[[groups]]), f"{tmp_path}/m", dim=100, negatives=10, threads=2,
        device="cpu", quiet=True, overwrite=True,
    )  # fmt: skip
    made = [train.train(config)["version"]]
    command = [sys.executable, "-W", "ignore", "-c", READER, config.model, f"{tmp_path}/done"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        made += [train.train(config)["version"] for _ in range(TIMES)]
        (tmp_path / "done").touch()
        out, error = reader.communicate(timeout=60)
    assert (reader.returncode, error) == (0, "")
    seen, reads = map(int, out.split())
    assert reads >= seen > 1
    assert len(set(made)) == TIMES + 1
    assert [one["version"] for one in list_versions(config.model)] == made[::-1][: config.keep_versions]
    assert {path.name for path in (tmp_path / "m/versions").iterdir()} == set(made[-config.keep_versions :])
    for version in made[-config.keep_versions :]:
        assert load_model(config.model, version).info["training"] == {"device": "cpu", "threads": 2, "processes": 1}
