"""Text, dataset and model in an object store: a stand-in for S3 on loopback, through the same two commands."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

boto3 = pytest.importorskip("boto3")
pytest.importorskip("moto.server")

from pipeline.cli import main as pipeline  # noqa: E402
from pipeline.dataset.reader import open_dataset  # noqa: E402
from pipeline.dataset.schema import FormatError  # noqa: E402
from pipeline.inputs.discover import list_inputs  # noqa: E402
from pipeline.storage import (  # noqa: E402
    folders,
    objects,
    retry,
    storage,
)
from pipeline.storage.objects import StoredObject  # noqa: E402
from pipeline.storage.storage import PointerMovedError  # noqa: E402
from tests.e2e.test_text_to_vectors import planted_text  # noqa: E402
from tests.engines import wire  # noqa: E402
from tests.support.serving import moto_s3  # noqa: E402
from tests.support.subword_models import make_subword_model  # noqa: E402
from tests.trainer.models.test_store import make_model  # noqa: E402
from trainer.checkpoints.write import Checkpoints, find_unfinished, load_checkpoint, remove_checkpoints  # noqa: E402
from trainer.cli import main as trainer  # noqa: E402
from trainer.data.position import Progress  # noqa: E402
from trainer.keyed_vectors.vectors import load  # noqa: E402
from trainer.models.mapped import map_model  # noqa: E402
from trainer.models.store import save_model  # noqa: E402
from trainer.versions.rollback import roll_back  # noqa: E402

# botocore itself still asks for the time in a way that Python 3.12 warns of.
pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with moto_s3() as address, pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", address)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "none")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="pairs")
        yield "s3://pairs"


def test_files_and_the_pointer(bucket: str) -> None:
    uri = f"{bucket}/files/LATEST.json"
    assert storage.read_pointer(uri) is None
    assert not storage.exists(uri)
    with pytest.raises(FormatError, match=r"LATEST\.json: found no file"):
        open_dataset(f"{bucket}/files")
    storage.write_bytes(f"{bucket}/files/text.gz", b"hello")
    assert storage.read_range(f"{bucket}/files/text.gz", 1, 3) == b"ell"
    storage.swap_pointer(uri, None, b"one")
    storage.swap_pointer(uri, b"one", b"two")
    storage.swap_pointer(uri, b"one", b"two")  # a retry of a swap that went through
    for expected in (b"one", None):
        with pytest.raises(PointerMovedError):
            storage.swap_pointer(uri, expected, b"three")
    assert storage.read_bytes(uri) == b"two"


def test_from_text_to_neighbours(
    bucket: str, tmp_path: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # a model's file is copied there
    text = planted_text(400)
    storage.write_bytes(f"{bucket}/text/a.txt", text.encode())
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text(text)
    flags = ["--min-count", "1", "--shard-pairs", "5000", "--json"]
    digests = []
    for root in (bucket, str(tmp_path)):
        assert pipeline(["--input", f"{root}/text/*.txt", "--output", f"{root}/data", *flags]) == 0
        digests.append(json.loads(capsys.readouterr().out)["dataset_id"])
    assert digests[0] == digests[1]
    assert trainer(["train", "--data", f"{bucket}/data", "--model", f"{bucket}/model", "--dim", "8"]) == 0
    assert trainer(["neighbors", "--model", f"{bucket}/model", "fox", "--top", "3", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(answer["words"][0]["neighbors"]) == 3
    near = load(f"{bucket}/model").most_similar("fox", topn=3)
    assert [token for token, _ in near] == [entry["token"] for entry in answer["words"][0]["neighbors"]]
    assert trainer(["neighbors", "--model", f"{bucket}/model", "fox", "--explain", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["explained"]["pairs"] > 0


def keys(prefix: str) -> list[str]:
    found = boto3.client("s3").list_objects_v2(Bucket="pairs", Prefix=prefix)
    return [one["Key"] for one in found.get("Contents", [])]


def test_old_checkpoints_are_removed(bucket: str) -> None:
    checkpoints = Checkpoints(f"{bucket}/unfinished", {}, "d", keep=2)
    for pairs in (1, 2, 3):
        checkpoints.save(Progress(pairs=pairs), {"input": np.zeros((2, 2), np.float32)})
    assert keys("unfinished/") == [
        "unfinished/checkpoints/000000000000002/state.json",
        "unfinished/checkpoints/000000000000002/state.safetensors",
        "unfinished/checkpoints/000000000000003/state.json",
        "unfinished/checkpoints/000000000000003/state.safetensors",
        "unfinished/checkpoints/LATEST.json",
    ]
    unfinished = find_unfinished(f"{bucket}/unfinished")
    assert unfinished is not None
    found: dict[str, Any] = {}
    assert load_checkpoint(f"{bucket}/unfinished", unfinished, lambda _, arrays: found.update(arrays), print)
    np.testing.assert_array_equal(found["input"], np.zeros((2, 2)))
    remove_checkpoints(f"{bucket}/unfinished")
    assert keys("unfinished/") == []
    remove_checkpoints(f"{bucket}/unfinished")


def test_versions_in_a_store(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed publisher left goes once the pointer is newer; what is newer than the pointer stays."""
    uri = f"{bucket}/versions"
    first = save_model(uri, make_model(), {})
    written = {one.uri: one.modified for one in storage.list_objects(uri) or ()}
    assert save_model(uri, make_model(), {}) == first
    assert written == {one.uri: one.modified for one in storage.list_objects(uri) or ()}
    for name in ("old/model.safetensors", "marked/model.json", "marked/unpublished", "new/run.json", "mine/x"):
        storage.write_bytes(f"{uri}/versions/{name}", b"half")
    ages = {"old": -9.0, "marked": -9.0, "mine": -9.0, "new": 9.0}
    listed = objects.list_prefix

    def aged(prefix: str) -> Iterator[StoredObject]:
        for one in listed(prefix):
            yield one._replace(modified=one.modified + ages.get(one.uri.split("/")[-2], 0.0))

    monkeypatch.setattr(objects, "list_prefix", aged)
    second = save_model(uri, make_model(1), {})
    assert {key.split("/")[2] for key in keys("versions/versions/")} == {first, second, "new", "mine"}
    third = save_model(uri, make_model(2), {}, keep=2)
    assert {key.split("/")[2] for key in keys("versions/versions/")} == {second, third, "new", "mine"}
    assert roll_back(uri)["version"] == second
    assert not [key for key in keys("versions/") if key.endswith("unpublished")]


