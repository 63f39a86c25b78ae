"""Object stores that fail for a moment or for good: bounded retries, then one line; never a partial file."""

from __future__ import annotations

import functools
import http.server
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.dataset.reader import open_dataset
from pipeline.dataset.schema import FormatError
from pipeline.storage import connect, retry, storage
from pipeline.storage.retry import ATTEMPTS, StoreError, retrying, transient_reason, wait_s
from tests.support.datasets import group_of, make_dataset
from tests.support.serving import serving
from trainer.cli import main

requests = pytest.importorskip("requests")

FAULTS = ("503", "429", "500", "reset", "truncated", "silent", "slow")


class Faulty(http.server.SimpleHTTPRequestHandler):
    """Serves a folder with ranges, and misbehaves as long as `faults` says."""

    faults: list[str]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        fault = self.faults.pop() if self.faults else ""
        path = Path(self.translate_path(self.path))
        if fault.isdigit() or not path.is_file():
            self.send_response(int(fault) if fault else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "silent":
            time.sleep(1.0)
        if fault in ("reset", "silent"):
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            self.close_connection = True
            return
        data, wanted = path.read_bytes(), self.headers.get("Range")
        total = len(data)
        if wanted:
            first, last = wanted.removeprefix("bytes=").split("-")
            data = data[int(first) : int(last) + 1 if last else None]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(data) - 1}/{total}")
        else:
            self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(data) // 2
        self.wfile.write(data[:half])
        if fault == "slow":
            self.wfile.flush()
            time.sleep(0.02)
        if fault == "truncated":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(data[half:])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A dataset behind HTTP, and the list of faults to come."""
    groups = [group_of([[(n + k) % 9 for k in range(20)]]) for n in range(3)]
    make_dataset(tmp_path / "data", passes=[[groups]])
    faults: list[str] = []
    handler = functools.partial(type("Handler", (Faulty,), {"faults": faults}), directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    with serving(server):
        yield f"http://127.0.0.1:{server.server_address[1]}/data", faults


def read_all(uri: str) -> list[Any]:
    dataset = open_dataset(uri)
    return [dataset.read_row_group(ref) for ref in dataset.row_groups(0)]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("fault", FAULTS)
def test_what_passes_is_read_as_if_nothing_had_been(
    store: tuple[str, list[str]], tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, faults = store
    noted: list[float] = []
    monkeypatch.setattr(retry, "time", Clock(noted))
    monkeypatch.setattr(connect, "READ_SECONDS", 0.2)
    expected = read_all(str(tmp_path / "data"))
    faults += [fault, "", fault, fault]  # popped from the end
    found = read_all(uri)
    np.testing.assert_equal(found, expected)
    assert faults == []
    assert fault in ("slow", "truncated") or len(noted) >= 2


class Clock:
    """The time module of `retry`, with sleeping noted instead of done."""

    def __init__(self, noted: list[float]) -> None:
        self.sleep, self.monotonic = noted.append, time.monotonic


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("fault", "said"), [("503", "HTTP status 503"), ("reset", "Connection")])
def test_what_does_not_pass_is_one_line(
    store: tuple[str, list[str]], tmp_path: Path, fault: str, said: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    uri, faults = store
    noted: list[float] = []
    monkeypatch.setattr(retry, "time", Clock(noted))
    faults += [fault] * 999
    assert main(["train", "--data", uri, "--model", str(tmp_path / "m"), "--device", "cpu"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {uri}/LATEST.json: ")
    assert error.count("\n") == 1
    assert said in error
    assert f"{ATTEMPTS} times" in error
    assert len(noted) == ATTEMPTS - 1
    assert noted == sorted(noted)


def test_what_is_not_there_is_not_asked_for_again(
    store: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[float] = []
    monkeypatch.setattr(retry, "time", Clock(noted))
    with pytest.raises(FormatError, match="found no file"):
        open_dataset(store[0] + "/none")
    assert noted == []


def test_a_file_that_is_too_short_is_a_format_error(
    store: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "time", Clock([]))
    shard = next((tmp_path / "data").rglob("part-*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(FormatError, match=shard.name):
        read_all(store[0])


def test_waits_grow_to_a_limit_and_differ_by_reader() -> None:
    waits = [wait_s("s3://b/one", attempt) for attempt in range(12)]
    assert all(0.5 * min(0.5 * 2**n, 20) <= wait <= min(0.5 * 2**n, 20) for n, wait in enumerate(waits))
    assert waits != [wait_s("s3://b/other", attempt) for attempt in range(12)]


def test_errors_of_ours_are_not_repeated() -> None:
    for error in (FormatError("x"), PermissionError("x"), KeyError("x"), ValueError("x")):
        assert transient_reason(error) is None
        calls: list[int] = []

        def act(error: Exception = error, calls: list[int] = calls) -> None:
            calls.append(1)
            raise error

        with pytest.raises(type(error)):
            retrying("x", act, sleep=lambda _: None)
        assert calls == [1]


def test_the_cause_behind_a_librarys_error_counts() -> None:
    class WrappedError(OSError):
        backend_error = ConnectionResetError(104, "reset")

    assert transient_reason(WrappedError("found")) == "ConnectionResetError: [Errno 104] reset"
    with pytest.raises(StoreError, match=rf"s3://b/k: ConnectionResetError.*, {ATTEMPTS} times in 0 s"):
        retrying("s3://b/k", lambda: (_ for _ in ()).throw(WrappedError("x")), sleep=lambda _: None)


def test_local_files_are_not_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("retried")

    monkeypatch.setattr(storage, "retrying", refuse)
    storage.write_bytes(str(tmp_path / "a"), b"x")
    assert storage.read_bytes(str(tmp_path / "a")) == b"x"
    storage.remove_file(str(tmp_path / "a"))
    storage.remove_file(str(tmp_path / "a"))
    assert not storage.exists(str(tmp_path / "a"))


def test_a_lost_race_is_told_as_such_whatever_told_it() -> None:
    """What a library raised behind an error of ours says nothing about ours."""

    class ClientError(Exception):
        __module__ = "obstore.exceptions"

    def lose() -> None:
        try:
            raise ClientError("Request precondition failure for path k")
        except ClientError:
            raise storage.PointerMovedError("s3://b/k: was swapped") from None

    def refuse() -> None:
        raise ClientError(
            "403 Forbidden: <Error><Code>AccessDenied</Code><Message>No\nway</Message></Error>\n\nDebug source:"
        )

    with pytest.raises(storage.PointerMovedError):
        retrying("s3://b/k", lose)
    with pytest.raises(StoreError, match="s3://b/k: the store refused: AccessDenied: No way"):
        retrying("s3://b/k", refuse)


@pytest.mark.parametrize(("seconds", "attempts"), [(1, ATTEMPTS), (50, 4), (60, 3), (500, 3)])
def test_slow_failures_are_repeated_less(seconds: float, attempts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    class SlowClock:
        sleep = staticmethod(lambda _: None)
        monotonic = staticmethod(lambda: now[0])

    def act() -> None:
        now[0] += seconds
        raise ConnectionResetError(104, "reset")

    monkeypatch.setattr(retry, "time", SlowClock)
    with pytest.raises(StoreError, match=f"reset, {attempts} times in {attempts * seconds} s"):
        retrying("s3://b/k", act)
