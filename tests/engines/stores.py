"""Real object stores on loopback, and what every one of them must do: text in, dataset, training, model, export."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.cli import main as pipeline
from pipeline.storage import storage
from pipeline.storage.folders import list_files
from pipeline.storage.storage import PointerMovedError
from tests.engines import azure, install, servers
from tests.engines.conftest import Record
from tests.engines.gcs_front import xml_front
from tests.engines.support import FLAGS, dataset_sha256, run_pipeline
from tests.support.paths import ROOT
from trainer.cli import main as trainer

MINIO = ("github.com/minio/minio", "v0.0.0-20260212201848-7aac2a2c5b7c")
FAKE_GCS = ("github.com/fsouza/fake-gcs-server", "v1.56.1")
AZURITE = ("azurite", "3.37.0", "azurite-blob")
SECRET = "c2VjcmV0LW9mLXRoZS10ZXN0cw=="

#: Few and short: what goes wrong is not a matter of size.
SMALL = ("--min-count", "1", "--sample", "0", "--shard-pairs", "20000", "--json")
SMALL_TEXT = "\n".join(f"the fox {i % 7} saw the dog {i % 5} near house {i % 3} again" for i in range(2000)) + "\n"


@dataclass(frozen=True)
class Store:
    """A running store.

    Attributes:
        name: for the table that the tests end with.
        address: where it listens.
        root: the URI of an empty bucket in it.
        variables: what tells a process that the store is at some address, and gives it the right to use it.
        missing: its word for a bucket that is not there.
    """

    name: str
    address: str
    root: str
    variables: Callable[[str], dict[str, str]]
    missing: str

    def point_to(self, environment: pytest.MonkeyPatch, address: str) -> None:
        """Tell this process and its children where the store is."""
        for name, value in self.variables(address).items():
            environment.setenv(name, value)


def s3_variables(address: str) -> dict[str, str]:
    values = {"ENDPOINT_URL": address, "ACCESS_KEY_ID": "pairstream", "SECRET_ACCESS_KEY": SECRET}
    return {f"AWS_{name}": value for name, value in {**values, "DEFAULT_REGION": "us-east-1"}.items()}


def azure_variables(address: str) -> dict[str, str]:
    parts = {"AccountName": azure.ACCOUNT, "AccountKey": SECRET, "BlobEndpoint": f"{address}/{azure.ACCOUNT}"}
    return {"AZURE_STORAGE_CONNECTION_STRING": ";".join(f"{name}={value}" for name, value in parts.items())}


@contextlib.contextmanager
def minio(folder: Path) -> Iterator[Store]:
    """Run MinIO."""
    port, console = servers.free_port(), servers.free_port()
    address = f"http://127.0.0.1:{port}"
    command = [str(install.go_tool(*MINIO)), "server", str(folder / "minio"), "--address", f"127.0.0.1:{port}",
               "--console-address", f"127.0.0.1:{console}", "--quiet"]  # fmt: skip
    own = {**os.environ, "MINIO_ROOT_USER": "pairstream", "MINIO_ROOT_PASSWORD": SECRET, "MINIO_BROWSER": "off"}
    (folder / "minio" / "pairs").mkdir(parents=True)  # a folder of its own is a bucket to MinIO
    ready = lambda: answers(f"{address}/minio/health/ready")  # noqa: E731
    with servers.started(command, folder / "minio.log", ready, env=own):
        yield Store("S3 (MinIO)", address, "s3://pairs", s3_variables, "NoSuchBucket")


@contextlib.contextmanager
def fake_gcs(folder: Path) -> Iterator[Store]:
    """Run a stand-in for Google's store."""
    port = servers.free_port()
    address = f"http://127.0.0.1:{port}"
    command = [str(install.go_tool(*FAKE_GCS)), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port),
               "-backend", "memory", "-public-host", f"127.0.0.1:{port}", "-external-url", address,
               "-log-level", "error"]  # fmt: skip
    with (
        servers.started(command, folder / "gcs.log", lambda: answers(f"{address}/storage/v1/b")),
        xml_front(address) as front,
    ):
        request = urllib.request.Request(f"{address}/storage/v1/b?project=p", b'{"name": "pairs"}')
        request.add_header("Content-Type", "application/json")
        urllib.request.urlopen(request, timeout=30).close()
        variables = lambda address: {"STORAGE_EMULATOR_HOST": address}  # noqa: E731
        yield Store("GCS (fake-gcs-server)", front, "gs://pairs", variables, "NoSuchBucket")


