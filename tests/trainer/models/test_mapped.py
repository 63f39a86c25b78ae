"""A mapped model is the one that was saved, or an error of one line; from a store it is copied once."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from pipeline.dataset.schema import FormatError, canonical_json, sha256_hex
from pipeline.dataset.vocabulary import make_vocabulary
from pipeline.storage import storage
from trainer.models.mapped import map_model, map_tables
from trainer.models.store import Model, load_model, save_model


def make_model(seed: int, rows: int = 5) -> Model:
    tables = np.random.default_rng(seed).standard_normal((2, rows, 3)).astype(np.float32)
    vocabulary = make_vocabulary([f"w{i}" for i in range(rows)], range(rows, 0, -1))
    return Model(tables[0], tables[1], vocabulary, {"config": {"a": seed}, "lineage": {}, "metrics": {}})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(str(tmp_path / "m"), make_model(1), {})
    return tmp_path / "m"


def tables_of(folder: Path) -> Path:
    """The tables' file of the only version."""
    return next(folder.glob("versions/*/model.safetensors"))


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(FormatError) as caught:
        map_model(str(folder), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rewrite(folder: Path, data: bytes) -> None:
    """Replace the tables and make what names them agree."""
    tables_of(folder).write_bytes(data)
    path = tables_of(folder).with_name("model.json")
    info = json.loads(path.read_bytes())
    info["files"]["model.safetensors"] = {"bytes": len(data), "sha256": sha256_hex(data)}
    path.write_bytes(canonical_json(info))
    pointer = json.loads((folder / "LATEST.json").read_bytes())
    pointer["model_sha256"] = sha256_hex(path.read_bytes())
    (folder / "LATEST.json").write_bytes(canonical_json(pointer))


@pytest.mark.parametrize("rows", [5, 1, 0])
@pytest.mark.parametrize("verify", [True, False])
def test_equals_what_is_read(tmp_path: Path, rows: int, verify: bool) -> None:
    versions = [save_model(str(tmp_path), make_model(seed, rows), {}) for seed in (1, 2)]
    for version in (None, *versions):
        mapped, read = map_model(str(tmp_path), version, verify), load_model(str(tmp_path), version)
        assert mapped.info == read.info
        assert mapped.vocabulary.tokens == read.vocabulary.tokens
        for found, expected in ((mapped.input_VD, read.input_VD), (mapped.output_VD, read.output_VD)):
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == np.float32
            assert not rows or not found.flags.writeable
            assert not rows or not found.flags.owndata


def test_every_flipped_byte_is_caught(saved: Path) -> None:
    path = tables_of(saved)
    good = path.read_bytes()
    for position in range(0, len(good), 7):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        refusal(saved)
    path.write_bytes(good)
    map_model(str(saved))


@pytest.mark.parametrize("verify", [True, False])
def test_a_damaged_header_is_caught_without_the_checksum(saved: Path, verify: bool) -> None:
    path = tables_of(saved)
    good = path.read_bytes()
    length = 8 + int.from_bytes(good[:8], "little")
    for data, expected in (
        (good[:-1], "bytes, expected"),
        (good + b"x", "bytes, expected"),
        (b"\xff" * 8 + good[8:], "found no valid header"),
        (good[:8] + b"x" * (length - 8) + good[length:], "found no valid header"),
        (good[:8] + b"[]".ljust(length - 8) + good[length:], "found no valid header"),
        (good[:20] + b"\xff" + good[21:], "found no valid header"),
    ):
        path.write_bytes(data)
        assert (expected if not verify or "bytes" in expected else "found SHA-256") in refusal(saved, verify=verify)
    path.unlink()
    assert "found no file, expected one of a model's" in refusal(saved, verify=verify)


FIVE = np.ones((5, 3), np.float32)


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({"input": FIVE}, r"found the tensors ['input'], expected ['input', 'output']"),
        ({"input": FIVE, "output": FIVE.astype(np.float64)}, "found output float64 (5, 3), expected float32 [5, D]"),
        ({"input": FIVE.ravel(), "output": FIVE}, "found input float32 (15,), expected float32 [5, D]"),
        ({"input": FIVE, "output": FIVE[:4]}, "found 4 rows in output, expected the vocabulary's 5"),
        ({"input": FIVE, "output": FIVE[:, :2]}, "found tables of (5, 3) and (5, 2), expected one shape"),
        ({"input": FIVE[:4], "output": FIVE[:4]}, "found 4 rows in input, expected the vocabulary's 5"),
        ({"input": FIVE.ravel(), "output": FIVE.ravel()}, "found input float32 (15,), expected float32 [5, D]"),
        ({"input": FIVE[:, :0], "output": FIVE[:, :0]}, "found input float32 (5, 0)"),
    ],
)
def test_other_tensors(saved: Path, tensors: dict[str, np.ndarray], expected: str) -> None:
    rewrite(saved, save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}))
    assert expected in refusal(saved)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"data_offsets": [0, 61]}, "found input at 0 to 61, expected 60 bytes from 0 on"),
        ({"data_offsets": [100, 160]}, "found output at 60 to 120, expected 60 bytes from 0 on"),
        ({"data_offsets": [-8, 52]}, "found input at -8 to 52, expected"),
        ({"data_offsets": [0.0, 60.0]}, "input: data_offsets[0]: found float, expected int"),
        ({"data_offsets": None}, "input: data_offsets: found null, expected array"),
        ({"shape": [True, 3]}, "input: shape[0]: found bool, expected int"),
        ({"dtype": "F16"}, "found input at 0 to 60, expected 30 bytes from 0 on"),
    ],
)
@pytest.mark.parametrize("verify", [True, False])
def test_a_hostile_header(saved: Path, changes: dict[str, Any], expected: str, verify: bool) -> None:
    path = tables_of(saved)
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["input"] |= changes
    text = json.dumps(header).encode()
    rewrite(saved, len(text).to_bytes(8, "little") + text + data[end:])
    assert expected in refusal(saved, verify=verify)


