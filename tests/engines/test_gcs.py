"""Google's store, as fake-gcs-server answers for it: every step in it, and two publishers at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.dataset import storage
from pipeline.dataset.storage import PointerMovedError
from pipeline.folders import list_files
from tests.engines import stores
from tests.engines.conftest import Record

pytest.importorskip("google.cloud.storage")
pytestmark = pytest.mark.engines


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with stores.fake_gcs(tmp_path_factory.mktemp("gcs")):
        yield "gs://pairs"


def test_every_step(bucket: str, corpus: Path, in_process: str, record: Record, tmp_path: Path) -> None:
    stores.whole_way("GCS (fake-gcs-server)", f"{bucket}/way", corpus, in_process, record, tmp_path)


def test_files_ranges_and_the_pointer(bucket: str) -> None:
    uri = f"{bucket}/files/LATEST.json"
    assert storage.read_pointer(uri) is None
    assert not storage.exists(uri)
    data = bytes(range(256)) * 80_000  # several requests, both ways
    storage.write_bytes(f"{bucket}/files/large.gz", data)
    assert storage.read_range(f"{bucket}/files/large.gz", 300, 7) == data[300:307]
    assert storage.read_range(f"{bucket}/files/large.gz", len(data) - 3, 99) == data[-3:]
    assert storage.read_range(f"{bucket}/files/large.gz", len(data), 9) == b""
    with storage.open_binary(f"{bucket}/files/large.gz") as stream:
        assert stream.read() == data
    storage.write_bytes(f"{bucket}/files/empty", b"")
    assert storage.exists(f"{bucket}/files/empty")
    assert storage.read_bytes(f"{bucket}/files/empty") == b""
    storage.swap_pointer(uri, None, b"one")
    storage.swap_pointer(uri, b"one", b"two")
    storage.swap_pointer(uri, b"one", b"two")
    for expected in (b"one", None):
        with pytest.raises(PointerMovedError):
            storage.swap_pointer(uri, expected, b"three")
    storage.remove_file(uri)
    storage.remove_file(uri)
    assert [file.name for file in list_files(f"{bucket}/files")] == ["empty", "large.gz"]


def test_two_publishers(bucket: str) -> None:
    stores.race(f"{bucket}/race")


def test_clean_removes_a_dead_run(bucket: str) -> None:
    for name in ("listing.parquet", "lease.json", "mine.txt"):
        storage.write_bytes(f"{bucket}/dead/runs/r/{name}", b"left")
    done = stores.succeed("pipeline", "clean", "--output", f"{bucket}/dead", "--older-than", "0s", "--json")
    assert [item["run"] for item in json.loads(done)["removed"]] == ["r"]
    assert [file.name for file in list_files(f"{bucket}/dead")] == ["runs/r/mine.txt"]