@contextlib.contextmanager
def azurite(folder: Path) -> Iterator[Store]:
    """Run a stand-in for Azure's store."""
    port = servers.free_port()
    address = f"http://127.0.0.1:{port}"
    command = [*install.npm_tool(*AZURITE), "--inMemoryPersistence", "--blobHost", "127.0.0.1",
               "--blobPort", str(port), "--skipApiVersionCheck", "--silent"]  # fmt: skip
    own = {**os.environ, "AZURITE_ACCOUNTS": f"{azure.ACCOUNT}:{SECRET}"}
    with servers.started(command, folder / "azurite.log", lambda: servers.listens(port), env=own):
        azure.make_container(address, "pairs", SECRET)
        yield Store("Azure (Azurite)", address, "az://pairs", azure_variables, "ContainerNotFound")


STORES = {"s3": minio, "gs": fake_gcs, "az": azurite}


def answers(url: str) -> bool:
    """Does a server answer, and not with an error?"""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
        return bool(answer.status < 300)
    return False


def upload(corpus: Path, uri: str) -> None:
    """Copy a folder's files into a store."""
    for file in sorted(corpus.iterdir()):
        storage.write_bytes(storage.join(uri, file.name), file.read_bytes())


def command(*words: str, before: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``pipeline …`` or ``trainer …`` in a process of its own, after some code of the test's."""
    return subprocess.run(
        _words(words, before), env=_environment(environment), capture_output=True, text=True, check=False, timeout=300
    )


def begin(*words: str, before: str = "", **environment: str) -> subprocess.Popen[str]:
    """As `command`, but do not wait."""
    pipe = subprocess.PIPE
    return subprocess.Popen(_words(words, before), env=_environment(environment), stdout=pipe, stderr=pipe, text=True)


def _words(words: Sequence[str], before: str) -> list[str]:
    code = f"import sys\n{before}\nfrom {words[0]}.cli import main\nsys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-W", "ignore", "-c", code, *words[1:]]


def _environment(more: dict[str, str]) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), **more}


def succeed(*words: str) -> str:
    """Run a command that must succeed, in this process; return what it printed."""
    main = {"pipeline": pipeline, "trainer": trainer}[words[0]]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = main(words[1:])
    assert status == 0, err.getvalue()
    return out.getvalue()


def fail(words: Sequence[str], *parts: str) -> str:
    """Run a command that must fail, in this process, and hold it against the promise of one line; return the line."""
    main = {"pipeline": pipeline, "trainer": trainer}[words[0]]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = main(words[1:])
    text = out.getvalue() + err.getvalue()
    lines = [line for line in text.splitlines() if not re.search(r"\d left  ", line)]  # but lines of progress
    assert (status, len(lines)) == (1, 1), text
    assert lines[0].startswith("error: ")
    assert SECRET not in text
    for part in parts:
        assert part in lines[0]
    return lines[0]


def whole_way(engine: str, root: str, corpus: Path, expected: str, record: Record) -> None:
    """Text in a store → dataset there → verified → model there → vectors there; each as on a local disk."""
    upload(corpus, f"{root}/corpus")
    seconds = run_pipeline(f"{root}/corpus", f"{root}/data")
    record(engine, seconds, found := dataset_sha256(f"{root}/data"))
    assert found == expected
    assert "verified run" in succeed("pipeline", "verify", "--output", f"{root}/data")
    assert train_and_export(root) == on_disk(corpus)
    assert not [file.name for file in list_files(f"{root}/model") if file.name.startswith("checkpoints/")]