def test_no_flipped_byte_of_the_header_leaves_the_file(saved: Path) -> None:
    path = tables_of(saved)
    good = path.read_bytes()
    refused = 0
    for position in range(8 + int.from_bytes(good[:8], "little")):
        for bit in (1, 4, 16, 128):
            path.write_bytes(good[:position] + bytes([good[position] ^ bit]) + good[position + 1 :])
            try:
                model = map_model(str(saved), verify=False)
            except FormatError:
                refused += 1
            else:
                assert model.input_VD.shape == model.output_VD.shape == (5, 3)
                assert model.input_VD.sum() + model.output_VD.sum() is not None  # every number can be read
    assert refused > 300


@pytest.mark.parametrize("text", ['{"input": [], "output": {}}', "[]", "1", '{"input": {}', "\xff", "[" * 99999])
def test_no_header(saved: Path, text: str) -> None:
    data = text.encode("latin-1")
    rewrite(saved, len(data).to_bytes(8, "little") + data + bytes(120))
    assert ": found " in refusal(saved)


def test_a_header_with_notes_of_its_own_is_fine(saved: Path) -> None:
    model = load_model(str(saved))
    rewrite(saved, save({"input": model.input_VD, "output": model.output_VD}, metadata={"note": "x"}))
    np.testing.assert_array_equal(map_model(str(saved)).output_VD, model.output_VD)


def test_no_model(tmp_path: Path, saved: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "none")
    (saved / "LATEST.json").unlink()
    assert "training has not finished" in refusal(saved)
    map_model(str(saved), tables_of(saved).parent.name)
    assert "model.json: found no file" in refusal(saved, version="v9")
    assert "expected" in refusal(saved, version="../v1")


def test_a_file_may_be_larger_than_memory(tmp_path: Path) -> None:
    size = 4 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    shape = [2, size // 16]
    header = {name: {"dtype": "F32", "shape": shape, "data_offsets": [i * size // 2, (i + 1) * size // 2]}
              for i, name in enumerate(("input", "output"))}  # fmt: skip
    text = json.dumps(header).encode().ljust(256)
    with open(tmp_path / "tables", "wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        total = stream.tell() + size
        stream.truncate(total)  # a hole: nothing is stored
    (tmp_path / "tables").chmod(0o400)
    assert map_tables(str(tmp_path / "tables"), {"bytes": total}, 2, verify=False)["output"][1, -1] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_checking_a_file_keeps_none_of_it_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.models.mapped._CHECKED_BYTES", 1 << 22)
    table = np.random.default_rng(1).standard_normal((5, 1_000_000), np.float32)  # 20 MB, of two tables 40
    save_model(str(tmp_path), Model(table, table, make_model(1).vocabulary, make_model(1).info), {})
    mapped = map_model(str(tmp_path))
    assert resident_bytes(tables_of(tmp_path)) < 10_000_000
    np.testing.assert_array_equal(mapped.output_VD, table)
    assert resident_bytes(tables_of(tmp_path)) > 10_000_000


def resident_bytes(path: Path) -> int:
    """How much of a mapped file is in this process's memory."""
    entries = Path("/proc/self/smaps").read_text().split(f"{path}\n")[1:]
    return sum(int(entry.split("Rss:")[1].split()[0]) * 1024 for entry in entries)


def test_a_mapping_outlives_its_file(saved: Path) -> None:
    mapped = map_model(str(saved))
    shutil.rmtree(saved)
    np.testing.assert_array_equal(mapped.input_VD, make_model(1).input_VD)


@pytest.fixture
def store(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let s3://bucket be the folder of the saved model, and note what is fetched."""
    fetched: list[str] = []

    def open_binary(uri: str) -> Any:
        fetched.append(uri.rpartition("/")[2])
        return open(uri.replace("s3://bucket", str(saved)), "rb")

    monkeypatch.setattr(storage, "open_binary", open_binary)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return fetched


def copies(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "temporary").rglob("*") if path.is_file()]


def test_from_a_store_it_is_copied_once(store: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        np.testing.assert_array_equal(map_model("s3://bucket").input_VD, make_model(1).input_VD)
    assert store.count("model.safetensors") == 1
    (copy,) = copies(tmp_path)
    assert copy.parent.name == f"pairstream-{os.getuid()}"
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert "model.safetensors: 0.0 MB are copied to" in told[0]
    assert str(copy) in told[0]
    copy.write_bytes(bytes(copy.stat().st_size))  # damaged: said, and copied anew the next time
    with pytest.raises(FormatError, match=r"s3://bucket/.*found SHA-256"):
        map_model("s3://bucket")
    map_model("s3://bucket")
    assert store.count("model.safetensors") == 2


def test_a_copy_that_fails_leaves_nothing(store: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Any, target: Any, _: int) -> None:
        target.write(source.read(9))
        raise OSError(28, "No space left on device", target.name)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", fail)
        with pytest.raises(OSError, match="No space left"):
            map_model("s3://bucket")
    assert copies(tmp_path) == []
    map_model("s3://bucket")


def test_a_folder_of_others_is_not_trusted(store: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "temporary" / f"pairstream-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(FormatError, match="others may write to"):
        map_model("s3://bucket")
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(FormatError, match="others may write to"):
        map_model("s3://bucket")
