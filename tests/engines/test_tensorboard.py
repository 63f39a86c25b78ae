"""What --tensorboard writes, read back by TensorBoard itself."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engines.install import python_env
from tests.support.datasets import group_of, make_dataset
from tests.support.paths import ROOT

pytestmark = pytest.mark.engines
_TENSORBOARD = ["tensorboard==2.20.0", "setuptools==80.9.0"]

#: The trainer in this environment, with TensorBoard's from its own behind it: what both have is this one's.
_TRAIN = """
import sys
sys.path.append(sys.argv.pop(1))
from trainer.cli import main
sys.exit(main())
"""

_READ = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0}).Reload()
print(json.dumps({tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}))
"""

_PROJECTOR = """
import json, sys
from google.protobuf import text_format
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
config = text_format.Parse(open(sys.argv[1]).read(), ProjectorConfig())
print(json.dumps([[e.tensor_path, e.metadata_path] for e in config.embeddings]))
"""


@pytest.fixture(scope="module")
def tensorboard() -> Path:
    return python_env("tensorboard", _TENSORBOARD)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(5)
    groups = [group_of([list(rng.integers(0, 12, 8)) for _ in range(50)]) for _ in range(8)]
    return make_dataset(tmp_path_factory.mktemp("board") / "data", passes=[[groups[:4], groups[4:]]] * 2)


def train(tensorboard: Path, *words: str, status: int = 0, code: str = _TRAIN) -> dict[str, Any]:
    [site] = tensorboard.parent.parent.glob("lib/python*/site-packages")
    command = [sys.executable, "-c", code, str(site), "train", *words, "--dim", "6", "--threads", "1", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) if status == 0 else {}


def read(tensorboard: Path, code: str, path: Path) -> Any:
    done = subprocess.run([tensorboard, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def history_of(model: Path) -> dict[str, list[float]]:
    [run] = model.glob("versions/*/run.json")
    found: dict[str, list[float]] = json.loads(run.read_text())["history"]
    return found


def test_tensorboard_reads_what_a_training_wrote(tensorboard: Path, data: str, tmp_path: Path) -> None:
    (tmp_path / "sim.tsv").write_text("w0\tw1\t9\nw2\tw3\t5\nw4\tw5\t1\nw6\tw7\t3\n")
    result = train(tensorboard, "--data", data, "--model", str(tmp_path / "m"), "--epochs", "2",
                   "--tensorboard", str(tmp_path / "logs"), "--similarity", str(tmp_path / "sim.tsv"))  # fmt: skip
    scalars = read(tensorboard, _READ, tmp_path / "logs")
    history = history_of(tmp_path / "m")
    assert set(scalars) == {
        "loss", "learning_rate", "speed/words_per_second", "speed/pairs_per_second", "scores/sim",
    }  # fmt: skip
    for tag in ("loss", "learning_rate"):
        assert [step for step, _ in scalars[tag]] == history["pairs"]
        np.testing.assert_allclose([value for _, value in scalars[tag]], history[tag], rtol=1e-5, atol=1e-6)
    assert all(value > 0 for _, value in scalars["speed/words_per_second"])
    [(step, score)] = scalars["scores/sim"]
    assert step == result["pairs"]
    assert score == pytest.approx(result["scores"]["sim"], abs=1e-4)
    [[tensors, metadata]] = read(tensorboard, _PROJECTOR, tmp_path / "logs" / "projector_config.pbtxt")
    rows = [list(map(float, line.split("\t"))) for line in (tmp_path / "logs" / tensors).read_text().splitlines()]
    assert np.array(rows).shape == (12, 6)
    assert len((tmp_path / "logs" / metadata).read_text().splitlines()) == 13


def test_a_resumed_training_goes_on_where_its_checkpoint_is(tensorboard: Path, data: str, tmp_path: Path) -> None:
    """Killed some points after its checkpoint: those are shown once, as the second process saw them."""
    dying = textwrap.dedent(f"""
        import os, signal
        from trainer.training import loop
        noted = loop.Loop._note
        def note(self):
            noted(self)
            points = len(self.progress.history)
            if points == 5:
                self._save()
                self._saver.wait()
            if points == 9:
                self.watch.__closure__[0].cell_contents._writer.flush()
                os.kill(os.getpid(), signal.{signal.SIGKILL.name})
        loop.Loop._note = note
    """)
    words = ["--data", data, "--model", str(tmp_path / "m"), "--epochs", "2", "--tensorboard", str(tmp_path / "logs")]
    import_first, rest = _TRAIN.split("from trainer.cli", 1)
    train(tensorboard, *words, status=-signal.SIGKILL, code=f"{import_first}{dying}\nfrom trainer.cli{rest}")
    before = read(tensorboard, _READ, tmp_path / "logs")["loss"]
    assert len(before) == 9
    assert train(tensorboard, *words)["resumed"]
    after = read(tensorboard, _READ, tmp_path / "logs")["loss"]
    history = history_of(tmp_path / "m")
    assert [step for step, _ in after] == history["pairs"]
    np.testing.assert_allclose([value for _, value in after], history["loss"], rtol=1e-5)
    assert len(list((tmp_path / "logs").glob("events.out.tfevents.*"))) == 2
