"""A real Flink cluster gives the same bytes as one process, also where it loses a machine on the way."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from pipeline.dataset.reader import open_dataset
from pipeline.dataset.verify import verify_run
from tests.engines.conftest import Record
from tests.engines.flink import Cluster
from tests.engines.servers import wait_until
from tests.engines.support import dataset_sha256, files_below, names_of, run_pipeline, start_pipeline

pytestmark = pytest.mark.engines

LOOPBACK = "--environment_type=LOOPBACK"

# The workers are threads of the launcher: there, the first shard that is written waits until it is let go. One that no
# pair came out of is not written.
HOLD = """
import os, pathlib, time
from pipeline.stages import chunks
write_shard, folder = chunks.write_shard, pathlib.Path(os.environ["HELD"])
def hold(*arguments):
    written = write_shard(*arguments)
    if written[0] is not None:
        (folder / "begun").touch()
    while (folder / "begun").exists() and not (folder / "go-on").exists():
        time.sleep(0.05)
    return written
chunks.write_shard = hold
"""


def expect_a_whole_run(output: Path, digest: str) -> None:
    """Hold a folder against its one run: the right bytes, and nothing else but what tells of when and where."""
    dataset = open_dataset(str(output))
    assert dataset_sha256(output) == digest
    verify_run(str(output))
    names = {f"runs/{dataset.run_id}/{name}" for name in {*names_of(dataset), "run.json", "listing.parquet"}}
    assert files_below(output) == {"LATEST.json", "LATEST.json.lock", *names}


def test_the_same_bytes(flink: Cluster, corpus: Path, in_process: str, record: Record, tmp_path: Path) -> None:
    seconds = run_pipeline(corpus, tmp_path / "out", *flink.job_flags, LOOPBACK)
    record("Flink 1.19, two TaskManagers", seconds, dataset_sha256(tmp_path / "out"))
    expect_a_whole_run(tmp_path / "out", in_process)
    job = flink.last_job()
    assert job["state"] == "FINISHED"
    writers = next(vertex for vertex in job["vertices"] if "{WriteShards, PackShards}" in vertex["name"])
    managers = flink.ask(f"jobs/{job['jid']}/vertices/{writers['id']}/taskmanagers")["taskmanagers"]
    assert len({manager["taskmanager-id"] for manager in managers}) == 2  # both took part
    assert not job["timestamps"]["RESTARTING"]


def test_a_task_manager_that_is_killed(
    flink: Cluster, corpus: Path, in_process: str, record: Record, tmp_path: Path
) -> None:
    held = tmp_path / "held"
    held.mkdir()
    run = start_pipeline(corpus, tmp_path / "out", *flink.job_flags, LOOPBACK, before=HOLD, HELD=str(held))
    try:
        wait_until(lambda: (held / "begun").exists() or run.poll() is not None, 120)
        assert run.poll() is None, run.communicate()[1][-6000:]
        assert list((tmp_path / "out").glob("runs/*/pairs/pass-00/part-*.parquet"))
        assert not (tmp_path / "out" / "LATEST.json").exists()
        flink.replace_task_manager()
        (held / "go-on").touch()
        _, error = run.communicate(timeout=200)
    finally:
        run.kill()
    assert run.returncode == 0, error[-6000:]
    expect_a_whole_run(tmp_path / "out", in_process)
    job = flink.last_job()
    assert job["state"] == "FINISHED"
    assert job["timestamps"]["RESTARTING"]


def test_a_bad_file_is_one_line(flink: Cluster, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.gz").write_bytes(gzip.compress(b"the fox saw the dog\n" * 1000)[:-9])
    run = start_pipeline(tmp_path / "in", tmp_path / "out", *flink.job_flags, LOOPBACK)
    _, error = run.communicate(timeout=200)
    assert run.returncode == 1
    [line] = [line for line in error.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {tmp_path}/in/a.gz: found the end of the file inside gzip member 1")
    assert files_below(tmp_path) == {"in/a.gz"}
