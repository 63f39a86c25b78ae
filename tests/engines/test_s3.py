"""S3, as MinIO answers for it: every step in it, two publishers at once, and processes that are killed."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.dataset import retry, s3, storage
from pipeline.folders import list_files
from tests.engines import stores
from tests.engines.conftest import Record

pytest.importorskip("boto3")
pytestmark = pytest.mark.engines

MODEL = ("--dim", "32", "--epochs", "4", "--threads", "1", "--device", "cpu", "--quiet", "--json")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with stores.minio(tmp_path_factory.mktemp("minio")):
        yield "s3://pairs"


def names(uri: str) -> list[str]:
    return sorted(file.name for file in list_files(uri))


def test_every_step(bucket: str, corpus: Path, in_process: str, record: Record) -> None:
    stores.whole_way("S3 (MinIO)", f"{bucket}/way", corpus, in_process, record)


def test_files_ranges_and_the_pointer(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PART_BYTES", 5 << 20)
    stores.use_files(f"{bucket}/files")
    assert "-" in s3.client().head_object(Bucket="pairs", Key="files/large.gz")["ETag"], "expected an upload in parts"


def test_a_file_that_changes_while_it_is_read_is_none_of_both(bucket: str) -> None:
    storage.write_bytes(f"{bucket}/changing", b"a" * (3 << 20))
    with storage.open_binary(f"{bucket}/changing") as stream:
        stream.read(10)
        storage.write_bytes(f"{bucket}/changing", b"b" * (3 << 20))
        with pytest.raises(OSError, match=r"s3://pairs/changing: found another version than before"):
            stream.read()


def test_two_publishers(bucket: str) -> None:
    stores.race(f"{bucket}/race")


#: Where a run is killed: the write of which file, and what is there then. An upload is cut off in its middle.
STAGES = {
    "while the vocabulary is written": "vocab.parquet",
    "while shards are written": "part-00002-of",
    "between the last shard and the list of shards": "shards.parquet",
    "between the shards and the manifest": "manifest.json",
    "between the manifest and the pointer": "LATEST.json",
}


def killed_writing(name: str) -> str:
    """Code that kills its process while it writes a file: some bytes of the request's body are sent."""
    return f"""
import io, os
from pipeline.dataset import s3
class Dying(io.BytesIO):
    def read(self, size=-1):
        if self.tell():
            os.kill(os.getpid(), 9)
        return super().read(min(size, 7) if size > 0 else 7)
put, swap = s3.S3.put, s3.S3.swap
def dying(self, uri, data):
    if {name!r} in uri:
        s3._stream = lambda view: Dying(view)
        s3.client().put_object(Bucket=s3.split(uri)[0], Key=s3.split(uri)[1], Body=Dying(data), ContentLength=len(data))
    put(self, uri, data)
def dying_swap(self, uri, *rest):
    if {name!r} in uri:
        os.kill(os.getpid(), 9)
    swap(self, uri, *rest)
s3.S3.put, s3.S3.swap = dying, dying_swap
"""


@pytest.fixture(scope="module")
def published(bucket: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An older run in the store, and the ids that a newer one must have."""
    storage.write_bytes(f"{bucket}/old/a.txt", b"an older text of an older day\n" * 99)
    storage.write_bytes(f"{bucket}/new/a.txt", stores.SMALL_TEXT.encode())
    folder = tmp_path_factory.mktemp("new")
    (folder / "a.txt").write_text(stores.SMALL_TEXT)
    done = stores.succeed("pipeline", "--input", f"{folder}/*", "--output", f"{folder}/out", *stores.SMALL)
    return {"new": json.loads(done)["dataset_id"]}


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_is_killed(stage: str, bucket: str, published: dict[str, str]) -> None:
    output = f"{bucket}/killed-{list(STAGES).index(stage)}"
    stores.succeed("pipeline", "--input", f"{bucket}/old/*", "--output", output, "--run-id", "old", *stores.SMALL)
    before = storage.read_bytes(f"{output}/LATEST.json")
    words = ["--input", f"{bucket}/new/*", "--output", output, *stores.SMALL]
    done = stores.command("pipeline", *words, "--run-id", "dead", before=killed_writing(STAGES[stage]))
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert storage.read_bytes(f"{output}/LATEST.json") == before
    assert "verified run old" in stores.succeed("pipeline", "verify", "--output", output)
    left = names(f"{output}/runs/dead")
    assert "lease.json" in left
    assert not [name for name in left if STAGES[stage] in name], "half a file is none"
    assert ("manifest.json" in left) == (STAGES[stage] == "LATEST.json")

    done_again = stores.succeed("pipeline", *words, "--run-id", "again")
    assert json.loads(done_again)["dataset_id"] == published["new"]
    stores.succeed("pipeline", "clean", "--output", output, "--older-than", "0s")
    left = names(f"{output}/runs/dead")
    if STAGES[stage] == "LATEST.json":  # complete, only unpublished: it is not for clean to judge
        assert "lease.json" not in left
        assert "verified run dead" in stores.succeed("pipeline", "verify", "--output", output, "--run", "dead")
    else:
        assert left == []
    assert "verified run again" in stores.succeed("pipeline", "verify", "--output", output)


def test_a_killed_upload_in_parts_leaves_no_file(bucket: str) -> None:
    uri = f"{bucket}/parts/runs/dead/vocab.parquet"
    code = f"""
import os
from pipeline.dataset import retry, s3, storage
s3.PART_BYTES, s3._PARTS_AT_ONCE = 5 << 20, 1
retrying = s3.retrying
def counted(name, action, calls=[]):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), 9)
    return retrying(name, action)
