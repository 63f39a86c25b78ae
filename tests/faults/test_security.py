"""Credentials are in no output, log or file, whatever happens and however much is logged; nothing unpickles."""

from __future__ import annotations

import ast
import base64
import functools
import http.server
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pipeline.storage.redact import redact
from tests.faults.test_store_faults import Faulty
from tests.support.datasets import group_of, make_dataset
from tests.support.paths import ROOT
from tests.support.serving import moto_s3, serving

# Signs that a URI, a header or JSON would write in another way are left out, so that no spelling is missed.
KEY, SECRET, TOKEN, PASSWORD = "AKIDpairstreamTEST", "sEcReTofTHEtests0123456789", "sEsSiOnTOKEN98765", "pAsSwOrD42"
BASIC = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
HIDDEN = (SECRET, TOKEN, PASSWORD, BASIC)

_RUN_ALL = """
import json, logging, sys
logging.basicConfig(level=logging.DEBUG)
from pipeline.storage import retry
retry.wait_s = lambda *_: 0.0
import pipeline.cli, trainer.cli
mains = {"pipeline": pipeline.cli.main, "trainer": trainer.cli.main}
for words in json.loads(sys.stdin.read()):
    print("status", mains[words[0]](words[1:]), words[1], file=sys.stderr, flush=True)
"""


def run_all(commands: list[list[str]], **environment: str) -> tuple[list[int], str]:
    """Run commands of both sides in a process of their own that logs at debug level; return statuses and all output."""
    path = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _RUN_ALL], input=json.dumps(commands), capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": path, **environment},
    )  # fmt: skip
    statuses = [int(line.split()[1]) for line in done.stderr.splitlines() if line.startswith("status ")]
    assert "Traceback" not in done.stderr, done.stderr
    return statuses, done.stdout + done.stderr


def require_hidden(text: str, folder: Path) -> None:
    """Look for what must not be there, in what was written to the terminal and in every file."""
    files = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for name, content in {"the output": text.encode(), **files}.items():
        for secret in HIDDEN:
            assert secret.encode() not in content, f"{name} shows {secret}"


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """A stand-in for S3 with some text in it; its address."""
    with moto_s3() as address:
        client = client_of(address)
        client.create_bucket(Bucket="guarded")
        client.put_object(Bucket="guarded", Key="text/a.txt", Body=b"the fox saw the dog\n" * 300)
        yield address


def client_of(address: str) -> Any:
    """A client with keys of its own, not the environment's."""
    session = pytest.importorskip("boto3").session.Session(
        aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
    )
    return session.client("s3", endpoint_url=address)


