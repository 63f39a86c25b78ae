"""Publishing: a name is one set of bytes, readers see whole versions only, and nothing is left of what failed."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.dataset.schema import FormatError, canonical_json, sha256_hex
from pipeline.dataset.vocabulary import make_vocabulary
from pipeline.storage import storage
from pipeline.storage.storage import PointerMovedError
from tests.trainer.models.test_store import make_model
from trainer.keyed_vectors.vectors import load
from trainer.models import publication, store
from trainer.models.lock import share
from trainer.models.mapped import map_model
from trainer.models.pointer import read_pointer
from trainer.models.store import Model, load_model, save_model, stage_model
from trainer.versions.rollback import roll_back

DEATHS = 20


def names(model: Path) -> set[str]:
    return {path.name for path in (model / "versions").iterdir()}


def kept(model: Path) -> tuple[str, ...]:
    pointer = read_pointer(str(model))
    return pointer.kept if pointer else ()


def stats(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def one_bit(table_VD: Any) -> Any:
    other = table_VD.copy()
    other.view(np.uint32)[2, 1] ^= 1
    return other


CHANGES: dict[str, Any] = {
    "the input table": lambda m: replace(m, input_VD=one_bit(m.input_VD)),
    "the output table": lambda m: replace(m, output_VD=one_bit(m.output_VD)),
    "a count": lambda m: replace(m, vocabulary=make_vocabulary(m.vocabulary.tokens, [9, 4, 3, 2, 1])),
    "a word": lambda m: replace(m, vocabulary=make_vocabulary(["x", *m.vocabulary.tokens[1:]], m.vocabulary.counts)),
    "config": lambda m: replace(m, info={**m.info, "config": {"dim": 4}}),
    "lineage": lambda m: replace(m, info={**m.info, "lineage": {"dataset_id": "e"}}),
    "metrics": lambda m: replace(m, info={**m.info, "metrics": {"loss": 1.25}}),
    "training": lambda m: replace(m, info={**m.info, "training": {"threads": 2}}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_models_that_differ_at_all_have_two_names(tmp_path: Path, change: str) -> None:
    first = save_model(str(tmp_path), make_model(), {"seconds": 1})
    assert save_model(str(tmp_path), make_model(), {"seconds": 2}) == first
    second = save_model(str(tmp_path), CHANGES[change](make_model()), {})
    assert second != first
    assert names(tmp_path) == {first, second}
    for name in (first, second):
        assert store.name_version(load_model(str(tmp_path), name).info) == name


def test_a_whole_version_of_the_same_content_is_used_as_it_is(tmp_path: Path) -> None:
    version = save_model(str(tmp_path), make_model(), {"host": "here"})
    save_model(str(tmp_path), make_model(1), {})
    before = stats(tmp_path / "versions")
    assert save_model(str(tmp_path), make_model(), {"host": "there"}) == version
    assert stage_model(str(tmp_path), make_model(1), {})[0] in names(tmp_path)
    assert stats(tmp_path / "versions") == before
    assert kept(tmp_path)[0] == version


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.parquet", "model.json", "run.json"])
@pytest.mark.parametrize("damage", ["gone", "torn"])
def test_a_damaged_version_of_the_same_content_is_made_whole(tmp_path: Path, name: str, damage: str) -> None:
    version = save_model(str(tmp_path), make_model(), {"host": "here"})
    path = tmp_path / "versions" / version / name
    whole = path.read_bytes()
    path.unlink() if damage == "gone" else path.write_bytes(whole[:-1])
    assert save_model(str(tmp_path), make_model(), {"host": "here"}) == version
    load_model(str(tmp_path))
    assert path.exists()
    if name != "run.json":
        assert path.read_bytes() == whole
    assert names(tmp_path) == {version}


def leave(model: Path) -> set[str]:
    """What killed publishers of this and of the first version leave; returns the names."""
    versions = model / "versions"
    for name, files in {
        ".0123456789abcdef.tmp": ("model.safetensors", ".vocab.parquet.x.tmp"),
        "00112233445566aa": ("model.safetensors", "vocab.parquet", "run.json", ".x.tmp"),
        "00112233445566bb": ("unpublished", "model.safetensors", "vocab.parquet", "run.json", "model.json"),
    }.items():
        (versions / name).mkdir()
        for file in files:
            (versions / name / file).write_bytes(b"half")
    return {path.name for path in versions.iterdir()}


def test_what_killed_publishers_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    first = save_model(str(tmp_path), make_model(), {})
    (tmp_path / "versions/mine").mkdir()
    (tmp_path / "versions/mine/notes.txt").write_text("not a version")
    (tmp_path / ".LATEST.json.abc.tmp").write_bytes(b"half")
    (tmp_path / "versions/staged").mkdir()
    (tmp_path / "versions/staged/model.json").write_bytes(b"written by retraining, and not live yet")
    leave(tmp_path)
    second = save_model(str(tmp_path), make_model(1), {})
    assert names(tmp_path) == {first, second, "mine", "staged"}
    assert not (tmp_path / ".LATEST.json.abc.tmp").exists()


def test_what_another_publisher_is_writing_stays(tmp_path: Path) -> None:
    save_model(str(tmp_path), make_model(), {})
    with share(str(tmp_path)):  # as the other one holds it
        left = leave(tmp_path)
        second = save_model(str(tmp_path), make_model(1), {})
        assert names(tmp_path) == left | {second}
    save_model(str(tmp_path), make_model(1), {})
    assert names(tmp_path) == set(kept(tmp_path))


def test_no_more_versions_stay_than_are_kept(tmp_path: Path) -> None:
    made = [save_model(str(tmp_path), make_model(seed), {}, keep=3) for seed in range(6)]
    assert kept(tmp_path) == (made[5], made[4], made[3])
    assert names(tmp_path) == set(made[3:])
    roll_back(str(tmp_path))
    made.append(save_model(str(tmp_path), make_model(7), {}, keep=2))
    assert names(tmp_path) == {made[6], made[4], made[5]}, "what was rolled back counts by itself"


def test_versions_that_could_not_be_removed_go_with_the_next_publication(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [save_model(str(tmp_path), make_model(seed), {}) for seed in range(2)]

    def fail(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "x")

    with monkeypatch.context() as patch:
        patch.setattr(publication, "remove_version", fail)
        made.append(save_model(str(tmp_path), make_model(2), {}, keep=2))
    assert "old versions were not removed" in capsys.readouterr().err
    assert (kept(tmp_path), names(tmp_path)) == ((made[2], made[1]), set(made))
    save_model(str(tmp_path), make_model(2), {}, keep=2)
    assert names(tmp_path) == {made[2], made[1]}
    assert save_model(str(tmp_path), make_model(0), {}, keep=2) == made[0], "one that was removed may come back"
    assert names(tmp_path) == {made[0], made[2]}


@pytest.mark.parametrize("read", [load_model, map_model, load])
def test_a_reader_whose_version_is_removed_takes_the_live_one(
    tmp_path: Path, read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More versions than are kept are published between its reading of the pointer and of the files."""
    save_model(str(tmp_path), make_model(), {})
    read_info, done = store.read_info, list[str]()

    def late(*arguments: Any) -> Any:
        while len(done) < 3:
            done.append("")
            done[-1] = save_model(str(tmp_path), make_model(len(done)), {}, keep=2)
        return read_info(*arguments)

    monkeypatch.setattr(store, "read_info", late)
    assert read(str(tmp_path)).info["version"] == done[-1]


