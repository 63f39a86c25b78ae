"""Google's store, as fake-gcs-server answers for it: every step in it, and two publishers at once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.dataset import retry, storage
from pipeline.folders import list_files
from tests.engines import stores, wire
from tests.engines.conftest import Record

pytest.importorskip("google.cloud.storage")
pytestmark = pytest.mark.engines


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with stores.fake_gcs(tmp_path_factory.mktemp("gcs")):
        yield "gs://pairs"


def test_every_step(bucket: str, corpus: Path, in_process: str, record: Record) -> None:
    stores.whole_way("GCS (fake-gcs-server)", f"{bucket}/way", corpus, in_process, record)


def test_files_ranges_and_the_pointer(bucket: str) -> None:
    stores.use_files(f"{bucket}/files")


def test_two_publishers(bucket: str) -> None:
    stores.race(f"{bucket}/race")


def test_clean_removes_a_dead_run(bucket: str) -> None:
    for name in ("listing.parquet", "lease.json", "mine.txt"):
        storage.write_bytes(f"{bucket}/dead/runs/r/{name}", b"left")
    done = stores.succeed("pipeline", "clean", "--output", f"{bucket}/dead", "--older-than", "0s", "--json")
    assert [item["run"] for item in json.loads(done)["removed"]] == ["r"]
    assert [file.name for file in list_files(f"{bucket}/dead")] == ["runs/r/mine.txt"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a small text comes to on the local disk."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "a.txt").write_text(stores.SMALL_TEXT)
    done = stores.succeed("pipeline", "--input", f"{folder}/*", "--output", f"{folder}/out", *stores.SMALL)
    return str(json.loads(done)["dataset_id"])


@pytest.mark.parametrize("fault", wire.ANSWERS)
def test_every_fourth_request_fails(fault: str, bucket: str, small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text of several megabytes beside the small files, so that large uploads and ranges break as well."""
    monkeypatch.setattr(retry, "wait_s", lambda *_: 0.0)
    root, data = f"{bucket}/fourth-{fault}", bytes(range(251)) * 50_000
    with wire.faulty(os.environ["STORAGE_EMULATOR_HOST"]) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.address)
        storage.write_bytes(f"{root}/text/a.txt", stores.SMALL_TEXT.encode())
        proxy.rule = lambda number, _: fault if number % 4 == 2 else None
        storage.write_bytes(f"{root}/large", data)
        assert storage.read_bytes(f"{root}/large") == data
        words = ["--input", f"{root}/text/*", "--output", f"{root}/out", *stores.SMALL]
        assert json.loads(stores.succeed("pipeline", *words))["dataset_id"] == small
        stores.succeed("pipeline", "verify", "--output", f"{root}/out")
        assert proxy.faults > 15


def test_a_store_that_is_gone_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "wait_s", lambda *_: 0.0)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    stores.fail(["pipeline", "--input", "gs://pairs/x/*", "--output", f"{tmp_path}/out"], "found ", "Connection")
    stores.fail(["pipeline", "--input", __file__, "--output", "gs://pairs/out"], "found ", "Connection")


def test_a_bucket_that_is_not_there(bucket: str, tmp_path: Path) -> None:
    stores.fail(["pipeline", "--input", "gs://none/*", "--output", f"{tmp_path}/out"], "gs://none/")
    stores.fail(["pipeline", "--input", __file__, "--output", "gs://none/out"], "gs://none/out/")
