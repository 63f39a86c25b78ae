"""A bad wire between us and a store: the same bytes or one line, no half of a file, no waiting for ever."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main as pipeline
from pipeline.storage import connect, retry, storage
from pipeline.storage.folders import list_files
from pipeline.storage.retry import ATTEMPTS, StoreError
from pipeline.storage.storage import PointerMovedError
from tests.engines import stores, wire
from tests.engines.stores import Store
from trainer.cli import main as trainer

pytestmark = [pytest.mark.engines, pytest.mark.timeout(180)]

SMALL_LINES = stores.SMALL_TEXT.splitlines()
DATA = bytes(range(251)) * 40_000  # 10 MB, in which no two pieces are alike
TRAIN = ("--dim", "8", "--threads", "1", "--device", "cpu", "--quiet", "--json")


@pytest.fixture(scope="module", params=stores.STORES)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    start = stores.STORES[request.param]
    with start(tmp_path_factory.mktemp(request.param)) as found, pytest.MonkeyPatch.context() as environment:
        found.point_to(environment, found.address)
        storage.write_bytes(f"{found.root}/text/a.txt", stores.SMALL_TEXT.encode())
        storage.write_bytes(f"{found.root}/data.bin", DATA)
        yield found


@pytest.fixture
def faulty(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[wire.Faulty]:
    monkeypatch.setattr(retry, "wait_s", lambda *_: 0.0)
    with wire.faulty(store.address) as proxy:
        store.point_to(monkeypatch, proxy.address)
        yield proxy


@pytest.fixture(scope="module")
def proxied(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[wire.Toxiproxy]:
    with wire.toxiproxy(store.address, tmp_path_factory.mktemp("toxiproxy")) as proxy:
        yield proxy


@pytest.fixture
def toxic(store: Store, proxied: wire.Toxiproxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[wire.Toxiproxy]:
    monkeypatch.setattr(retry, "wait_s", lambda *_: 0.05)
    store.point_to(monkeypatch, proxied.address)
    yield proxied
    proxied.reset()


@pytest.fixture(scope="module")
def expected(store: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a run and a training on the local disk come to."""
    folder = tmp_path_factory.mktemp("local")
    (folder / "text").mkdir()
    (folder / "text" / "a.txt").write_text(stores.SMALL_TEXT)
    return build(str(folder))


def build(root: str) -> dict[str, object]:
    out = stores.succeed("pipeline", "--input", f"{root}/text/*", "--output", f"{root}/out", *stores.SMALL)
    stores.succeed("pipeline", "verify", "--output", f"{root}/out")
    stores.succeed("trainer", "train", "--data", f"{root}/out", "--model", f"{root}/model", *TRAIN)
    return {"dataset": json.loads(out)["dataset_id"], "tables": stores.tables(f"{root}/model")}


@pytest.mark.parametrize("fault", wire.ANSWERS)
def test_every_fourth_request_fails(store: Store, fault: str, faulty: wire.Faulty, expected: dict[str, object]) -> None:
    """Also the answers of writes that went through are lost, the pointer's conditional one among them."""
    root = f"{store.root}/every-fourth-{fault}"
    storage.write_bytes(f"{root}/text/a.txt", stores.SMALL_TEXT.encode())
    faulty.rule = lambda number, _: fault if number % 4 == 2 else None
    assert build(root) == expected
    assert faulty.faults > 15
    faulty.rule = lambda *_: None
    assert not [file for file in list_files(root) if file.name.startswith("model/checkpoints/")]


@pytest.mark.parametrize("swap", [1, 2])
def test_a_swap_whose_answer_is_lost_is_not_taken_for_anothers(store: Store, swap: int, faulty: wire.Faulty) -> None:
    uri = f"{store.root}/lost-{swap}/LATEST.json"
    before = None
    if swap == 2:
        storage.swap_pointer(uri, None, before := b"one")
    puts: list[int] = []
    faulty.rule = lambda _, method: "lost" if method == "PUT" and not puts and puts.append(1) is None else None  # type: ignore[func-returns-value]
    storage.swap_pointer(uri, before, b"two")
    assert puts == [1]
    assert storage.read_bytes(uri) == b"two"
    with pytest.raises(PointerMovedError):
        storage.swap_pointer(uri, before, b"three")