@pytest.mark.parametrize("function", ["fsync", "replace", "rename", "write"])
def test_any_write_may_fail(tmp_path: Path, function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk: the error names a file, the old version stays live, and nothing is left of the new one."""
    first = save_model(str(tmp_path), make_model(), {})
    owner, name = (os, function) if function != "write" else (store.TensorFile, "__init__")
    original, failed = getattr(owner, name), list[tuple[int | None, bool]]()
    for number in range(1, 20):
        count = 0

        def failing(*arguments: Any, number: int = number) -> Any:
            nonlocal count
            count += 1
            if count == number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "file")
            return original(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, failing)
            try:
                second = save_model(str(tmp_path), make_model(1), {})
                break
            except OSError as error:
                failed.append((error.errno, bool(error.filename)))
        assert load_model(str(tmp_path)).info["version"] == first
        assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]
        assert names(tmp_path) == {first}
    assert set(failed) == {(errno.ENOSPC, True)}
    assert names(tmp_path) == {first, second}


def test_two_publishers_at_once_leave_one_pointer_and_whole_versions(tmp_path: Path) -> None:
    save_model(str(tmp_path), make_model(), {})
    failed = []

    def publish(seed: int) -> None:
        for one in range(4):
            try:
                save_model(str(tmp_path), make_model(seed + one), {})
            except PointerMovedError:
                failed.append(seed + one)

    threads = [threading.Thread(target=publish, args=(seed,)) for seed in (1, 1, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    save_model(str(tmp_path), make_model(99), {})
    for version in names(tmp_path):
        load_model(str(tmp_path), version)
    assert names(tmp_path) == set(kept(tmp_path)), "those whose pointer was moved first are gone too"


def die_in(function: str, call: int) -> None:
    """Let this process die in a call of a function of `os`: before it, or after half of what it was to do."""
    original, count = getattr(os, function), 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == call:
            if function == "fsync":
                os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    setattr(os, function, counted)


def test_twenty_deaths_leave_the_live_version_whole(tmp_path: Path) -> None:
    chance, died = random.Random(11), 0
    save_model(str(tmp_path), make_model(), {}, keep=2)
    for seed in range(1, 5 * DEATHS):
        function, call = chance.choice(["fsync", "replace", "rename", "unlink", "open", "rmdir"]), chance.randint(1, 6)
        child = os.fork()
        if child == 0:
            try:
                die_in(function, call)
                save_model(str(tmp_path), make_model(seed, rows=50), {}, keep=2)
            finally:
                os._exit(0)
        died += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        load_model(str(tmp_path))
        if died == DEATHS:
            break
    assert died == DEATHS
    save_model(str(tmp_path), make_model(999), {}, keep=2)
    assert names(tmp_path) == set(kept(tmp_path))
    for version in kept(tmp_path):
        load_model(str(tmp_path), version)
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith((".tmp", "unpublished"))]


def as_before(folder: Path, version: str, model: Model) -> None:
    """Rewrite a folder's only version as version 0.1.0 wrote it: a name of its own, a pointer without lists."""
    (old,) = (folder / "versions").iterdir()
    new = old.rename(folder / "versions" / version)
    info = json.loads((new / "model.json").read_bytes()) | {"version": version}
    info.pop("training", None)
    (new / "model.json").write_bytes(canonical_json(info))
    pointer = {"format_version": 1, "model_sha256": sha256_hex(canonical_json(info)), "version": version}
    (folder / "LATEST.json").write_bytes(canonical_json(pointer))
    (folder / "versions.lock").unlink()


def test_a_model_of_the_first_release_is_read_and_gone_back_to(tmp_path: Path) -> None:
    save_model(str(tmp_path), make_model(), {"host": "here"})
    as_before(tmp_path, "0123456789abcdef", make_model())
    assert load(str(tmp_path)).info["version"] == "0123456789abcdef"
    new = save_model(str(tmp_path), make_model(1), {}, keep=2)
    assert kept(tmp_path) == (new, "0123456789abcdef")
    assert roll_back(str(tmp_path))["version"] == "0123456789abcdef"
    np.testing.assert_array_equal(load_model(str(tmp_path)).input_VD, make_model().input_VD)


def test_a_damaged_pointer_is_reported_before_anything_is_written(tmp_path: Path) -> None:
    save_model(str(tmp_path), make_model(), {})
    (tmp_path / "LATEST.json").write_bytes(b"{")
    before = stats(tmp_path)
    with pytest.raises(FormatError, match=r"LATEST\.json: found no valid JSON"):
        save_model(str(tmp_path), make_model(1), {})
    assert stats(tmp_path) == before


def test_a_file_for_a_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in ("file", "file/m"):
        with pytest.raises(FormatError, match="found a file, expected a model's folder"):
            save_model(f"{tmp_path}/{path}", make_model(), {})
    assert storage.read_bytes(f"{tmp_path}/file") == b"x"
