"""Disks that are full, fail or are not ours: the run fails as promised, and the next one succeeds."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.dataset.reader import open_dataset
from pipeline.storage import local, storage
from tests.support.commands import TEXT, expect_failure, expect_line, in_child, in_process, make_old, snapshot, words_of

FULL = "No space left on device"


def expect_success(folder: Path, *flags: str) -> None:
    """Run over the same text, and beside it in another place: the bytes are equal."""
    assert main(words_of(folder, *flags)) == 0
    assert main(["--input", f"{folder}/in/*", "--output", f"{folder}/calm", *words_of(folder, *flags)[4:]]) == 0
    assert open_dataset(f"{folder}/out").dataset_id == open_dataset(f"{folder}/calm").dataset_id
    assert not [
        path for path in (folder / "out").rglob("*") if path.name in ("lease.json", "tmp") or ".tmp" in path.name
    ]


def kind_of(line: str) -> str:
    """What was being written when it failed: the file's name without what differs from run to run."""
    return re.sub(r"ids-.*|part-.*", lambda found: found[0][:4], line.partition(": ")[0].rpartition("/")[2])


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A published dataset in ``out``, new text in ``in``."""
    make_old(tmp_path)
    (tmp_path / "in" / "b.txt").write_text(TEXT * 9 + "".join(f"word{i} and{i}\n" for i in range(3000)))
    return tmp_path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder whose ``out`` is a disk of 4 MiB."""
    (tmp_path / "out").mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount a small disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", f"{tmp_path}/out"]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    yield tmp_path
    # Lazily: the tracebacks of runs that failed in this process may hold a file open until they are collected.
    subprocess.run(["umount", "--lazy", f"{tmp_path}/out"], check=True)