def use_files(folder: str) -> None:
    """Write, read by ranges, list and remove files; a pointer moves for one who knows where it is."""
    uri, large = f"{folder}/LATEST.json", f"{folder}/large.gz"
    assert storage.read_pointer(uri) is None
    assert not storage.exists(uri)
    data = bytes(range(256)) * 80_000  # several requests, both ways
    storage.write_bytes(large, data)
    assert storage.read_range(large, 300, 7) == data[300:307]
    assert storage.read_range(large, len(data) - 3, 99) == data[-3:]
    assert storage.read_range(large, len(data), 9) == b""
    with storage.open_binary(large) as stream:
        assert stream.read() == data
    storage.write_bytes(f"{folder}/empty", b"")
    assert storage.exists(f"{folder}/empty")
    assert storage.read_bytes(f"{folder}/empty") == b""
    storage.swap_pointer(uri, None, b"one")
    storage.swap_pointer(uri, b"one", b"two")
    storage.swap_pointer(uri, b"one", b"two")
    for expected in (b"one", None):
        with pytest.raises(PointerMovedError):
            storage.swap_pointer(uri, expected, b"three")
    storage.remove_file(uri)
    storage.remove_file(uri)
    assert sorted(file.name for file in list_files(folder)) == ["empty", "large.gz"]


@functools.cache
def on_disk(corpus: Path) -> tuple[bytes, bytes]:
    """What a training and an export on the local disk come to, done once."""
    root = corpus.parent / "on-disk"
    succeed("pipeline", "--input", f"{corpus}/*", "--output", f"{root}/data", *FLAGS)
    return train_and_export(str(root))


def train_and_export(root: str) -> tuple[bytes, bytes]:
    """Train beside a dataset, export; return the bytes of the tables and of the export."""
    flags = ["--dim", "16", "--threads", "1", "--device", "cpu", "--quiet", "--json"]
    succeed("trainer", "train", "--data", f"{root}/data", "--model", f"{root}/model", *flags)
    succeed("trainer", "export", "--model", f"{root}/model", "--format", "word2vec-bin", "--to", f"{root}/v.bin")
    return tables(f"{root}/model"), storage.read_bytes(f"{root}/v.bin")


def tables(model: str) -> bytes:
    """Return the bytes of the current version's tables."""
    version = json.loads(storage.read_bytes(f"{model}/LATEST.json"))["version"]
    return storage.read_bytes(f"{model}/versions/{version}/model.safetensors")


def race(root: str) -> None:
    """Let two publishers work at once: one wins whole, the other's run stays complete, and can be published."""
    storage.write_bytes(f"{root}/text/a.txt", SMALL_TEXT.encode())
    runs = {}
    for name, seed in (("one", "1"), ("two", "2")):
        words = ["--input", f"{root}/text/*", "--output", f"{root}/out", "--run-id", name, "--seed", seed, *SMALL]
        runs[name] = begin("pipeline", *words, before=_meet(name, root))
    ended = {name: (*child.communicate(timeout=120), child.returncode) for name, child in runs.items()}
    assert sorted(status for *_, status in ended.values()) == [0, 1], ended
    [winner] = [name for name, (*_, status) in ended.items() if status == 0]
    [loser] = set(runs) - {winner}
    assert "was swapped by another publisher" in ended[loser][1], ended[loser]
    assert json.loads(storage.read_bytes(f"{root}/out/LATEST.json"))["run"] == winner
    for name in runs:
        assert f"verified run {name}" in succeed("pipeline", "verify", "--output", f"{root}/out", "--run", name)
    assert f"published run {loser}" in succeed("pipeline", "publish", "--output", f"{root}/out", "--run", loser)


def _meet(name: str, root: str) -> str:
    """Code that lets a publisher wait before its swap until the other is there as well."""
    return f"""
import time
from pipeline.storage import storage
swap = storage.swap_pointer
def meet(*arguments):
    storage.write_bytes({f"{root}/there/{name}"!r}, b"x")
    while not all(storage.exists({root!r} + "/there/" + n) for n in ("one", "two")):
        time.sleep(0.05)
    swap(*arguments)
storage.swap_pointer = meet
"""


def wait_for(holds: Callable[[], bool], child: subprocess.Popen[str], seconds: float = 60) -> None:
    """Wait until something holds while a child works."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
