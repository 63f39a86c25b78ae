"""S3, Google's store and Azure's, as MinIO, fake-gcs-server and Azurite answer for them: what all must do alike."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.storage import objects, retry, storage
from pipeline.storage.folders import list_files
from tests.engines import azure, stores, wire
from tests.engines.conftest import Record
from tests.engines.stores import Store

pytestmark = pytest.mark.engines

MODEL = ("--dim", "32", "--epochs", "4", "--threads", "1", "--device", "cpu", "--quiet", "--json")


@pytest.fixture(scope="module", params=stores.STORES)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    start = stores.STORES[request.param]
    with start(tmp_path_factory.mktemp(request.param)) as found, pytest.MonkeyPatch.context() as environment:
        found.point_to(environment, found.address)
        yield found


@pytest.fixture
def faulty(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[wire.Faulty]:
    """A proxy before the store, that does as it is told; who begins later than it was made asks it."""
    with wire.faulty(store.address) as proxy:
        store.point_to(monkeypatch, proxy.address)
        yield proxy


def names(uri: str) -> list[str]:
    return sorted(file.name for file in list_files(uri))


def test_every_step(store: Store, corpus: Path, in_process: str, record: Record) -> None:
    stores.whole_way(store.name, f"{store.root}/way", corpus, in_process, record)


def test_files_ranges_and_the_pointer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PART_BYTES", 5 << 20)
    stores.use_files(f"{store.root}/files")


def test_a_listing_of_several_pages(store: Store) -> None:
    folder = f"{store.root}/pages"
    uris = [f"{folder}/{number // 900}/x{number:04}" for number in range(1005)]
    for uri in uris:
        storage.write_bytes(uri, b"x")
    assert [one.uri for one in storage.list_objects(f"{folder}/") or ()] == uris
    assert [one.uri for one in storage.list_objects(f"{folder}/0/x01") or ()] == uris[100:200]
    assert [one.uri for one in storage.list_objects(uris[3]) or ()] == [uris[3]]
    storage.remove_files([*uris[1:], f"{folder}/none"])
    assert names(folder) == ["0/x0000"]


def test_a_file_that_changes_while_it_is_read_is_none_of_both(store: Store) -> None:
    storage.write_bytes(f"{store.root}/changing", b"a" * (3 << 20))
    with storage.open_binary(f"{store.root}/changing") as stream:
        stream.read(10)
        storage.write_bytes(f"{store.root}/changing", b"b" * (3 << 20))
        with pytest.raises(OSError, match=rf"{store.root}/changing: found another version than before"):
            stream.read()


def test_two_publishers(store: Store) -> None:
    stores.race(f"{store.root}/race")


#: Where a run is killed: the write of which file, and what is there then. An upload is cut off in its middle.
STAGES = {
    "while the vocabulary is written": "vocab.parquet",
    "while shards are written": "part-00002-of",
    "between the last shard and the list of shards": "shards.parquet",
    "between the shards and the manifest": "manifest.json",
    "between the manifest and the pointer": "LATEST.json",
}


@pytest.fixture(scope="module")
def published(store: Store, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An older text and a newer one in the store; the id of the newer one's dataset."""
    storage.write_bytes(f"{store.root}/old/a.txt", b"an older text of an older day\n" * 99)
    storage.write_bytes(f"{store.root}/new/a.txt", stores.SMALL_TEXT.encode())
    folder = tmp_path_factory.mktemp("new")
    (folder / "a.txt").write_text(stores.SMALL_TEXT)
    done = stores.succeed("pipeline", "--input", f"{folder}/*", "--output", f"{folder}/out", *stores.SMALL)
    return str(json.loads(done)["dataset_id"])


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_is_killed(stage: str, store: Store, published: str, faulty: wire.Faulty) -> None:
    output = f"{store.root}/killed-{list(STAGES).index(stage)}"
    stores.succeed("pipeline", "--input", f"{store.root}/old/*", "--output", output, "--run-id", "old", *stores.SMALL)
    before = storage.read_bytes(f"{output}/LATEST.json")
    words = ["--input", f"{store.root}/new/*", "--output", output, *stores.SMALL]
    faulty.path_rule = lambda method, path: wire.KILLED if method == "PUT" and STAGES[stage] in path else None
    child = stores.begin("pipeline", *words, "--run-id", "dead")
    faulty.kill = child.kill
    _, said = child.communicate(timeout=300)
    assert child.returncode == -signal.SIGKILL, said
    faulty.path_rule = lambda *_: None
    assert storage.read_bytes(f"{output}/LATEST.json") == before
    assert "verified run old" in stores.succeed("pipeline", "verify", "--output", output)
    left = names(f"{output}/runs/dead")
    assert "lease.json" in left
    assert not [name for name in left if STAGES[stage] in name], "half a file is none"
    assert ("manifest.json" in left) == (STAGES[stage] == "LATEST.json")

    done_again = stores.succeed("pipeline", *words, "--run-id", "again")
    assert json.loads(done_again)["dataset_id"] == published
    stores.succeed("pipeline", "clean", "--output", output, "--older-than", "0s")
    left = names(f"{output}/runs/dead")
    if STAGES[stage] == "LATEST.json":  # complete, only unpublished: it is not for clean to judge
        assert "lease.json" not in left
        assert "verified run dead" in stores.succeed("pipeline", "verify", "--output", output, "--run", "dead")
    else:
        assert left == []
    assert "verified run again" in stores.succeed("pipeline", "verify", "--output", output)


