"""Whole files appear at once; the pointer moves only from where its mover saw it."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from pathlib import Path

import pytest

from pipeline.storage import local, storage
from pipeline.storage.storage import PointerMovedError


def test_writing_replaces_whole_files(tmp_path: Path) -> None:
    path = str(tmp_path / "new" / "file.bin")
    storage.write_bytes(path, b"one")
    storage.write_bytes(path, memoryview(b"three"))
    assert storage.read_bytes(path) == b"three"
    assert storage.read_range(path, 1, 3) == b"hre"
    assert os.listdir(tmp_path / "new") == ["file.bin"]
    assert stat.S_IMODE(os.stat(path).st_mode) & 0o077 == 0o666 & ~local._umask() & 0o077


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "file.bin")
    storage.write_bytes(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        storage.write_bytes(path, b"new")
    assert os.listdir(tmp_path) == ["file.bin"]
    assert storage.read_bytes(path) == b"old"


def test_missing_files(tmp_path: Path) -> None:
    missing = str(tmp_path / "no" / "file")
    assert storage.read_pointer(missing) is None
    assert not storage.exists(missing)
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(missing)


def test_file_uris_and_paths_are_one(tmp_path: Path) -> None:
    storage.write_bytes(f"file://{tmp_path}/a%20b", b"x")
    assert storage.read_bytes(str(tmp_path / "a b")) == b"x"


@pytest.mark.parametrize(
    ("uri", "joined"),
    [("/a/b", "/a/b/c/d"), ("/a/b/", "/a/b/c/d"), ("s3://b", "s3://b/c/d"), ("/", "/c/d"), ("rel", "rel/c/d")],
)
def test_joining(uri: str, joined: str) -> None:
    assert storage.join(uri, "c", "d") == joined


def test_credentials_are_not_shown() -> None:
    assert storage.redact("sftp://me:secret@host/x@y") == "sftp://***@host/x@y"
    assert storage.redact("s3://bucket/a@b") == "s3://bucket/a@b"
    assert storage.redact("/local/a@b") == "/local/a@b"


def test_the_pointer_moves_only_from_where_it_was_seen(tmp_path: Path) -> None:
    pointer = str(tmp_path / "LATEST.json")
    storage.swap_pointer(pointer, None, b"one")
    storage.swap_pointer(pointer, b"one", b"two")
    storage.swap_pointer(pointer, b"one", b"two")  # a retry of a swap that went through
    with pytest.raises(PointerMovedError, match="another publisher"):
        storage.swap_pointer(pointer, b"one", b"three")
    with pytest.raises(PointerMovedError):
        storage.swap_pointer(pointer, None, b"three")
    assert storage.read_bytes(pointer) == b"two"


def test_of_many_movers_one_wins(tmp_path: Path) -> None:
    pointer, won, lost = str(tmp_path / "LATEST.json"), [], []
    start = threading.Barrier(8)

    def move(name: bytes) -> None:
        start.wait()
        try:
            storage.swap_pointer(pointer, None, name)
            won.append(name)
        except PointerMovedError:
            lost.append(name)

    threads = [threading.Thread(target=move, args=(b"%d" % number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    assert storage.read_bytes(pointer) == won[0]


def test_a_scheme_without_conditional_writes_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="scheme 'ftp'"):
        storage.swap_pointer("ftp://host/LATEST.json", None, b"x")


def test_a_folder_that_is_removed_while_a_file_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    makedirs, calls = os.makedirs, []

    def make(folder: str, exist_ok: bool = False) -> None:
        makedirs(folder, exist_ok=exist_ok)
        calls.append(folder)
        if len(calls) % 3:
            with contextlib.suppress(OSError):  # somebody tidies up
                os.rmdir(folder)

    monkeypatch.setattr(os, "makedirs", make)
    storage.write_bytes(f"{tmp_path}/new/file", b"data")
    storage.swap_pointer(f"{tmp_path}/other/LATEST.json", None, b"data")
    assert storage.read_bytes(f"{tmp_path}/new/file") == storage.read_bytes(f"{tmp_path}/other/LATEST.json")


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "𝔘" * 63):
        storage.write_bytes(f"{tmp_path}/{name}", b"data")
        assert (tmp_path / name).read_bytes() == b"data"
