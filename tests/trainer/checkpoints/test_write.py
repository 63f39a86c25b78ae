"""Checkpoints: whole or ignored, the newest ones kept, nothing that runs code."""

from __future__ import annotations

import builtins
import copy
import errno
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from pipeline.dataset.schema import FormatError
from trainer.checkpoints.write import Checkpoints, find_unfinished, load_checkpoint, remove_checkpoints
from trainer.data.position import Progress

CONFIG = {"dim": 2, "learning_rate": 0.025}
PROGRESS = Progress(
    epoch=1,
    legs=[[1, 1, 2, 0], [2, 1, 3, 64]],
    pairs=40,
    losses=[1.5, 0.1 + 0.2],
    epoch_pairs=[30, 10],
    first_loss=4.2,
    seconds=1.25,
)


def arrays(value: float = 1.0) -> dict[str, np.ndarray]:
    return {"input": np.full((3, 2), value, np.float32), "output.step": np.array(7.0, np.float32)}


def write(folder: Path, *pairs: int, keep: int = 2) -> Checkpoints:
    checkpoints = Checkpoints(str(folder), CONFIG, "data", keep)
    for number in pairs:
        checkpoints.save(replace(PROGRESS, pairs=number), arrays(number))
    return checkpoints


def load(folder: Path) -> tuple[Progress | None, dict[str, np.ndarray], list[str]]:
    unfinished = find_unfinished(str(folder))
    assert unfinished is not None
    found: dict[str, np.ndarray] = {}
    warnings: list[str] = []
    progress = load_checkpoint(str(folder), unfinished, lambda _, arrays: found.update(arrays), warnings.append)
    return progress, found, warnings


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir() if path.is_dir())


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    write(tmp_path, 40)
    progress, found, warnings = load(tmp_path)
    assert progress == PROGRESS
    assert {name: (array.dtype, array.shape, array.tobytes()) for name, array in found.items()} == {
        name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays(40).items()
    }
    assert warnings == []


def test_the_pointer_says_whose_they_are(tmp_path: Path) -> None:
    write(tmp_path, 40)
    unfinished = find_unfinished(str(tmp_path))
    assert unfinished is not None
    assert (unfinished.config, unfinished.dataset_id) == (CONFIG, "data")


def test_the_newest_are_kept(tmp_path: Path) -> None:
    write(tmp_path, 10, 20, 30, 40)
    assert names(tmp_path) == ["000000000000030", "000000000000040"]
    progress, _, _ = load(tmp_path)
    assert progress is not None
    assert progress.pairs == 40


def test_those_of_an_earlier_process_count(tmp_path: Path) -> None:
    write(tmp_path, 10, 20)
    later = Checkpoints(str(tmp_path), CONFIG, "data", keep=2)
    unfinished = find_unfinished(str(tmp_path))
    assert unfinished is not None
    later.adopt(unfinished)
    later.save(replace(PROGRESS, pairs=30), arrays())
    assert names(tmp_path) == ["000000000000020", "000000000000030"]


def test_the_same_position_is_written_once(tmp_path: Path) -> None:
    checkpoints = write(tmp_path, 10)
    checkpoints.save(replace(PROGRESS, pairs=10), arrays(99))
    _, found, _ = load(tmp_path)
    assert found["input"][0, 0] == 10


def test_none_at_all(tmp_path: Path) -> None:
    assert find_unfinished(str(tmp_path)) is None
    write(tmp_path).begin()
    assert find_unfinished(str(tmp_path)) is None


