"""The commands verify and publish."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli import main
from pipeline.dataset.reader import open_dataset
from pipeline.publishing import commands
from pipeline.storage import storage
from pipeline.storage.storage import PointerMovedError
from tests.support.datasets import group_of, make_dataset

GROUPS = [group_of([[0, 1, 2, 3], [3, 2, 2, 1]]), group_of([[1, 0, 2]])]


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """Two runs; the second is the published one."""
    make_dataset(tmp_path / "data", passes=[[GROUPS, GROUPS[1:]], [GROUPS]], run_id="old")
    return make_dataset(tmp_path / "data", passes=[[GROUPS]], run_id="new")


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(words)
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_a_whole_dataset_is_verified(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = sum(len(center) for center, _ in GROUPS)
    assert call(capsys, "verify", "--output", uri)[0] == 0
    _, out, _ = call(capsys, "verify", "--output", uri, "--run", "old", "--json")
    found = json.loads(out)
    assert (found["run_id"], found["files"]) == ("old", 1 + 3 + 3)
    assert found["pairs"] == 2 * pairs + len(GROUPS[1][0])


def test_any_flipped_bit_is_found_and_its_file_named(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(uri, "runs", "new")
    random = np.random.Philox(key=4)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        good = file.read_bytes()
        for place in (random.random_raw(10) % np.uint64(len(good) * 8)).tolist():
            damaged = bytearray(good)
            damaged[place // 8] ^= 1 << place % 8
            file.write_bytes(damaged)
            status, out, error = call(capsys, "verify", "--output", uri)
            assert (status, out, error.count("\n")) == (1, "", 1)
            assert file.name in error
        file.write_bytes(good)
    assert call(capsys, "verify", "--output", uri)[0] == 0


def test_a_complete_run_is_published(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "publish", "--output", uri, "--run", "old")[1] == f"published run old to {uri}\n"
    assert open_dataset(uri).run_id == "old"
    status, out, _ = call(capsys, "publish", "--output", uri, "--run", "old", "--json")
    assert (status, json.loads(out)["status"]) == (0, "published before")


def test_publishing_mends_a_pointer_to_a_run_that_is_gone(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(Path(uri, "runs", "new"))
    assert call(capsys, "publish", "--output", uri, "--run", "old")[0] == 0
    assert open_dataset(uri).run_id == "old"


@pytest.mark.parametrize("name", ["vocab.parquet", "inputs.parquet", "manifest.json", "pairs/pass-01"])
def test_an_incomplete_run_is_not_published(uri: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(uri, "runs", "old", name)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    status, _, error = call(capsys, "publish", "--output", uri, "--run", "old")
    assert status == 1
    assert name in error
    assert open_dataset(uri).run_id == "new"


def test_of_two_publishers_one_wins_whole(uri: str) -> None:
    for _ in range(50):
        make_dataset(uri, passes=[[GROUPS]], run_id="new")
        shutil.rmtree(Path(uri, "runs", "third"), ignore_errors=True)
        shutil.copytree(Path(uri, "runs", "old"), Path(uri, "runs", "third"))
        seen = storage.read_pointer(f"{uri}/LATEST.json")
        start, won, lost = threading.Barrier(2), [], []

        def move(run_id: str, start: threading.Barrier, won: list[str], lost: list[str], seen: bytes | None) -> None:
            dataset_id = open_dataset(uri, run_id).dataset_id
            start.wait()
            try:
                commands.point_to(uri, run_id, dataset_id, seen)
                won.append(run_id)
            except PointerMovedError:
                lost.append(run_id)

        threads = [threading.Thread(target=move, args=(name, start, won, lost, seen)) for name in ("old", "third")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(won), len(lost)) == (1, 1)
        assert open_dataset(uri).run_id == won[0]
        assert main(["publish", "--output", uri, "--run", lost[0]]) == 0
        assert open_dataset(uri).run_id == lost[0]


@pytest.mark.parametrize(
    ("words", "status", "parts"),
    [
        (["verify"], 2, ["--output"]),
        (["publish", "--output", "x"], 2, ["--run"]),
        (["verify", "--output", "nowhere"], 1, ["nowhere/LATEST.json", "found no file"]),
        (["publish", "--output", "nowhere", "--run", "../x"], 1, ["'../x'", "plain name of a folder"]),
    ],
)
def test_what_goes_wrong_is_one_line(
    words: list[str], status: int, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        found = main(words)
    except SystemExit as stop:
        found = int(str(stop.code))
    error = capsys.readouterr().err
    assert found == status
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert all(part in error for part in parts)