@pytest.mark.parametrize(
    ("fault", "said"), [("503", "HTTP status 503"), ("429", "HTTP status 429"), ("reset", "Connection")]
)
def test_writes_that_never_go_through(
    store: Store,
    fault: str,
    said: str,
    faulty: wire.Faulty,
    expected: dict[str, object],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All that is read is answered: the run dies in its middle, in every place where it writes."""
    for kept in (0, 4):  # writes that go through
        root, puts = f"{store.root}/never-{fault}-{kept}", iter(range(1000))
        storage.write_bytes(f"{root}/text/a.txt", stores.SMALL_TEXT.encode())
        faulty.rule = lambda _, method, puts=puts, kept=kept: fault if method == "PUT" and next(puts) >= kept else None  # type: ignore[misc]
        assert pipeline(["--input", f"{root}/text/*", "--output", f"{root}/out", *stores.SMALL]) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(f"error: {root}/out/")
        assert said in error
        assert f"{ATTEMPTS} times in " in error
        faulty.rule = lambda *_: None
        assert [file.name for file in list_files(f"{root}/out")] == []


def test_a_training_whose_writes_never_go_through(
    store: Store, faulty: wire.Faulty, expected: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    root = f"{store.root}/never-trained"
    storage.write_bytes(f"{root}/text/a.txt", stores.SMALL_TEXT.encode())
    stores.succeed("pipeline", "--input", f"{root}/text/*", "--output", f"{root}/out", *stores.SMALL)
    faulty.rule = lambda _, method: "503" if method == "PUT" else None
    words = ["train", "--data", f"{root}/out", *TRAIN]
    assert trainer([*words, "--model", f"{root}/other"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {root}/other/")
    faulty.rule = lambda *_: None
    assert list_files(f"{root}/other") == []
    stores.succeed("pipeline", "verify", "--output", f"{root}/out")


def test_a_truncated_file_that_stays_truncated_is_an_error(store: Store, faulty: wire.Faulty) -> None:
    faulty.rule = lambda *_: "truncated"
    with pytest.raises(StoreError, match=rf"{store.root}/data.bin: .*, {ATTEMPTS} times in "):
        storage.read_bytes(f"{store.root}/data.bin")


TOXICS = {
    "latency": [("latency", "downstream", 1.0, {"latency": 120, "jitter": 80})],
    "slow": [("bandwidth", "upstream", 1.0, {"rate": 6000}), ("bandwidth", "downstream", 1.0, {"rate": 6000})],
    "some are reset midway": [("reset_peer", "downstream", 0.4, {"timeout": 20})],
    "some end after some bytes": [("limit_data", "downstream", 0.5, {"bytes": 300_000})],
    "some uploads end after some bytes": [("limit_data", "upstream", 0.5, {"bytes": 300_000})],
    "cut into small pieces": [
        ("slicer", "downstream", 1.0, {"average_size": 4000, "size_variation": 2000, "delay": 5})
    ],
}


@pytest.mark.parametrize("name", TOXICS)
def test_bad_connections(store: Store, name: str, toxic: wire.Toxiproxy, monkeypatch: pytest.MonkeyPatch) -> None:
    # Slow is not silent: what takes longer than the limits still arrives, if it goes on arriving.
    monkeypatch.setattr(connect, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(connect, "READ_SECONDS", 3)
    for kind, stream, toxicity, attributes in TOXICS[name]:
        toxic.poison(kind, stream, toxicity, **attributes)
    for number in range(2):
        uri = f"{store.root}/bad/{name}/{number}"
        storage.write_bytes(uri, DATA)
        with storage.open_binary(uri) as stream:
            assert stream.read() == DATA
        for offset in range(0, len(DATA), len(DATA) // 5):
            assert storage.read_range(uri, offset, 9999) == DATA[offset : offset + 9999]
    storage.swap_pointer(f"{store.root}/bad/{name}/LATEST.json", None, b"one")
    assert len(list_files(f"{store.root}/bad/{name}")) == 3


def test_the_whole_way_over_connections_that_break(
    store: Store, toxic: wire.Toxiproxy, expected: dict[str, object]
) -> None:
    root = f"{store.root}/breaking"
    storage.write_bytes(f"{root}/text/a.txt", stores.SMALL_TEXT.encode())
    toxic.poison("reset_peer", "downstream", 0.3, timeout=15)
    toxic.poison("limit_data", "upstream", 0.2, bytes=20_000)
    assert build(root) == expected


@pytest.mark.parametrize("kind", ["black hole", "refused", "never an answer"])
def test_a_store_that_is_gone_is_one_line_and_soon(
    store: Store,
    kind: str,
    toxic: wire.Toxiproxy,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(connect, "READ_SECONDS", 0.3)
    if kind == "refused":
        toxic.enable(False)
    else:
        toxic.poison("timeout", "downstream" if kind == "never an answer" else "upstream", timeout=0)
    started = time.monotonic()
    assert pipeline(["--input", f"{store.root}/text/*", "--output", f"{tmp_path}/out"]) == 1
    assert trainer(["train", "--data", f"{store.root}/out", "--model", f"{tmp_path}/model"]) == 1
    lines = capsys.readouterr().err.splitlines()
    seconds = time.monotonic() - started
    toxic.enable(True)
    assert [line.partition(" ")[0] for line in lines] == ["error:", "error:"]
    assert all(f"{ATTEMPTS} times in " in line for line in lines)
    assert seconds < 2 * ATTEMPTS * 10, "as long as its limits allow, not longer"
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / "out").exists()


def test_a_parquet_corpus_whose_store_fails_is_not_called_damaged(
    store: Store, faulty: wire.Faulty, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [line * 20 for line in SMALL_LINES]
    pq.write_table(pa.table({"text": rows}), tmp_path / "a.parquet", compression="none", use_dictionary=False)
    data = (tmp_path / "a.parquet").read_bytes()
    assert len(data) > 1 << 20, "expected more than the first range"
    storage.write_bytes(f"{store.root}/parquet/a.parquet", data)
    words = [
        "--input",
        f"{store.root}/parquet/*",
        "--input-format",
        "parquet",
        "--output",
        f"{tmp_path}/out",
        *stores.SMALL,
    ]
    faulty.rule = lambda _, method: "503" if method == "GET" and _ > 4 else None
    assert pipeline([*words, *stores.SMALL]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {store.root}/parquet/a.parquet: HTTP status 503, {ATTEMPTS} times in ")
    faulty.rule = lambda number, _: "truncated" if number % 3 == 0 else None
    assert pipeline([*words, *stores.SMALL]) == 0