def bucket_files(address: str, folder: Path) -> None:
    """Copy all that is in the bucket to a folder."""
    client = client_of(address)
    for number, one in enumerate(client.list_objects_v2(Bucket="guarded")["Contents"]):
        (folder / f"{number}").write_bytes(client.get_object(Bucket="guarded", Key=one["Key"])["Body"].read())


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
def test_the_keys_of_a_store_are_shown_nowhere(store: str, tmp_path: Path) -> None:
    keys = {"AWS_ENDPOINT_URL": store, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_SESSION_TOKEN": TOKEN, "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip
    data, model = "s3://guarded/data", "s3://guarded/model"
    words = ["--min-count", "1", "--sample", "0", "--shard-pairs", "2000"]
    shape = ["--dim", "8", "--device", "cpu"]
    commands = {
        0: [
            ["pipeline", "--input", "s3://guarded/text/*", "--output", data, *words],
            ["trainer", "train", "--data", data, "--model", model, *shape, "--checkpoint-pairs", "500"],
        ],
        1: [
            ["pipeline", "--input", "s3://none/*", "--output", data, *words],
            ["trainer", "train", "--data", "s3://guarded/none", "--model", model, *shape],
            ["pipeline", "--input", "s3://guarded/text/*", "--output", f"s3://{KEY}:{SECRET}@guarded/x", *words],
            ["pipeline", "--input", f"s3://{KEY}:{SECRET[:9]}/{SECRET}@guarded/text/*", "--output", data, *words],
            ["pipeline", "verify", "--output", f"s3://{KEY}:{SECRET}@guarded/data"],
            ["trainer", "train", "--data", f"s3://{KEY}:{SECRET}@guarded/data", "--model", model, *shape],
            ["trainer", "train", "--data", data, "--model", f"s3://{KEY}:{SECRET}@guarded/model", *shape],
            ["trainer", "neighbors", "--model", f"s3://{KEY}:{SECRET}@guarded/model", "fox"],
        ],
    }
    statuses, text = run_all([*commands[0], *commands[1]], **keys)
    assert statuses == [0] * len(commands[0]) + [1] * len(commands[1]), text
    assert text.count("found a name or password in the URI") == 6
    bucket_files(store, tmp_path)
    require_hidden(text, tmp_path)


class Guarded(Faulty):
    """Serves a folder, ranges as well, to whoever knows the password."""

    faults: ClassVar[list[str]] = []

    def do_GET(self) -> None:  # noqa: N802
        if self.headers.get("Authorization") == f"Basic {BASIC}":
            super().do_GET()
        else:
            self.send_error(401)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[str]:
    """The address, without scheme, of a server that wants a password; it serves tmp_path / "served"."""
    (tmp_path / "served").mkdir()
    handler = functools.partial(Guarded, directory=str(tmp_path / "served"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    with serving(server):
        yield f"127.0.0.1:{server.server_address[1]}"


def test_a_password_in_a_web_address_is_shown_nowhere(guarded: str, tmp_path: Path) -> None:
    pytest.importorskip("requests")
    make_dataset(tmp_path / "served" / "data", passes=[[[group_of([[0, 1, 2, 1, 0]] * 50)]]])
    make_dataset(tmp_path / "served" / "damaged", passes=[[[group_of([[0, 1, 2, 1, 0]] * 50)]]])
    [shard] = (tmp_path / "served" / "damaged").rglob("part-*.parquet")
    shard.write_bytes(bytes(len(shard.read_bytes())))
    root, words = f"http://user:{PASSWORD}@{guarded}", ["--dim", "8", "--device", "cpu", "--checkpoint-pairs", "100"]
    datas = [f"{root}/data", f"{root}/none", f"{root}/damaged", f"http://user:{PASSWORD}x@{guarded}/data",
             f"http://user:{PASSWORD}@127.0.0.1:9/data"]  # fmt: skip
    commands = [
        *(["trainer", "train", "--data", d, "--model", f"{tmp_path}/model-{n}", *words] for n, d in enumerate(datas)),
        ["trainer", "train", "--data", str(tmp_path / "served" / "data"), "--model", f"{root}/model", *words],
        ["trainer", "evaluate", "--model", f"{tmp_path}/model-0", "--similarity", f"{root}/none?token={TOKEN}"],
        ["pipeline", "--input", f"{root}/*", "--output", f"{tmp_path}/out"],
        ["pipeline", "--input", __file__, "--output", f"{root}/out"],
        ["pipeline", "verify", "--output", f"{root}/damaged"],
        ["pipeline", "verify", "--output", f"{root}/data"],
    ]
    statuses, text = run_all(commands)
    assert statuses[0] == 0, text
    assert statuses[1:-1] == [1] * (len(commands) - 2), text
    require_hidden(text, tmp_path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"s3://{KEY}:a/b/{SECRET}@b/x", "s3://***@b/x"),
        (f"s3://{KEY}:12/{SECRET}@b/x", "s3://***@b/x"),
        (f"https://u:{PASSWORD}@h/x", "https://***@h/x"),
        (f"https://u:p@{PASSWORD}@h:80/x", "https://***@h:80/x"),
        (f"abfss://u:{PASSWORD}@h/x", "abfss://***@h/x"),
        (f"az://{TOKEN}@c/x", "az://***@c/x"),
        (f"http://127.0.0.1:1/acc/c/k?sv=1&sig={SECRET}", "http://127.0.0.1:1/acc/c/k?***"),
        (f"HTTPS://u:{PASSWORD}@h/x", "HTTPS://***@h/x"),
        (f"https://h/x?X-Amz-Signature={SECRET}", "https://h/x?***"),
        (f"404 for url: https://u:{PASSWORD}@h/x, tried twice", "404 for url: https://***@h/x, tried twice"),
        (f"ftp://{TOKEN}@h/x and gs://{TOKEN}@b/k", "ftp://***@h/x and gs://***@b/k"),
        *(
            (same, same)
            for same in (
                "/a@b",
                "s3://b/a:b@c",
                "http://h:8080/a@b",
                "gs://b/k?x",
                "C:/x@y",
                "abfss://c-1@a.dfs.core.windows.net/k",
                "abfs://c/k",
                "hdfs://n:80/a",
            )
        ),
    ],
)
def test_redaction(text: str, shown: str) -> None:
    assert redact(text) == shown


#: Reading with any of these may run what the bytes say; of modules, any use at all.
_MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "cloudpickle",
    "dill",
    "marshal",
    "shelve",
    "joblib",
    "jsonpickle",
    "yaml",
    "code",
}
_CALLS = {"eval", "exec", "compile", "__import__"}
_ATTRIBUTES = {"load": {"torch", "np", "numpy", "yaml"}, "hub": {"torch"}}


def test_the_source_reads_nothing_that_can_run() -> None:
    files = [path for top in ("pipeline", "trainer") for path in (ROOT / top).rglob("*.py")]
    files.append(ROOT / "pairstream.py")
    assert len(files) > 80
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            found = _danger(node)
            assert not found, f"{path}:{getattr(node, 'lineno', 0)}: {found}"


def _danger(node: ast.AST) -> str:
    if isinstance(node, ast.Import):
        return ", ".join(one.name for one in node.names if one.name.split(".")[0] in _MODULES)
    if isinstance(node, ast.ImportFrom):
        return str(node.module) if str(node.module).split(".")[0] in _MODULES else ""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CALLS:
        return node.func.id
    if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
        return "" if isinstance(node.value, ast.Constant) and node.value.value is False else "allow_pickle"
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}" if node.value.id in _ATTRIBUTES.get(node.attr, ()) else ""
    return ""


@pytest.mark.parametrize("line", [
    "import pickle", "from joblib import load", "import yaml", "torch.load(x)", "np.load(x)", "f(x, allow_pickle=True)",
    "eval(x)", "exec(x)", "torch.hub.load(x)", "import pickle as p", "from pickle import loads",
])  # fmt: skip
def test_the_search_finds_what_it_looks_for(line: str) -> None:
    assert any(_danger(node) for node in ast.walk(ast.parse(line)))