def test_a_killed_upload_in_parts_leaves_no_file(store: Store, faulty: wire.Faulty) -> None:
    uri, puts = f"{store.root}/parts/vocab.parquet", list[str]()
    faulty.path_rule = lambda method, path: (
        wire.KILLED if method == "PUT" and not puts.append(path) and len(puts) == 3 else None  # type: ignore[func-returns-value]
    )
    code = f"""
from pipeline.storage import objects, storage
objects.PART_BYTES, objects._PARTS_AT_ONCE = 5 << 20, 1
storage.write_bytes({uri!r}, bytes(17 << 20))
"""
    child = stores.begin("pipeline", before=code)
    faulty.kill = child.kill
    _, said = child.communicate(timeout=120)
    assert child.returncode == -signal.SIGKILL, said
    assert len(puts) == 3
    assert not storage.exists(uri)
    assert names(f"{store.root}/parts") == []


def test_clean_removes_what_a_dead_run_left(store: Store) -> None:
    for name in ("listing.parquet", "lease.json", "mine.txt"):
        storage.write_bytes(f"{store.root}/dead/runs/r/{name}", b"left")
    done = stores.succeed("pipeline", "clean", "--output", f"{store.root}/dead", "--older-than", "0s", "--json")
    assert [item["run"] for item in json.loads(done)["removed"]] == ["r"]
    assert names(f"{store.root}/dead") == ["runs/r/mine.txt"]


def test_a_trainer_that_is_killed(store: Store, tmp_path: Path) -> None:
    text = f"{tmp_path}/a.txt"
    Path(text).write_text(stores.SMALL_TEXT * 20)
    root = f"{store.root}/train"
    stores.succeed("pipeline", "--input", text, "--output", f"{root}/data", *stores.SMALL)
    words = ["train", "--data", f"{root}/data", *MODEL]
    stores.succeed("trainer", *words, "--model", f"{root}/whole")
    model = f"{root}/killed"
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
    assert stores.tables(model) == stores.tables(f"{root}/whole")
    assert not [name for name in names(model) if name.startswith("checkpoints/")]


def checkpoints(model: str) -> list[object]:
    pointer = storage.read_pointer(f"{model}/checkpoints/LATEST.json")
    return [] if pointer is None else list(json.loads(pointer)["checkpoints"])


