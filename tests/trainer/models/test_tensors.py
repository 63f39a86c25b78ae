"""The block-wise file is the library's, byte for byte, and neither writing nor reading it makes a copy of an array."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from pipeline.dataset.schema import FormatError
from trainer.engines.init import empty_table
from trainer.models import tensors
from trainer.models.tensors import TensorFile, fill_arrays, map_arrays, write_arrays


def some_arrays() -> dict[str, Any]:
    """What engines have: padded rows, a scalar, an optimizer's state, counts; and rows of no numbers."""
    rng = np.random.default_rng(1)
    padded = empty_table(37, 100)
    padded[:] = rng.standard_normal(padded.shape)
    assert not padded.flags.c_contiguous
    return {
        "input": padded,
        "output": rng.standard_normal((37, 100)).astype(np.float32)[:, ::-1],
        "input.step": np.array(7.0, np.float32),
        "output.sum": np.asfortranarray(rng.standard_normal((5, 3))),
        "audit.counted": np.arange(8).reshape(2, 4),
        "b": np.array([1, 2, 3], np.uint8),
        "none": np.zeros((0, 4), np.float32),
        'é"': np.array(True),
    }


def written(arrays: dict[str, Any]) -> bytes:
    stream, digest = io.BytesIO(), hashlib.sha256()
    size = write_arrays(stream, arrays, digest)
    assert len(stream.getvalue()) == size
    assert digest.hexdigest() == hashlib.sha256(stream.getvalue()).hexdigest()
    return stream.getvalue()


@pytest.mark.parametrize("block", [1, 1000, 1 << 20])
@pytest.mark.parametrize("kind", ["arrays", "tensors"])
def test_the_bytes_are_the_librarys(block: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "BLOCK_BYTES", block)
    arrays = some_arrays()
    expected = safetensors.numpy.save({name: np.asarray(array, order="C") for name, array in arrays.items()})
    given = arrays if kind == "arrays" else {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    assert written(given) == expected
    assert written({}) == safetensors.numpy.save({})


@pytest.mark.parametrize("block", [1, 1000, 1 << 20])
@pytest.mark.parametrize("kind", ["arrays", "tensors"])
def test_what_was_written_comes_back_in_place(block: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "BLOCK_BYTES", block)
    arrays, live = some_arrays(), some_arrays()
    for array in live.values():
        array[...] = 0
    if kind == "tensors":
        live = {name: torch.from_numpy(array.copy()) for name, array in live.items()}
    fill_arrays(live, map_arrays(written(arrays), "f"))
    for name, array in arrays.items():
        np.testing.assert_array_equal(live[name], array)


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.pop("b"),
        lambda found: found.update(more=np.zeros(1)),
        lambda found: found.update(b=np.zeros(4, np.uint8)),
        lambda found: found.update(b=np.zeros(3, np.int8)),
    ],
)
def test_other_arrays_are_refused_and_change_nothing(change: Callable[[dict[str, Any]], object]) -> None:
    live, found = some_arrays(), some_arrays()
    before = {name: array.tobytes() for name, array in live.items()}
    for array in found.values():
        array[...] = 0
    change(found)
    with pytest.raises(FormatError, match="checkpoint: found "):
        fill_arrays(live, found)
    assert {name: array.tobytes() for name, array in live.items()} == before


def test_tensors_that_overlap_or_leave_a_gap_are_refused() -> None:
    data = written({"a": np.zeros(4, np.float32), "b": np.ones(4, np.float32)})
    for other in (b"[00,16]", b"[15,31]"):
        with pytest.raises(FormatError, match="f: found "):
            map_arrays(data.replace(b"[16,32]", other), "f")
    with pytest.raises(FormatError, match="f: found "):
        map_arrays(data + b"x", "f")


def test_no_array_is_copied_whole(tmp_path: Path) -> None:
    arrays = {"input": empty_table(40_000, 100), "output": empty_table(40_000, 100)}
    one_table = arrays["input"].nbytes
    tracemalloc.start()
    try:
        with contextlib.closing(TensorFile(f"{tmp_path}/m/file", arrays, hashlib.sha256())) as file:
            file.put(f"{tmp_path}/m/file")
        fill_arrays(arrays, map_arrays((tmp_path / "m/file").read_bytes(), "f"))
        assert tracemalloc.get_traced_memory()[1] < 2.1 * one_table, "the file that was read, and blocks"
        tracemalloc.reset_peak()
        held = tracemalloc.get_traced_memory()[0]
        with contextlib.closing(TensorFile(f"{tmp_path}/m/file", arrays, hashlib.sha256())):
            pass
        assert tracemalloc.get_traced_memory()[1] - held < one_table / 4
    finally:
        tracemalloc.stop()
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["file"]
