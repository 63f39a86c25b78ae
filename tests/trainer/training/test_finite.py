"""What is said of numbers that are not finite."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.trainer.training.test_loop import make_config
from trainer.checkpoints.write import Checkpoints
from trainer.data.position import Progress
from trainer.training.divergence import diverged

KEPT = "the last checkpoint was kept"


def test_a_checkpoint_is_spoken_of_where_there_is_one(tmp_path: Path) -> None:
    config = make_config("d", tmp_path / "m")
    assert KEPT not in diverged(config, "the loss")
    checkpoints = Checkpoints(config.model, {}, "d", 2)
    checkpoints.begin()
    assert KEPT not in diverged(config, "the loss")
    checkpoints.save(Progress.start(1, "r"), {"input": np.zeros(1)})
    assert diverged(config, "the loss").endswith(KEPT)
