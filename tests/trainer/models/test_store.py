"""The model folder: what was saved is what is loaded, and anything else is refused with one line."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.dataset.schema import FormatError, canonical_json, sha256_hex
from pipeline.dataset.vocabulary import make_vocabulary
from trainer.models.store import Model, finished_version, load_model, read_run, save_model

INFO: dict[str, Any] = {"config": {"dim": 3}, "lineage": {"dataset_id": "d", "passes": 2}, "metrics": {"loss": 1.5}}


def make_model(seed: int = 0, rows: int = 5) -> Model:
    tables = np.random.default_rng(seed).standard_normal((2, rows, 3)).astype(np.float32)
    return Model(tables[0], tables[1], make_vocabulary([f"w{i}" for i in range(rows)], range(rows, 0, -1)), INFO)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(str(tmp_path / "m"), make_model(), {"host": "here"})
    return tmp_path / "m"


def version_of(folder: Path) -> Path:
    """The folder of the only version."""
    (found,) = (folder / "versions").iterdir()
    return found


def rewrite(folder: Path, name: str, data: bytes) -> None:
    """Replace a file of the version and make model.json and the pointer agree with it."""
    version = version_of(folder)
    (version / name).write_bytes(data)
    info = json.loads((version / "model.json").read_bytes())
    if name != "model.json":
        info["files"][name] = {"bytes": len(data), "sha256": sha256_hex(data)}
        (version / "model.json").write_bytes(canonical_json(info))
    change_json(folder / "LATEST.json", model_sha256=sha256_hex((version / "model.json").read_bytes()))


def change_json(path: Path, **changes: object) -> None:
    path.write_bytes(canonical_json(json.loads(path.read_bytes()) | changes))


def refusal(folder: Path) -> str:
    with pytest.raises(FormatError) as caught:
        load_model(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_loaded_is_what_was_saved(saved: Path) -> None:
    model, loaded = make_model(), load_model(str(saved))
    np.testing.assert_array_equal(loaded.input_VD, model.input_VD)
    np.testing.assert_array_equal(loaded.output_VD, model.output_VD)
    assert loaded.vocabulary.tokens == model.vocabulary.tokens
    assert {name: loaded.info[name] for name in INFO} == INFO
    assert finished_version(str(saved)) == loaded.info
    assert read_run(str(saved), version_of(saved).name)["host"] == "here"


def test_equal_models_are_equal_bytes(saved: Path, tmp_path: Path) -> None:
    save_model(str(tmp_path / "again"), make_model(), {"host": "there"})
    folder = f"versions/{version_of(saved).name}"
    for name in ("LATEST.json", *(f"{folder}/{n}" for n in ("model.json", "model.safetensors", "vocab.parquet"))):
        assert (saved / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_tables_need_not_be_contiguous(tmp_path: Path) -> None:
    model = make_model()
    turned = Model(np.asfortranarray(model.input_VD), model.output_VD[:, ::-1], model.vocabulary, INFO)
    save_model(str(tmp_path), turned, {})
    np.testing.assert_array_equal(load_model(str(tmp_path)).input_VD, model.input_VD)
    np.testing.assert_array_equal(load_model(str(tmp_path)).output_VD, model.output_VD[:, ::-1])


def test_a_second_version_becomes_current_and_the_first_stays(saved: Path) -> None:
    first = version_of(saved).name
    save_model(str(saved), make_model(1), {})
    np.testing.assert_array_equal(load_model(str(saved)).input_VD, make_model(1).input_VD)
    np.testing.assert_array_equal(load_model(str(saved), first).input_VD, make_model(0).input_VD)


def test_the_pointer_is_written_last(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("trainer.models.store.storage.swap_pointer", fail)
        with pytest.raises(OSError, match="disk full"):
            save_model(str(saved), make_model(1), {})
    np.testing.assert_array_equal(load_model(str(saved)).input_VD, make_model(0).input_VD)


def test_no_model(tmp_path: Path) -> None:
    assert finished_version(str(tmp_path)) is None
    assert finished_version(str(tmp_path / "none")) is None
    assert "training has not finished" in refusal(tmp_path)
    assert "no such folder" in refusal(tmp_path / "none")
    (tmp_path / "file").touch()
    assert "found a file" in refusal(tmp_path / "file")


def test_a_dataset_is_no_model(saved: Path) -> None:
    (saved / "LATEST.json").write_bytes(canonical_json({"format_version": 1, "run": "r", "manifest_sha256": "0"}))
    assert "found a dataset's pointer" in refusal(saved)


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.parquet", "model.json"])
def test_every_flipped_byte_is_caught(saved: Path, name: str) -> None:
    path = version_of(saved) / name
    good = path.read_bytes()
    for position in range(0, len(good), 7):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        refusal(saved)
    path.write_bytes(good)
    load_model(str(saved))


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.parquet", "model.json"])
def test_missing_and_truncated_files(saved: Path, name: str) -> None:
    path = version_of(saved) / name
    path.write_bytes(path.read_bytes()[:-1])
    assert name in refusal(saved)
    path.unlink()
    assert f"{name}: found no file" in refusal(saved)


@pytest.mark.parametrize("name", ["LATEST.json", "versions/*/model.json"])
def test_another_format_version(saved: Path, name: str) -> None:
    change_json(next(saved.glob(name)), format_version=2)
    assert refusal(saved).endswith("found format_version 2, expected 1")


@pytest.mark.parametrize("version", ["../v1", "/etc", "a/b", "..", "", ".v", 1, None])
def test_a_pointer_that_leaves_the_folder(saved: Path, version: object) -> None:
    change_json(saved / "LATEST.json", version=version)
    assert "LATEST.json" in refusal(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"files": {"../../../etc/passwd": {"bytes": 1, "sha256": "0"}}},
        {"files": {"vocab.parquet": {"bytes": 1, "sha256": "0"}}},
        {"files": {"model.safetensors": {"bytes": "1", "sha256": "0"}, "vocab.parquet": {"bytes": 1, "sha256": "0"}}},
        {"files": []},
        {"config": None},
        {"version": "v2"},
    ],
)
def test_wrong_model_json(saved: Path, changes: dict[str, object]) -> None:
    info = json.loads((version_of(saved) / "model.json").read_bytes()) | changes
    rewrite(saved, "model.json", canonical_json(info))
    assert "model.json" in refusal(saved)


class Payload:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return exec, ("raise SystemExit('code ran')",)


def safetensors_file(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def tensor(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(Payload()),
        b"",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2**40) + b"{}",
        safetensors_file(b"[" * 100_000),
        safetensors_file({"input": tensor([5, 3], 0, 60), "output": tensor([5, 3], 0, 60)}, bytes(60)),
        safetensors_file({"input": tensor([5, 3], 0, 60), "output": tensor([5, 3], 60, 120)}, bytes(60)),
        safetensors_file({"input": tensor([2**62, 2**62], 0, 60)}, bytes(60)),
        safetensors_file({"input": tensor([5, 3], 0, 60)}, bytes(60)),
        safetensors_file({"input": tensor([5, 3], 0, 60), "output": tensor([5, 3], 60, 120, "I32")}, bytes(120)),
        safetensors_file({"input": tensor([5, 3], 0, 60), "output": tensor([5, 3], 60, 75, "F8_E4M3")}, bytes(75)),
        safetensors_file({"input": tensor([15], 0, 60), "output": tensor([15], 60, 120)}, bytes(120)),
        safetensors_file({"input": tensor([3, 5], 0, 60), "output": tensor([3, 5], 60, 120)}, bytes(120)),
        safetensors_file({"input": tensor([5, 3], 0, 60), "output": tensor([5, 2], 60, 100)}, bytes(100)),
        safetensors_file({"input": tensor([5, 3], 0, 60), "output": tensor([5, 3], 60, 120)}, b"\xff" * 120),
    ],
)
def test_a_wrong_or_malicious_table_file_is_refused(saved: Path, data: bytes) -> None:
    rewrite(saved, "model.safetensors", data)
    assert "model.safetensors: found" in refusal(saved)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_never_saved(tmp_path: Path, value: float) -> None:
    model = make_model()
    model.output_VD[3, 1] = value
    with pytest.raises(FormatError, match="found NaN or Inf in output"):
        save_model(str(tmp_path), model, {})
    assert not list(tmp_path.iterdir())


def test_tables_that_do_not_fit_the_vocabulary_are_not_saved(tmp_path: Path) -> None:
    model = make_model()
    with pytest.raises(FormatError, match="expected the vocabulary's 5"):
        save_model(str(tmp_path), Model(model.input_VD[1:], model.output_VD, model.vocabulary, INFO), {})
    with pytest.raises(FormatError, match="one shape"):
        save_model(str(tmp_path), Model(model.input_VD[:, 1:], model.output_VD, model.vocabulary, INFO), {})
