"""What the launcher says of a runner that is not there, fails, or is lost on the way."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
from apache_beam.options.pipeline_options import PortableOptions
from apache_beam.runners.runner import PipelineState

from pipeline import job, runners
from pipeline.config import Config
from pipeline.dataset.reader import open_dataset
from pipeline.errors import ConfigError, LostJobError
from pipeline.inputs.listing import read_listing
from pipeline.publishing import publish as finish
from pipeline.publishing.publish import Run
from tests.engines.servers import free_port
from tests.support.commands import TEXT, expect_failure, in_process, make_old, words_of

FN_API = "apache_beam.runners.portability.fn_api_runner.fn_runner.FnApiRunner"


@pytest.mark.parametrize("runner", ["PortableRunner", "FlinkRunner"])
def test_a_job_endpoint_where_nobody_listens(
    runner: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_old(tmp_path)
    (tmp_path / "in" / "a.txt").write_text(TEXT)
    monkeypatch.setattr(job, "beam", None)  # Beam is not even asked: it would try for minutes
    endpoint = f"localhost:{free_port()}"
    run = in_process(words_of(tmp_path, f"--runner={runner}", f"--job_endpoint={endpoint}"), capsys)
    message = f"--job_endpoint {endpoint}: no answer (Connection refused); expected HOST:PORT of a job "
    expect_failure(tmp_path, run, message)


@pytest.mark.parametrize("endpoint", ["localhost", "localhost:", "localhost:http", ":99999999999", "8099"])
def test_a_job_endpoint_that_is_none(endpoint: str) -> None:
    options = runners.read_options(["--runner=PortableRunner", f"--job_endpoint={endpoint}"])
    with pytest.raises(ConfigError, match=f"^--job_endpoint {endpoint}: no answer .*HOST:PORT"):
        runners.require_job_server(options)


@pytest.mark.parametrize("form", ["{}:{}", "dns:///{}:{}", "[{}]:{}"])
def test_a_job_endpoint_where_somebody_listens(form: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = form.format("127.0.0.1", server.getsockname()[1])
        runners.require_job_server(runners.read_options([f"--job_endpoint={endpoint}"]))
    runners.require_job_server(runners.read_options(["--job_endpoint=embed"]))
    runners.require_job_server(runners.read_options([]))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--runner=PortableRunner"], 60_000),
        (["--runner=apache_beam.runners.portability.flink_runner.FlinkRunner"], 60_000),
        (["--runner=FlinkRunner", "--environment_cache_millis=5"], 5),
        ([], 0),
    ],
)
def test_workers_are_kept_from_stage_to_stage(flags: list[str], expected: int) -> None:
    assert int(runners.read_options(flags).view_as(PortableOptions).environment_cache_millis) == expected


class Job:
    """What a runner hands out for a job that its launcher waits for in vain."""

    def __init__(self, state: str | Exception) -> None:
        self._state = state

    def wait_until_finish(self) -> None:
        raise RuntimeError("Socket\nclosed")

    @property
    def state(self) -> str:
        if isinstance(self._state, Exception):
            raise self._state
        return self._state


@pytest.mark.parametrize("state", [PipelineState.FAILED, PipelineState.CANCELLED])
def test_a_job_that_failed_is_over(state: str) -> None:
    with pytest.raises(RuntimeError, match="Socket"):
        runners.wait_for(Job(state), "out/runs/1")


@pytest.mark.parametrize("state", [PipelineState.RUNNING, ConnectionError("gone")])
def test_a_job_that_nobody_knows_of_is_lost(state: Any) -> None:
    with pytest.raises(LostJobError, match=r"^s3://\*\*\*@b/runs/1: cannot find out how .* \(Socket closed\)"):
        runners.wait_for(Job(state), "s3://me:secret@b/runs/1")


def test_a_lost_jobs_files_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    config = Config((str(tmp_path / "a.txt"),), str(tmp_path / "out"), run_id="1")
    wait = runners.wait_for
    monkeypatch.setattr(job, "build", lambda pipeline, *_, **__: None)
    monkeypatch.setattr(runners, "wait_for", lambda result, folder: wait(Job(PipelineState.RUNNING), folder))
    with pytest.raises(LostJobError):
        job.run_job(config, [f"--runner={FN_API}"])
    names = sorted(path.name for path in (tmp_path / "out/runs/1").iterdir())
    assert names == ["lease.json", "listing.parquet"]
    monkeypatch.setattr(runners, "wait_for", lambda result, folder: wait(Job(PipelineState.FAILED), folder))
    with pytest.raises(ConfigError, match="cannot run the job"):
        job.run_job(config, [f"--runner={FN_API}"])
    assert not (tmp_path / "out/runs/1/listing.parquet").exists()


@pytest.mark.parametrize("pattern", ["in/*", "in/a.txt", "in/[[]1].txt", "./in/a*"])
@pytest.mark.parametrize("folder", ["here", "[h]ere"])
def test_workers_in_other_folders_get_whole_paths(
    pattern: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path = tmp_path / folder
    (tmp_path / "in").mkdir(parents=True)
    name = "[1].txt" if "[1]" in pattern.replace("[[]", "[") else "a.txt"
    (tmp_path / "in" / name).write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    build, folders, listed = job.build, [], []

    def look(pipeline: Any, run: Run, spill: str | None, one_process: bool = False) -> None:
        folders.append(run.folder)
        listed.extend(read_listing(run.listing).select(["uri", "name"]).to_pylist())
        build(pipeline, run, spill, one_process)

    monkeypatch.setattr(job, "build", look)
    for number, flags in enumerate(([f"--runner={FN_API}"], [])):
        job.run_job(Config((pattern,), "out", run_id=str(number), vocab="out" if number else ""), flags)
    assert folders == [f"{tmp_path}/out/runs/0", "out/runs/1"]
    assert [os.path.normpath(item["uri"]) for item in listed] == [f"{tmp_path}/in/{name}", f"in/{name}"]
    assert [item["name"] for item in listed] == [name, name]
    assert open_dataset("out", "0").manifest.corpus == open_dataset("out", "1").manifest.corpus


def test_what_killed_workers_left_goes_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    pairs = tmp_path / "out/runs/1/pairs/pass-00"
    others = {"notes.tmp", ".hidden"}
    publish = finish.publish

    def leave(*arguments: Any) -> str:
        for name in (".abc.tmp", *others):  # as a worker leaves them that is killed while it writes
            (pairs / name).write_text("half")
        return publish(*arguments)

    monkeypatch.setattr(finish, "publish", leave)
    job.run_job(Config((str(tmp_path / "a.txt"),), str(tmp_path / "out"), run_id="1"), [f"--runner={FN_API}"])
    assert {path.name for path in pairs.iterdir()} == {"part-00000-of-00001.parquet", *others}


class Broken(grpc.RpcError, grpc.Call):  # type: ignore[misc]
    """What a call raises whose connection ended."""

    def details(self) -> str:
        return "Socket\nclosed"


Broken.__abstractmethods__ = frozenset()


@pytest.mark.parametrize(("error", "shown"), [(Broken(), False), (ValueError("told"), True)])
def test_threads_say_nothing_of_connections_that_end(
    error: Exception, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: said.append(arguments.exc_value))
    runners.quieten_threads()

    def fail() -> None:
        raise error

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    assert said == [error] * shown


def test_a_broken_connection_is_told_in_its_own_words() -> None:
    message = r"^--runner R: cannot run the job: Socket closed$"
    with pytest.raises(ConfigError, match=message), runners.naming("R"):
        raise Broken
