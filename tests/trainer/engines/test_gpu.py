"""On a CUDA device: the reference engine takes the steps that it takes on a CPU, the fused one those of its oracle."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support import triton_mode
from tests.trainer.engines import sgns_oracle

# isort: split
import torch

from trainer.config import TrainConfig
from trainer.engines.base import pending_loss
from trainer.engines.choose import make_engine
from trainer.engines.init import initial_tables
from trainer.engines.kernels.triton.launch import Launcher, alias_tensor, choose_shape
from trainer.engines.kernels.triton.skipgram import SEGMENT_PAIRS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not triton_mode.HAS_CUDA, reason="needs a CUDA device, and there is none"),
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


@pytest.mark.parametrize("dim", [1, 3, 100, 128, 300])
def test_a_fused_step_is_the_computation_by_hand(dim: int) -> None:
    """One program alone takes the oracle's steps in its order; bfloat16 rounds each product's factors to 8 bits."""
    batch = sgns_oracle.make_batch(dim, [1, 2, 10, 6, 40, 7] * 8, dim=dim)
    for arithmetic, tolerance in (("fp32", 1e-5), ("bf16", 3e-2)):
        shape = choose_shape(dim, 5, arithmetic=arithmetic)
        tables = [torch.from_numpy(table.copy()).cuda() for table in (batch.input_VD, batch.output_VD)]
        launcher = Launcher((tables[0], tables[1]), alias_tensor(batch.alias, torch.device("cuda")), shape, programs=1)
        loss_P = torch.zeros(1, dtype=torch.float64, device="cuda")
        ids = (torch.from_numpy(ids).cuda() for ids in (batch.center, batch.context))
        launcher.launch(*ids, loss_P, key=batch.key, rate_start=batch.rates[0], rate_end=batch.rates[1])
        loss, *expected = sgns_oracle.step(batch, shape, SEGMENT_PAIRS)
        assert float(loss_P) == pytest.approx(loss, rel=tolerance)
        for table, wanted, old in zip(tables, expected, (batch.input_VD, batch.output_VD), strict=True):
            wrong = np.abs(table.cpu().numpy() - wanted) - 2**-22 * np.abs(wanted)
            assert wrong.max() < tolerance * np.abs(wanted - old).max()


def test_no_update_is_lost_between_racing_programs() -> None:
    """Inputs of 1, outputs of 0 and a tiny rate: each pair adds as much to its word as it takes from its negatives."""
    batch = sgns_oracle.make_batch(1, [5] * 40_000, words=50, dim=1)
    tables = torch.ones(50, 1, device="cuda"), torch.zeros(50, 1, device="cuda")
    launcher = Launcher(tables, alias_tensor(batch.alias, torch.device("cuda")), choose_shape(1, 1))
    loss_P = torch.zeros(launcher.programs, dtype=torch.float64, device="cuda")
    ids = (torch.from_numpy(ids).cuda() for ids in (batch.center, batch.context))
    launcher.launch(*ids, loss_P, key=1, rate_start=2**-40, rate_end=2**-40)
    assert float(tables[1].double().sum()) == pytest.approx(0.0, abs=1e-3 * 2**-41 * batch.center.size)
    assert float(tables[1].double().abs().sum()) > 2**-41 * 1000
    assert float(loss_P.sum()) == pytest.approx(batch.center.size * 2 * np.log(2), rel=1e-6)


@pytest.mark.parametrize(("architecture", "rate"), [("skipgram", 0.05), ("cbow", 0.1)])
def test_fused_cuda_learns_as_the_fused_cpu_kernel_does(architecture: str, rate: float) -> None:
    pytest.importorskip("numba")
    words = np.random.Philox(key=3).random_raw(200_000)
    half = (np.arange(words.size) // 10) % 2
    ids = ((words >> np.uint64(40)) % np.uint64(500)).astype(np.int32) + 500 * half.astype(np.int32)
    center, context = np.repeat(ids, 2)[:-10], np.repeat(ids, 2)[10:]
    losses = {}
    for device in ("cpu", "cuda"):
        config = TrainConfig(
            "d", "m", dim=32, engine="fused", device=device, threads=1, architecture=architecture
        ).resolve(lambda: True, cores=1)
        engine = make_engine(config, initial_tables("word2vec", 1000, 32, seed=1), np.full(1000, 400))
        for key in range(5):
            engine.step(center, context, lr_start=rate, lr_end=rate, key=key)
        pending_loss(engine)
        losses[device] = engine.measure(center, context, key=9) / center.size
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=0.02)
    assert losses["cuda"] < 0.95 * 6 * np.log(2)
