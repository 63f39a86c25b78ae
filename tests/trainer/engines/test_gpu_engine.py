"""The fused CUDA engine as the trainer uses it: on a GPU where there is one, otherwise in Triton's interpreter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.paths import ROOT
from tests.support.triton_mode import DEVICE

# isort: split
import torch

from pipeline.dataset.schema import FormatError
from tests.support.datasets import group_of, make_dataset
from trainer.config import TrainConfig
from trainer.data.order import read_threads
from trainer.engines import gpu
from trainer.engines.base import Engine, RunsAhead, pending_loss
from trainer.engines.choose import make_engine
from trainer.engines.cpu import FusedEngine
from trainer.engines.gpu import SLOTS, CudaEngine, require_room
from trainer.engines.init import initial_tables
from trainer.engines.kernels.triton import launch
from trainer.errors import Stopped, UserError
from trainer.models.store import load_model
from trainer.models.tensors import copy_arrays, fill_arrays
from trainer.training import command
from trainer.training.loop import Loop

WORDS = 12
COUNTS_V = np.arange(40, 40 - WORDS, -1, dtype=np.int64)


@pytest.fixture(autouse=True)
def _device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "DEVICE", DEVICE.type)
    monkeypatch.setattr(command, "has_cuda", lambda: True)
    monkeypatch.setattr(launch, "default_programs", lambda device: 2)  # so many words can have


def make_config(**changes: Any) -> TrainConfig:
    plain = TrainConfig("d", "m", dim=5, negatives=3, threads=1, init="normal", device="cuda", engine="fused")
    return replace(plain, **changes).resolve(lambda: True, 1)


def build(config: TrainConfig) -> Engine:
    return make_engine(config, initial_tables(config.init, WORDS, config.dim, config.seed), COUNTS_V)


def some_pairs(sentences: int, seed: int = 1) -> Any:
    """Two halves of the vocabulary that never meet."""
    rng = np.random.default_rng(seed)
    return group_of([list(rng.integers(0, 6, 6) + 6 * (row % 2)) for row in range(sentences)])


def test_losses_come_late_and_none_is_lost() -> None:
    engine, still = build(make_config()), build(make_config())
    assert isinstance(engine, RunsAhead)
    groups = [some_pairs(2, seed) for seed in range(SLOTS + 2)]
    expected = [still.measure(*pairs, key=key) for key, pairs in enumerate(groups)]
    found = [
        engine.step(*pairs, lr_start=0.0, lr_end=0.0, key=key) for key, pairs in enumerate(groups)
    ]  # at rate 0 all losses are those of the first tables
    assert found[:SLOTS] == [0.0] * SLOTS
    assert found[SLOTS:] == pytest.approx(expected[:2])
    assert pending_loss(engine) == pytest.approx(sum(expected[2:]))
    assert pending_loss(engine) == 0.0
    assert pending_loss(build(make_config(device="cpu"))) == 0.0


def test_an_empty_step_is_none() -> None:
    engine = build(make_config())
    before = [np.array(table) for table in engine.tables()]
    none = np.zeros(0, np.int32)
    assert engine.step(none, none, lr_start=0.1, lr_end=0.1, key=1) == 0.0
    assert pending_loss(engine) == 0.0
    for found, expected in zip(engine.tables(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_measuring_trains_nothing() -> None:
    engine = build(make_config(init="word2vec"))
    before = [np.array(table) for table in engine.tables()]
    center, context = some_pairs(4)
    assert engine.measure(center, context, key=3) == pytest.approx(center.size * 4 * np.log(2), rel=1e-6)
    for found, expected in zip(engine.tables(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_state_comes_back() -> None:
    pairs = some_pairs(3)
    whole, other = build(make_config()), build(make_config())
    whole.step(*pairs, lr_start=0.1, lr_end=0.05, key=1)
    state = copy_arrays(whole.live())
    assert state.keys() == whole.live().keys() == {"input", "output"}
    whole.step(*pairs, lr_start=0.1, lr_end=0.05, key=2)
    assert not np.array_equal(state["input"], copy_arrays(whole.live())["input"]), "a state is a copy"
    fill_arrays(other.live(), state)
    other.step(*pairs, lr_start=0.1, lr_end=0.05, key=2)
    for found, expected in zip(other.tables(), whole.tables(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(FormatError, match=r"found the arrays \['input'\]"):
        fill_arrays(other.live(), {"input": state["input"]})


def test_live_tables_are_the_ones_that_are_trained() -> None:
    engine = build(make_config())
    engine.live()["input"].zero_()
    assert not engine.tables()[0].any()


@pytest.mark.parametrize(("architecture", "rate"), [("skipgram", 0.1), ("cbow", 0.25)])
def test_it_learns_as_the_cpu_kernel_does(architecture: str, rate: float) -> None:
    pairs = some_pairs(40)
    ends = {}
    for device in ("cpu", "cuda"):
        engine = build(make_config(device=device, init="word2vec", architecture=architecture))
        assert isinstance(engine, CudaEngine if device == "cuda" else FusedEngine)
        losses = []
        for epoch in range(2):
            loss = engine.step(*pairs, lr_start=rate, lr_end=rate, key=epoch)
            losses.append((loss + pending_loss(engine)) / pairs[0].size)
        ends[device] = losses
        assert losses[-1] < 0.8 * 4 * np.log(2), losses
        input_VD = engine.tables()[0]
        unit_VD = input_VD / np.linalg.norm(input_VD, axis=1, keepdims=True)
        cosines_VV = unit_VD @ unit_VD.T
        same = np.equal.outer(np.arange(WORDS) // 6, np.arange(WORDS) // 6)
        assert cosines_VV[same].min() > cosines_VV[~same].max()
    # Other draws of negatives: the mean over the epochs has a spread of about 1.5 % between keys.
    assert np.mean(ends["cuda"]) == pytest.approx(np.mean(ends["cpu"]), rel=0.05)


def test_a_vocabulary_beyond_the_devices_memory_is_refused_with_the_numbers() -> None:
    config = make_config(dim=300)
    needed = 2 * 10**8 * 300 * 4 + 8 * 10**8 + (256 << 20)
    with pytest.raises(UserError, match=f"found 1000 bytes free on it, expected {needed} for 100000000 words"):
        require_room(config, 10**8, 1000)
    require_room(config, 10**8, needed)


def test_memory_that_runs_out_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = build(make_config())
    assert isinstance(engine, CudaEngine)

    def fail(*_: object, **__: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine._launcher, "launch", fail)
    with pytest.raises(UserError, match=r"^--device cuda: found too little memory on it for --dim 5; lower it, "):
        engine.step(*some_pairs(1), lr_start=0.1, lr_end=0.1, key=1)


def test_more_threads_decode_for_a_gpu() -> None:
    assert [read_threads("cuda", threads) for threads in (1, 8, 64)] == [2, 8, 12]
    assert [read_threads("cpu", threads) for threads in (1, 2, 8, 64)] == [2, 2, 3, 12]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    passes = [[[some_pairs(2, seed) for seed in range(3)], [some_pairs(1, 9), some_pairs(2, 8)]]]
    return make_dataset(tmp_path_factory.mktemp("cuda") / "data", passes=passes)


def test_a_training_that_is_stopped_goes_on(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses that were still to be read when the signal came count as well, and no pair is trained twice."""
    config = TrainConfig(
        data, str(tmp_path / "whole"), dim=5, negatives=3, epochs=2, device="cuda", quiet=True, audit=True
    )
    whole = command.train(config)
    assert (whole["device"], whole["engine"]) == ("cuda", "fused")
    original, calls = Loop._step, 0

    def stopped(*args: Any, **kwargs: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        original(*args, **kwargs)

    monkeypatch.setattr(Loop, "_step", stopped)
    cut = replace(config, model=str(tmp_path / "cut"))
    with pytest.raises(Stopped):
        command.train(cut)
    resumed = command.train(cut)
    assert resumed["resumed"]
    assert resumed["audit"] == whole["audit"]
    assert resumed["epoch_losses"] == pytest.approx(whole["epoch_losses"], rel=1e-3)
    assert whole["epoch_losses"][0] == pytest.approx(4 * np.log(2), rel=0.02)
    for name in ("input_VD", "output_VD"):
        found, expected = (getattr(load_model(str(tmp_path / model)), name) for model in ("cut", "whole"))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of the interpreter
def test_nan_ends_a_training(data: str, tmp_path: Path) -> None:
    config = TrainConfig(data, str(tmp_path), dim=5, negatives=3, device="cuda", quiet=True, learning_rate=1e30)
    with pytest.raises(UserError, match="training: found NaN or Inf in the"):
        command.train(config)


WITHOUT = """
import sys
BLOCKED = {"apache_beam", "smart_open", "numba", "llvmlite", "tqdm", "regex"}
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
from trainer.cli import main
from trainer.engines import gpu
from trainer.training import command
gpu.DEVICE, command.has_cuda = sys.argv[1], lambda: True
status = main(["train", *sys.argv[2:]])
assert not BLOCKED & set(sys.modules)
sys.exit(status)
"""


def test_the_command_needs_neither_beam_nor_numba_nor_smart_open(data: str, tmp_path: Path) -> None:
    words = ["--data", data, "--model", str(tmp_path / "m"), "--dim", "5", "--device", "cuda", "--json", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT, DEVICE.type, *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["status"], result["engine"], result["device"]) == ("finished", "fused", "cuda")


def test_every_default_variant_compiles_for_hopper_without_spilling(tmp_path: Path) -> None:
    """From Triton to machine code of sm_90, where no GPU is needed."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.aot"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    variants = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(variants) >= 12
    for variant in variants:
        assert variant["spills"] == variant["stack_bytes"] == variant["local_bytes"] == 0, variant
        assert variant["registers"] * variant["warps"] * 32 <= 65536, variant
        assert variant["shared_bytes"] * 4 <= 200 << 10, variant


LAUNCHES = """
import numpy as np, torch
from unittest import mock
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from trainer.engines.kernels.triton import launch

class Hopper:
    get_current_target = staticmethod(lambda: GPUTarget("cuda", 90, 32))
    get_current_device = staticmethod(lambda: 0)
    get_current_stream = staticmethod(lambda device=None: 0)

class CompileOnly:
    def __getitem__(self, grid):
        def compile(*words, **named):
            named.update({name: False for name in named if name == "interpreted"})
            compiled.append(real.warmup(*words, grid=grid, **named))
        return compile

driver.set_active(Hopper())
tables, alias_V = (torch.zeros(99, 100), torch.zeros(99, 100)), torch.zeros(99, dtype=torch.int64)
for architecture, real in list(launch.KERNELS.items()):
    compiled = []
    launcher = launch.Launcher(tables, alias_V, launch.choose_shape(100, 5, architecture=architecture), programs=8)
    with mock.patch.dict(launch.KERNELS, {architecture: CompileOnly()}):
        for pairs, key in ((1, 2**64 - 1), (1_000_003, 5), (16, 0), (2**21, 1)):
            ids = torch.zeros(pairs, dtype=torch.int32)
            launcher.launch(ids, ids, torch.zeros(8, dtype=torch.float64), key=key, rate_start=0.1, rate_end=0.0)
    print(architecture, len(compiled), len(set(map(id, compiled))))
"""


def test_one_compilation_serves_every_batch(tmp_path: Path) -> None:
    """What a launch passes has one signature: neither sizes nor keys make the compiler stop a training."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LAUNCHES], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == ["skipgram 4 1", "cbow 4 1"], done.stderr