def test_a_disk_with_less_and_more_room(small_disk: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ballast, kinds, free_kib = small_disk / "out" / "ballast", list[str](), 0
    while True:
        ballast.write_bytes(b"")
        room = os.statvfs(small_disk / "out")
        ballast.write_bytes(bytes(room.f_bavail * room.f_frsize - (free_kib << 10)))
        before = snapshot(work / "out")
        status, error = in_process(words_of(work), capsys)()
        if status == 0:
            break
        kinds.append(kind_of(expect_line(status, error, FULL)))
        assert snapshot(work / "out") == before
        free_kib += 16 + free_kib // 8
    assert kinds[0] == "lease.json"
    assert {"ids-", "part"} <= set(kinds), kinds
    ballast.unlink()
    expect_success(work)


def fail_write(monkeypatch: pytest.MonkeyPatch, number: int | None) -> list[str]:
    """Have one write fail, counted from 0; return the list that will hold the names of all files written."""
    written, naming = list[str](), storage.naming

    @contextlib.contextmanager
    def failing(path: str) -> Iterator[None]:
        with naming(path):
            written.append(path)
            if len(written) - 1 == number:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            yield

    for module in (storage, local):  # the one hands the name on, the other uses it
        monkeypatch.setattr(module, "naming", failing)
    return written


def test_every_write_may_fail(work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--threads", "1", "--max-dead-letter-fraction", "0.5", "--phrases", "1", "--phrase-threshold", "0"]
    old = shutil.copytree(work / "out", work / "old out")
    (work / "in" / "a.txt").write_bytes(b"bad \xff line\n")
    with monkeypatch.context() as patch:
        names = fail_write(patch, None)
        assert main(words_of(work, *flags)) == 0
    kinds = [kind_of(f"{name}: ") for name in names]
    assert set(kinds) == {
        "lease.json", "listing.parquet", "ids-", "round-01.parquet", Path(tempfile.gettempdir()).name, "vocab.parquet",
        "plan", "part", "inputs.parquet", "shards.parquet", "run.json", "manifest.json", "LATEST.json",
    }  # fmt: skip
    for kind in dict.fromkeys(kinds):
        for number in {kinds.index(kind), len(kinds) - 1 - kinds[::-1].index(kind)}:
            shutil.rmtree(work / "out")
            shutil.copytree(old, work / "out")
            before = snapshot(work / "out")
            with monkeypatch.context() as patch:
                fail_write(patch, number)
                status, error = in_process(words_of(work, *flags, "--run-id", "new"), capsys)()
            assert kind_of(expect_line(status, error, "Input/output error")) == kind
            after = snapshot(work / "out")
            # What says why lines were set aside stays, and a run that is complete, for all it lacks is to be published.
            complete = kind == "LATEST.json"
            kept = {name for name in after if name.startswith("runs/new")} if complete else dead_letters(after)
            assert {name: after[name] for name in after.keys() - kept} == before
            if complete:
                assert main(["publish", "--output", f"{work}/out", "--run", "new"]) == 0
                assert main(["verify", "--output", f"{work}/out"]) == 0
    expect_success(work, *flags)


def dead_letters(files: Iterable[str]) -> set[str]:
    """The dead letters of the run "new", and the folders around them."""
    around = {"runs/new", "runs/new/dead-letters"}
    return {name for name in files if name in around or name.startswith("runs/new/dead-letters/part-")}


def test_files_may_not_grow(work: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))"
    line = expect_failure(work, in_child(words_of(work), before=limit), "File too large")
    assert kind_of(line) == "ids-"
    expect_success(work)


def test_no_room_for_temporaries_elsewhere(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/proc")  # where nobody may write
    monkeypatch.chdir("/proc")
    expect_failure(work, in_child(words_of(work), before=NO_TEMPORARIES), "No usable temporary directory found")


NO_TEMPORARIES = "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/proc']"


@pytest.fixture(scope="module")
def obedient() -> list[str]:
    """Words before a command under which file permissions bind root as well."""
    if os.geteuid() != 0:
        return []
    words = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if shutil.which("setpriv") is None or subprocess.run([*words, "true"], check=False).returncode:
        pytest.skip("permissions do not bind root, and there is no setpriv to change that")
    return words


def test_a_folder_that_may_not_be_written(work: Path, obedient: list[str]) -> None:
    os.chmod(work / "out" / "runs", 0o555)
    refused = "Permission denied"
    expect_failure(work, in_child(words_of(work), obedient), f"{work}/out/runs/", refused)
    os.chmod(work / "out" / "runs", 0o755)
    expect_success(work)


@pytest.mark.parametrize("place", ["in/b.txt", "in", "in/sub"])
def test_what_may_not_be_read(place: str, work: Path, obedient: list[str]) -> None:
    (work / "in" / "sub").mkdir()
    (work / "in" / "sub" / "c.txt").write_text(TEXT)
    words = ["--input", f"{work}/in/**/*.txt", *words_of(work)[2:]]
    os.chmod(work / place, 0)
    try:
        expect_failure(
            work, in_child(words, obedient), f"{work}/{place}: found Permission denied, expected a readable "
        )
    finally:
        os.chmod(work / place, 0o755)


def test_a_published_dataset_that_may_not_be_read(work: Path, obedient: list[str]) -> None:
    os.chmod(work / "out" / "LATEST.json", 0)
    before = snapshot(work / "out")
    expect_line(*in_child(words_of(work), obedient)(), f"{work}/out/LATEST.json: Permission denied")
    assert snapshot(work / "out") == before


@pytest.mark.parametrize("place", ["out", "out/runs", "out/LATEST.json", "out/runs/new"])
def test_a_file_for_a_folder_and_the_other_way_round(
    place: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(work / "out")
    path = work / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir() if place.endswith(".json") else path.write_text("mine")
    found = "Is a directory" if place.endswith(".json") else "(Not a directory|File exists)"
    before = snapshot(work)
    run = in_process(words_of(work, "--run-id", "new"), capsys)
    line = expect_line(*run())
    assert re.fullmatch(rf"{path}[\w./]*: {found}", line)
    assert snapshot(work) == before
