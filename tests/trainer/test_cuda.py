"""The reference engine on a CUDA device takes the steps that it takes on a CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer.config import TrainConfig
from trainer.engines import make_engine
from trainer.tables import initial_tables

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none"),
]


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "adam"])
def test_steps_agree_with_the_cpus(optimizer: str) -> None:
    words = np.random.Philox(key=3).random_raw(4000)
    center, context = ((words[half::2] >> np.uint64(40)).astype(np.int64) % 50 for half in (0, 1))
    tables = {}
    for device in ("cpu", "cuda"):
        config = TrainConfig("d", "m", dim=16, engine="reference", device=device, optimizer=optimizer, batch_size=128)
        engine = make_engine(
            config.resolve(lambda: True, cores=1), initial_tables("normal", 50, 16, seed=1), np.arange(50, 0, -1)
        )
        for _ in range(2):
            engine.step(center.astype(np.int32), context.astype(np.int32), lr_start=0.01, lr_end=0.01, key=7)
        tables[device] = engine.tables()
    for on_cpu, on_cuda in zip(tables["cpu"], tables["cuda"], strict=True):
        np.testing.assert_allclose(on_cuda, on_cpu, rtol=1e-3, atol=1e-4)