def evil_header(size: int) -> bytes:
    return struct.pack("<Q", size) + b'{"input":{"dtype":"F32","shape":[99999999,9999],"data_offsets":[0,4]}}' + b"abcd"


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes | None]]] = {
    "arrays cut": ("state.safetensors", lambda data: data[:-1]),
    "arrays empty": ("state.safetensors", lambda _: b""),
    "a bit flipped": ("state.safetensors", lambda data: data[:-3] + bytes([data[-3] ^ 4]) + data[-2:]),
    "arrays gone": ("state.safetensors", lambda _: None),
    "a pickle": ("state.safetensors", lambda _: pickle.dumps({"input": [1]})),
    "state cut": ("state.json", lambda data: data[:-5]),
    "state gone": ("state.json", lambda _: None),
    "state changed": ("state.json", lambda data: data.replace(b'"pairs": 20', b'"pairs": 21')),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_torn_one_is_passed_over(tmp_path: Path, damage: str) -> None:
    write(tmp_path, 10, 20)
    name, change = DAMAGE[damage]
    path = tmp_path / "checkpoints" / "000000000000020" / name
    content = change(path.read_bytes())
    path.unlink() if content is None else path.write_bytes(content)
    progress, found, warnings = load(tmp_path)
    assert progress is not None
    assert progress.pairs == 10
    assert found["input"][0, 0] == 10
    assert len(warnings) == 1
    assert str(path) in warnings[0]


@pytest.mark.parametrize("content", [evil_header(70), evil_header(2**63), pickle.dumps([1]), b"", b"{}"], ids=range(5))
def test_arrays_that_are_no_safetensors_are_refused_even_with_a_right_checksum(tmp_path: Path, content: bytes) -> None:
    import hashlib

    import xxhash

    write(tmp_path, 10)
    folder, pointer = tmp_path / "checkpoints" / "000000000000010", tmp_path / "checkpoints" / "LATEST.json"
    (folder / "state.safetensors").write_bytes(content)
    state = json.loads((folder / "state.json").read_bytes())
    state["arrays"] = {"bytes": len(content), "xxh3": xxhash.xxh3_128_hexdigest(content)}
    (folder / "state.json").write_text(json.dumps(state))
    fields = json.loads(pointer.read_bytes())
    fields["checkpoints"][0]["sha256"] = hashlib.sha256((folder / "state.json").read_bytes()).hexdigest()
    pointer.write_text(json.dumps(fields))
    progress, _, warnings = load(tmp_path)
    assert progress is None
    assert len(warnings) == 1
    assert "state.safetensors: found" in warnings[0]


def test_one_that_the_engine_refuses_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, 10)

    def refuse(_: Progress, __: dict[str, np.ndarray]) -> None:
        raise FormatError("found other shapes")

    unfinished = find_unfinished(str(tmp_path))
    assert unfinished is not None
    warnings: list[str] = []
    assert load_checkpoint(str(tmp_path), unfinished, refuse, warnings.append) is None
    assert "other shapes" in warnings[0]


def test_a_folder_that_was_never_listed_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, 10)
    other = write(tmp_path / "other", 20)
    assert other is not None
    (tmp_path / "other" / "checkpoints" / "000000000000020").rename(tmp_path / "checkpoints" / "000000000000020")
    progress, _, _ = load(tmp_path)
    assert progress is not None
    assert progress.pairs == 10


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "found no valid JSON"),
        (b"[]", "found a JSON list"),
        (b'{"format_version": 2}', "found format_version 2"),
        (b'{"format_version": 1}', "missing required field"),
        (
            b"""{"format_version": 1, "version": "v", "config": {}, "dataset_id": "d",
            "checkpoints": [{"name": "../x", "sha256": ""}]}""",
            "'../x'",
        ),
    ],
)
def test_a_damaged_pointer_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    write(tmp_path, 10)
    (tmp_path / "checkpoints" / "LATEST.json").write_bytes(content)
    with pytest.raises(FormatError, match=message):
        find_unfinished(str(tmp_path))
    remove_checkpoints(str(tmp_path))
    assert find_unfinished(str(tmp_path)) is None


def test_removing_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path, 10, 20)
    remove_checkpoints(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    remove_checkpoints(str(tmp_path))


def test_arrays_may_change_once_they_are_in_a_file(tmp_path: Path) -> None:
    checkpoints, live, progress = write(tmp_path), arrays(1.0), replace(copy.deepcopy(PROGRESS), pairs=10)
    finish = checkpoints.write(progress, live)
    assert finish is not None
    live["input"][:] = 9
    progress.losses[0] = 9
    finish()
    found_progress, found, _ = load(tmp_path)
    assert found_progress == replace(PROGRESS, pairs=10)
    np.testing.assert_array_equal(found["input"], arrays(1.0)["input"])


@pytest.mark.parametrize("function", ["open", "fsync", "replace", "mkdir"])
def test_a_checkpoint_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk, at any point; the one before stays, and the next one succeeds."""
    checkpoints = write(tmp_path, 10)
    owner = builtins if function == "open" else os
    original, failed = getattr(owner, function), 0
    for number in range(1, 20):
        count = 0

        def failing(*arguments: Any, number: int = number, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), arguments[0])
            return original(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(owner, function, failing)
            try:
                checkpoints.save(replace(PROGRESS, pairs=20), arrays(2.0))
                break
            except OSError:
                failed += 1
        assert names(tmp_path) == ["000000000000010"]
        assert not list(tmp_path.rglob("*.tmp"))
        progress, _, warnings = load(tmp_path)
        assert (progress, warnings) == (replace(PROGRESS, pairs=10), [])
    assert failed
    assert names(tmp_path) == ["000000000000010", "000000000000020"]


def test_a_pointer_of_the_first_release_is_read(tmp_path: Path) -> None:
    write(tmp_path, 40)
    path = tmp_path / "checkpoints/LATEST.json"
    fields = {**json.loads(path.read_bytes()), "version": "v1"}
    for name in ("followed", "training", "replaces"):
        fields.pop(name, None)
    path.write_text(json.dumps(fields))
    progress, _, warnings = load(tmp_path)
    assert (progress, warnings) == (PROGRESS, [])
    unfinished = find_unfinished(str(tmp_path))
    assert unfinished is not None
    assert (unfinished.followed, unfinished.training, unfinished.replaces) == ((), (), None)