def kill(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.communicate()


def test_loaders_that_fork_read_what_one_process_reads(store: Store, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch.utils.data")
    from trainer import PairStream

    Path(f"{tmp_path}/a.txt").write_text(stores.SMALL_TEXT * 3)
    data = f"{store.root}/loaded"
    stores.succeed("pipeline", "--input", f"{tmp_path}/a.txt", "--output", data, *stores.SMALL)
    alone = sum(len(batch["center_B"]) for batch in PairStream(data, batch_size=5000))
    loader = torch.DataLoader(
        PairStream(data, batch_size=5000), batch_size=None, num_workers=2, multiprocessing_context="fork"
    )
    assert sum(len(batch["center_B"]) for batch in loader) == alone > 0


@pytest.mark.parametrize("where", ["refused", "wrong key"])
def test_what_the_store_refuses_is_one_line(
    where: str, store: Store, published: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "wait_s", lambda *_: 0.0)
    if where == "refused":
        store.point_to(monkeypatch, "http://127.0.0.1:9")
    elif store.root.startswith("gs"):
        pytest.skip("fake-gcs-server asks for no key")
    for name, value in store.variables(store.address).items() if where == "wrong key" else ():
        monkeypatch.setenv(name, value.replace(stores.SECRET, "d3Jvbmc="))
    said = "Connection refused" if where == "refused" else ""
    for command in (
        ["pipeline", "--input", f"{store.root}/old/*", "--output", f"{tmp_path}/out"],
        ["pipeline", "--input", __file__, "--output", f"{store.root}/refused"],
        ["pipeline", "clean", "--output", f"{store.root}/refused"],
        ["trainer", "train", "--data", f"{store.root}/train/data", "--model", f"{tmp_path}/model", "--device", "cpu"],
        ["trainer", "neighbors", "--model", f"{store.root}/train/whole", "fox"],
    ):
        line = stores.fail(command, f"{store.root}/", said)
        assert any(code in line for code in (said or "SignatureDoesNotMatch", "AuthorizationFailure")), line


def test_a_bucket_that_is_not_there(store: Store, tmp_path: Path) -> None:
    none = store.root.replace("pairs", "none")
    stores.fail(["pipeline", "--input", f"{none}/*", "--output", f"{tmp_path}/out"], f"{none}/*", store.missing)
    stores.fail(["pipeline", "--input", __file__, "--output", f"{none}/out"], f"{none}/out/", store.missing)
    stores.fail(["pipeline", "--input", f"{store.root}/none/*", "--output", f"{tmp_path}/out"], "no file matches")


#: What docs/object-stores.md says that a signature must give, and the work that needs it.
RIGHTS = {
    "rwdl": [
        "pipeline",
        "--input",
        "az://pairs/text/*",
        "--output",
        "az://pairs/limited",
        "--keep",
        "1",
        *stores.SMALL,
    ],
    "rl": ["pipeline", "verify", "--output", "az://pairs/limited"],
}


@pytest.mark.parametrize("store", ["az"], indirect=True)
def test_limited_rights(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signature with the rights that a role needs is enough, and with one less it is not."""
    storage.write_bytes("az://pairs/text/a.txt", stores.SMALL_TEXT.encode())
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"{store.address}/{azure.ACCOUNT}")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", azure.ACCOUNT)
    for rights, words in RIGHTS.items():
        for left_out in ("", *rights):
            given = rights.replace(left_out, "") if left_out else rights
            signature = azure.limited("pairs", given, stores.SECRET)
            monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", signature)
            if not left_out:
                stores.succeed(*words)
                stores.succeed(*words)  # again: the pointer is replaced, and an old run removed
            elif (rights, left_out) != ("rl", "l"):
                line = stores.fail(words, "az://pairs/")
                assert "uthoriz" in line, (rights, left_out)
                assert signature.rpartition("sig=")[2] not in line