s3.retrying = counted
storage.write_bytes({uri!r}, bytes(17 << 20))
"""
    assert stores.command("pipeline", before=code).returncode == -signal.SIGKILL
    assert not storage.exists(uri)
    assert [one[0] for one in storage.unfinished_uploads(f"{bucket}/parts/")] == [uri]
    assert [one[0] for one in storage.unfinished_uploads(f"{bucket}/par")] == [uri]
    assert list(storage.unfinished_uploads(f"{bucket}/other/")) == []
    clean = ["pipeline", "clean", "--output", f"{bucket}/parts", "--older-than"]
    assert "found nothing to remove" in stores.succeed(*clean, "1h")
    assert "removed unfinished uploads of run dead: 1" in stores.succeed(*clean, "0s")
    assert list(storage.unfinished_uploads(uri)) == []


def test_a_trainer_that_is_killed(bucket: str, tmp_path: Path) -> None:
    text = f"{tmp_path}/a.txt"
    Path(text).write_text(stores.SMALL_TEXT * 20)
    stores.succeed("pipeline", "--input", text, "--output", f"{bucket}/train/data", *stores.SMALL)
    words = ["train", "--data", f"{bucket}/train/data", *MODEL]
    stores.succeed("trainer", *words, "--model", f"{bucket}/train/whole")
    model = f"{bucket}/train/killed"
    often = ["--model", model, "--checkpoint-pairs", "100000"]
    child = stores.begin("trainer", *words, *often)
    stores.wait_for(lambda: len(checkpoints(model)) > 0, child)
    kill(child)
    torn = f"{model}/checkpoints/{999:015d}/state.safetensors"
    storage.write_bytes(torn, b"half of one, to which nothing points")
    assert not storage.exists(f"{model}/LATEST.json")
    assert checkpoints(model)
    done = stores.command("trainer", *words, *often)
    assert done.returncode == 0, done.stderr
    assert "resum" in done.stderr or json.loads(done.stdout.splitlines()[-1]).get("resumed")
    assert stores.tables(model) == stores.tables(f"{bucket}/train/whole")
    assert not [name for name in names(model) if name.startswith("checkpoints/")]


def checkpoints(model: str) -> list[object]:
    pointer = storage.read_pointer(f"{model}/checkpoints/LATEST.json")
    return [] if pointer is None else list(json.loads(pointer)["checkpoints"])


def kill(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.communicate()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong-" + stores.SECRET, "SignatureDoesNotMatch"),
        ("AWS_ACCESS_KEY_ID", "nobody", "InvalidAccessKeyId"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", "onnect"),
    ],
)
def test_what_the_store_refuses_is_one_line(
    bucket: str, name: str, value: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "wait_s", lambda *_: 0.0)
    monkeypatch.setenv(name, value)
    for command in (
        ["pipeline", "--input", f"{bucket}/old/*", "--output", f"{tmp_path}/out"],
        ["pipeline", "--input", __file__, "--output", f"{bucket}/refused"],
        ["pipeline", "clean", "--output", f"{bucket}/refused"],
        ["trainer", "train", "--data", f"{bucket}/train/data", "--model", f"{tmp_path}/model", "--device", "cpu"],
        ["trainer", "neighbors", "--model", f"{bucket}/train/whole", "fox"],
    ):
        stores.fail(command, said)


def test_a_bucket_that_is_not_there(bucket: str, tmp_path: Path) -> None:
    stores.fail(["pipeline", "--input", "s3://none/*", "--output", f"{tmp_path}/out"], "NoSuchBucket")
    stores.fail(["pipeline", "--input", __file__, "--output", "s3://none/out"], "NoSuchBucket")
    stores.fail(["pipeline", "--input", f"{bucket}/none/*", "--output", f"{tmp_path}/out"], "found no file")