def test_subwords_in_a_store(bucket: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third file is fetched at its first use, and goes with its version."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = make_subword_model()
    first = save_model(f"{bucket}/subwords", model, {})
    table, expected = map_model(f"{bucket}/subwords").subwords, model.subwords
    assert table is not None
    assert expected is not None
    assert len([*tmp_path.rglob("*.safetensors")]) == 1
    np.testing.assert_array_equal(table.rows_RD, expected.rows_RD)
    assert len([*tmp_path.rglob("*.safetensors")]) == 2
    second = save_model(f"{bucket}/subwords", make_subword_model(seed=1), {}, keep=1)
    found = {key.rpartition("versions/")[2] for key in keys("subwords/versions/")}
    assert f"{second}/subwords.safetensors" in found
    assert not [name for name in found if name.startswith(first)]


@pytest.fixture
def faulty(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[wire.Faulty]:
    """Requests that go through a proxy, which does as it is told, and are repeated at once."""
    monkeypatch.setattr(retry, "wait_s", lambda *_: 0.0)
    with wire.faulty(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        yield proxy


@pytest.mark.parametrize("fault", wire.ANSWERS)
def test_a_store_that_fails_for_a_moment(bucket: str, fault: str, faulty: wire.Faulty) -> None:
    """Every third request fails, the first one too."""
    faulty.rule = lambda number, _: fault if number % 3 == 1 else None
    uri = f"{bucket}/faults-{fault}/file"
    assert storage.read_pointer(uri) is None
    storage.write_bytes(uri, b"hello")
    assert storage.read_bytes(uri) == b"hello"
    assert storage.read_range(uri, 1, 3) == b"ell"
    storage.swap_pointer(uri, b"hello", b"bye")
    assert storage.exists(uri)
    assert [one.uri for one in storage.list_objects(f"{bucket}/faults-{fault}/") or ()] == [uri]
    storage.remove_files([uri, f"{uri}-none"])
    assert not storage.exists(uri)


def test_a_range_is_one_request(bucket: str, faulty: wire.Faulty) -> None:
    uri, data = f"{bucket}/one-request", bytes(range(256)) * (40 << 10)
    storage.write_bytes(uri, data)
    before = faulty.requests
    assert storage.read_range(uri, 1 << 20, 2 << 20) == data[1 << 20 :][: 2 << 20]
    assert faulty.requests - before == 1
    with storage.open_binary(uri) as stream:
        assert stream.read() == data
    assert faulty.requests - before == 1 + 4, "expected 1, 2, 4 and 3 MiB"


def test_a_forked_process_reads_and_writes(bucket: str) -> None:
    """What talks to stores in the parent runs on threads, which a fork has none of."""
    storage.write_bytes(f"{bucket}/fork/parent", b"of the parent")
    child = os.fork()
    if not child:
        status = 1
        try:
            with ThreadPoolExecutor(8) as pool:
                [read] = set(pool.map(storage.read_bytes, [f"{bucket}/fork/parent"] * 8))
            storage.write_bytes(f"{bucket}/fork/child", read + b" and the child")
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert storage.read_bytes(f"{bucket}/fork/child") == b"of the parent and the child"


def names_below(uri: str) -> list[str]:
    return sorted(file.name for file in folders.list_files(uri))


def test_a_failed_run_leaves_its_dead_letters_alone(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    storage.write_bytes(f"{bucket}/bad/a.txt", b"a b a b\n" * 9 + b"\xff\n")
    words = ["--input", f"{bucket}/bad/*", "--output", f"{bucket}/failed", "--run-id", "r", "--min-count", "1"]
    assert pipeline(words) == 1
    assert "set aside" in capsys.readouterr().err
    assert names_below(f"{bucket}/failed") == ["runs/r/dead-letters/part-00000.parquet"]
    assert pipeline(["clean", "--output", f"{bucket}/failed"]) == 0
    assert len(names_below(f"{bucket}/failed")) == 1
    assert pipeline(["clean", "--output", f"{bucket}/failed", "--older-than", "0s"]) == 0
    assert names_below(f"{bucket}/failed") == []


def test_old_and_dead_runs_are_removed(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    storage.write_bytes(f"{bucket}/few/a.txt", b"a b a b\n" * 9)
    flags = ["--input", f"{bucket}/few/*", "--output", f"{bucket}/kept", "--sample", "0"]
    for name in ("one", "two", "three"):
        assert pipeline([*flags, "--run-id", name, "--keep", "2"]) == 0
    assert runs_of(f"{bucket}/kept") == {"two", "three"}
    for name in ("listing.parquet", "lease.json", "tmp/ids-1.bin", "mine.txt"):
        storage.write_bytes(f"{bucket}/kept/runs/dead/{name}", b"left")
    capsys.readouterr()
    words = ["clean", "--output", f"{bucket}/kept", "--keep", "1", "--json"]
    assert pipeline(words) == 0
    assert [item["run"] for item in json.loads(capsys.readouterr().out)["removed"]] == ["two"]
    assert pipeline([*words, "--older-than", "0s"]) == 0
    assert [item["run"] for item in json.loads(capsys.readouterr().out)["removed"]] == ["dead"]
    assert runs_of(f"{bucket}/kept") == {"three", "dead"}
    assert names_below(f"{bucket}/kept/runs/dead") == ["mine.txt"]
    assert pipeline(["verify", "--output", f"{bucket}/kept"]) == 0


def runs_of(uri: str) -> set[str]:
    return {name.split("/")[1] for name in names_below(uri) if name.startswith("runs/")}


def uploads() -> list[str]:
    found = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"]).list_multipart_uploads(Bucket="pairs")
    return [one["Key"] for one in found.get("Uploads", [])]


def test_a_large_file_goes_in_parts_and_leaves_nothing_where_it_fails(
    bucket: str, faulty: wire.Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "PART_BYTES", 5 << 20)
    uri, data = f"{bucket}/parts/file", bytes(range(256)) * (12 << 12)
    faulty.rule = lambda number, _: "503" if number % 3 == 2 else None
    storage.write_bytes(uri, data)
    faulty.rule = lambda *_: None
    assert storage.read_bytes(uri) == data
    assert [storage.read_range(uri, at, 9) for at in (0, 5 << 20, len(data))] == [data[:9], data[5 << 20 :][:9], b""]
    assert boto3.client("s3").head_object(Bucket="pairs", Key="parts/file")["ETag"].endswith('-3"')
    puts: list[int] = []
    faulty.rule = lambda _, method: "503" if method == "PUT" and (puts.append(1) or len(puts) > 1) else None  # type: ignore[func-returns-value]
    with pytest.raises(retry.StoreError, match=rf"^{uri}: .*(?:reduce your request rate|503 Service)"):
        storage.write_bytes(uri, b"other" * (4 << 20))
    faulty.rule = lambda *_: None
    assert len(puts) <= 4 * retry.ATTEMPTS + 1, "expected each part to be repeated, and no more"
    assert storage.read_bytes(uri) == data
    assert uploads() == []


GLOBS = [
    "text/.h*",
    "text/.h*/x*",
    "te*/a.txt",
    "text/*.txt",
    "text/**",
    "text/**/*.txt",
    "text/*/b?.txt",
    "text/[ab].txt",
    "**/b1.txt",
    "text/.h/*",
    "text/a.txt",
]


@pytest.mark.parametrize("pattern", GLOBS)
def test_a_glob_matches_in_a_store_what_it_matches_on_a_disk(pattern: str, bucket: str, tmp_path: Any) -> None:
    names = [
        "text/a.txt",
        "text/b.txt",
        "text/c.md",
        "text/.hidden.txt",
        "text/s/b1.txt",
        "text/s/t/b1.txt",
        "text/.h/x.txt",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
        storage.write_bytes(f"{bucket}/globs/{name}", b"x")
    found = [
        [(file.name, file.bytes) for file in list_inputs([f"{root}/{pattern}"])]
        for root in (f"{bucket}/globs", tmp_path)
    ]
    assert found[0] == found[1] != []


def test_a_folders_mark_is_no_file(bucket: str) -> None:
    """Consoles make an empty object whose name ends in a slash."""
    for key in ("marks/", "marks/sub/", "marks/sub/a.txt", "marks/empty.txt"):
        boto3.client("s3").put_object(Bucket="pairs", Key=key, Body=b"x" if key.endswith("a.txt") else b"")
    found = [(file.uri, file.bytes) for file in list_inputs([f"{bucket}/marks/*", f"{bucket}/marks/sub/*"])]
    assert found == [(f"{bucket}/marks/empty.txt", 0), (f"{bucket}/marks/sub/a.txt", 1)]


def test_listing_goes_on_where_it_broke(bucket: str, faulty: wire.Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_PAGE", 2)
    uris = [f"{bucket}/pages/{name}" for name in ("a", "ab", "b1", "b2", "b3/x", "b4", "c", "d")]
    for uri in uris:
        storage.write_bytes(uri, b"x")
    for fault in ("503", "truncated"):
        faulty.rule = lambda number, _, fault=fault: fault if number % 2 else None  # type: ignore[misc]
        assert [one.uri for one in storage.list_objects(f"{bucket}/pages/") or ()] == uris
        assert [one.uri for one in storage.list_objects(f"{bucket}/pages/b") or ()] == uris[2:6]
        assert [one.uri for one in storage.list_objects(f"{bucket}/pages/b2") or ()] == uris[3:4]


@pytest.mark.parametrize("name", ["a//b", "a/../b", "./a", "a/"])
def test_names_that_cannot_be_used_are_told_in_one_line(name: str, bucket: str) -> None:
    with pytest.raises(retry.StoreError, match=rf"^{bucket}/odd/{name}: found .*, expected a name that obstore knows$"):
        storage.read_bytes(f"{bucket}/odd/{name}")
