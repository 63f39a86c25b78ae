"""Datasets and models made to do harm: no code runs, nothing outside is read, memory is bounded; one line says why."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from pipeline.dataset.reader import open_dataset
from pipeline.dataset.schema import SHARDS_SCHEMA, VOCAB_SCHEMA, FormatError, canonical_json
from pipeline.dataset.shard_index import parse_shards
from pipeline.dataset.verify import verify_run
from pipeline.dataset.vocabulary import make_vocabulary, parse_vocab
from pipeline.storage import storage
from tests.support.datasets import group_of, make_dataset
from trainer.checkpoints.write import Checkpoints, find_unfinished, load_checkpoint
from trainer.data.position import Progress
from trainer.models.store import Model, load_model, save_model

#: Names that a folder's own file never has. The last ones are codes where a URI is read, and plain names elsewhere.
LEAVING = [
    "/etc/passwd", "../x", "a/../../x", "..", ".", "", "a//b", "..\\x", "C:\\x", "s3://other/x", "file:///etc/passwd",
    "https://host/x", "a\0b", "a\nb", "\ud800",
]  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make_dataset(tmp_path / "data", passes=[[[group_of([[0, 1, 2, 1, 0]] * 50)], [group_of([[2, 1]] * 9)]]])
    return tmp_path / "data"


def sha(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def change_manifest(data: Path, change: Callable[[dict[str, Any]], object], text: bytes | None = None) -> None:
    """Change a manifest, and the pointer with it, as whoever may write to the folder can."""
    manifest, pointer = data / "runs/run-1/manifest.json", data / "LATEST.json"
    fields = json.loads(manifest.read_bytes())
    change(fields)
    # Canonical, as canonical_json has it, but for numbers that it refuses.
    plain = (json.dumps(fields, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode(errors="surrogatepass")
    content = plain if text is None else text
    manifest.write_bytes(content)
    pointer.write_bytes(canonical_json(json.loads(pointer.read_bytes()) | {"manifest_sha256": sha(content)["sha256"]}))


def change_listed(data: Path, name: str, content: bytes) -> None:
    """Replace a file that the manifest lists; all digests agree."""
    (data / "runs/run-1" / name).write_bytes(content)
    change_manifest(data, lambda fields: fields["files"].update({name: sha(content)}))


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(FormatError) as caught:
        act()
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 2000
    return line


@pytest.mark.parametrize("name", LEAVING)
def test_names_that_leave_the_dataset(name: str, data: Path) -> None:
    change_manifest(data, lambda fields: fields["files"].update({name: {"bytes": 1, "sha256": "x"}}))
    assert "expected a relative path inside the folder" in refused(lambda: open_dataset(str(data)))
    rows = pq.read_table(data / "runs/run-1/shards.parquet").to_pylist()
    if "\ud800" not in name:  # which no Parquet string can be
        assert "expected a relative path" in refused(lambda: parse_shards(shard_list([rows[0] | {"shard": name}]), "p"))
    pointer = json.loads((data / "LATEST.json").read_bytes()) | {"run": name}
    (data / "LATEST.json").write_text(json.dumps(pointer))
    assert "LATEST.json: found the " in refused(lambda: open_dataset(str(data)))
    assert refused(lambda: open_dataset(str(data), name)).startswith("--run: found the ")


def shard_list(rows: list[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=SHARDS_SCHEMA), sink)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_name_in_codes_is_a_name(scheme: str, data: Path, tmp_path: Path) -> None:
    """A file outside, of the right content even, is not what "%2e%2e" leads to."""
    (tmp_path / "secret").write_bytes(b"outside")
    coded = "%2e%2e/%2e%2e/%2e%2e/secret"
    change_manifest(data, lambda fields: fields["files"].update({coded: sha(b"outside")}))
    assert "found no file" in refused(lambda: verify_run(f"{scheme}{data}"))
    assert storage.local_path(storage.join(f"file://{tmp_path}", "%2e%2e", "a b")) == f"{tmp_path}/%2e%2e/a b"
    assert storage.join("https://h/d", "runs", "a?b#c%2e") == "https://h/d/runs/a%3Fb%23c%252e"
    assert storage.join("s3://b/d", "a%2eb") == "s3://b/d/a%2eb"


NESTED = b'{"format_version": 1, "options": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
MANIFESTS: dict[str, Callable[[dict[str, Any]], object] | bytes] = {
    "nested deeply": NESTED,
    "a number of 5,000 digits": b'{"format_version": ' + b"9" * 5000 + b"}",
    "no UTF-8": b"\xff{}",
    "a list": b"[]",
    "nothing": b"",
    "an enormous number": lambda m: m["corpus"].update(tokens=10**4000),
    "above an int64": lambda m: m["vocabulary"].update(rows=1 << 63),
    "below 0": lambda m: m["corpus"].update(bytes=-1),
    "a fraction": lambda m: m["corpus"].update(tokens=1.5),
    "a truth value": lambda m: m["vocabulary"].update(rows=True),
    "an infinite number": lambda m: m["corpus"].update(lines=float("inf")),
    "no number": lambda m: m["passes"][0].update(pairs=float("nan")),
    "rounds of phrases without end": lambda m: m["options"].update(phrases=10**17),
    "rounds of phrases in words": lambda m: m["options"].update(phrases="many"),
    "passes without end": lambda m: m.update(passes=[m["passes"][0]] * 10_000),
    "a long field": lambda m: m["corpus"].update(tokens="x" * 10_000_000),
    "files as a list": lambda m: m.update(files=[]),
    "a file as a number": lambda m: m["files"].update({"vocab.parquet": 1}),
    "no vocabulary": lambda m: m["files"].pop("vocab.parquet"),
}  # fmt: skip


@pytest.mark.parametrize("name", MANIFESTS)
def test_hostile_manifests(name: str, data: Path) -> None:
    how = MANIFESTS[name]
    change_manifest(data, (lambda _: None) if isinstance(how, bytes) else how, how if isinstance(how, bytes) else None)
    named = "shards.parquet" if name == "passes without end" else "manifest.json"
    assert named in refused(lambda: open_dataset(str(data)))


@pytest.mark.parametrize("change", [
    {"row_groups": []}, {"rows": 1 << 60}, {"bytes": 1 << 60}, {"bytes": -1}, {"rows": 1}, {"bytes": 5},
    {"offset": -4}, {"offset": 1 << 62}, {"offset": 0}, {"group_rows": 0}, {"group_rows": -1}, {"group_rows": 1 << 60},
    {"group_bytes": 0}, {"group_bytes": 1 << 60}, {"group_bytes": -(1 << 60)},
], ids=str)  # fmt: skip
def test_hostile_lists_of_shards(change: dict[str, Any], data: Path) -> None:
    rows = pq.read_table(data / "runs/run-1/shards.parquet").to_pylist()
    group = rows[0]["row_groups"][0]
    group |= {name.removeprefix("group_"): v for name, v in change.items() if name == "offset" or "group_" in name[:6]}
    rows[0] |= {name: v for name, v in change.items() if name in rows[0]}
    if "group_rows" in change:
        rows[0]["rows"] = max(0, change["group_rows"])
    change_listed(data, "shards.parquet", shard_list(rows))

    def read_all() -> None:
        dataset = open_dataset(str(data))
        for ref in dataset.row_groups(0):
            dataset.read_row_group(ref)

    refused(read_all)


def test_a_table_that_decompresses_without_end() -> None:
    token, rows = "x" * 100_000, 1500  # 150 MB of text in some kilobytes
    table = pa.table([pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), [token]).cast(pa.string()),
                      pa.array([1] * rows, pa.int64())], schema=VOCAB_SCHEMA)  # fmt: skip
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", store_schema=False)
    data = sink.getvalue()
    assert data.size < 30_000
    assert "stored ones, expected at most 1000 times as many" in refused(lambda: parse_vocab(data, "vocab.parquet"))


class Evil:
    """Unpickled, it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def payloads(trace: Path) -> dict[str, bytes]:
    """What would run code in a reader that unpickles, in every wrapping that such readers take."""
    import io
    import zipfile

    evil = pickle.dumps(Evil(trace))
    npy, archive = io.BytesIO(), io.BytesIO()
    np.save(npy, np.array([Evil(trace)], object), allow_pickle=True)
    with zipfile.ZipFile(archive, "w") as file:  # as torch.save writes
        file.writestr("archive/data.pkl", evil)
        file.writestr("archive/version", "3\n")
    field = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": evil}
    schema = pa.schema([pa.field("token", pa.string(), False, field), pa.field("count", pa.int64(), False)],
                       {b"pandas": evil, b"numpy": evil})  # fmt: skip
    parquet = pa.BufferOutputStream()
    pq.write_table(pa.table([["a", "b", "c"], [3, 2, 1]], schema=schema), parquet)
    return {"pickle": evil, "npy": npy.getvalue(), "zip": archive.getvalue(), "parquet": bytes(parquet.getvalue())}


def test_the_payloads_do_harm_where_they_are_unpickled(tmp_path: Path) -> None:
    pickle.loads(payloads(tmp_path / "trace")["pickle"])
    assert (tmp_path / "trace").is_dir()


@pytest.mark.parametrize("kind", ["pickle", "npy", "zip", "parquet"])
@pytest.mark.parametrize(
    "name", ["vocab.parquet", "inputs.parquet", "shards.parquet", "manifest.json", "LATEST.json", "part"]
)
def test_no_code_runs_from_a_dataset(name: str, kind: str, data: Path, tmp_path: Path) -> None:
    content = payloads(tmp_path / "trace")[kind]
    if name == "LATEST.json":
        (data / name).write_bytes(content)
    elif name == "manifest.json":
        change_manifest(data, lambda _: None, content)
    elif name == "part":
        next(data.rglob("part-00000-*.parquet")).write_bytes(content)
    else:
        change_listed(data, name, content)

    def read() -> None:
        verify_run(str(data))

    if (name, kind) == (
        "vocab.parquet",
        "parquet",
    ):  # its columns are in order; that it is pickled metadata is no matter
        assert parse_vocab(content, "p").tokens == ["a", "b", "c"]
    refused(read)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("kind", ["pickle", "npy", "zip", "parquet"])
@pytest.mark.parametrize("name", ["model.safetensors", "vocab.parquet", "model.json", "LATEST.json"])
def test_no_code_runs_from_a_model(name: str, kind: str, tmp_path: Path) -> None:
    model, content = tmp_path / "model", payloads(tmp_path / "trace")[kind]
    tables = np.ones((2, 4), np.float32)
    info: dict[str, Any] = {"config": {}, "lineage": {}, "metrics": {}}
    version = save_model(str(model), Model(tables, tables, make_vocabulary(["a", "b"], [2, 1]), info), {})
    path = model / ("LATEST.json" if name == "LATEST.json" else f"versions/{version}/{name}")
    path.write_bytes(content)
    if name in ("model.safetensors", "vocab.parquet"):
        listed = json.loads((model / f"versions/{version}/model.json").read_bytes())
        listed["files"][name] = sha(content)
        (model / f"versions/{version}/model.json").write_bytes(canonical_json(listed))
    if name != "LATEST.json":
        pointer = json.loads((model / "LATEST.json").read_bytes())
        pointer["model_sha256"] = sha((model / f"versions/{version}/model.json").read_bytes())["sha256"]
        (model / "LATEST.json").write_bytes(canonical_json(pointer))
    refused(lambda: load_model(str(model)))
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("name", LEAVING)
def test_names_that_leave_the_model(name: str, tmp_path: Path) -> None:
    (tmp_path / "LATEST.json").write_text(json.dumps({"format_version": 1, "version": name, "model_sha256": "x"}))
    refused(lambda: load_model(str(tmp_path)))
    refused(lambda: load_model(str(tmp_path), name))
    (tmp_path / "checkpoints").mkdir()
    fields = {"format_version": 1, "version": "v", "config": {}, "dataset_id": "d", "run": "r"}
    listed = [{"name": name, "sha256": "x"}]
    (tmp_path / "checkpoints/LATEST.json").write_text(json.dumps({**fields, "checkpoints": listed}))
    refused(lambda: find_unfinished(str(tmp_path)))


STATES: dict[str, Any] = {
    "no arrays": lambda s: s.pop("arrays"),
    "no progress": lambda s: s.pop("progress"),
    "progress as a list": lambda s: s.update(progress=[]),
    "an enormous number": lambda s: s["progress"].update(pairs=1 << 70),
    "a negative one": lambda s: s["progress"].update(pairs=-1),
    "words for numbers": lambda s: s["progress"].update(pairs="1"),
    "a truth value": lambda s: s["progress"].update(epoch=True),
    "words in a list": lambda s: s["progress"].update(losses=["x"], epoch_pairs=[1]),
    "a number for a list": lambda s: s["progress"].update(losses=1),
    "an unknown field": lambda s: s["progress"].update(more=1),
    "legs in words": lambda s: s["progress"].update(legs=[["1", 1, 1, 1]]),
    "a short leg": lambda s: s["progress"].update(legs=[[1, 1, 1]]),
    "a leg of no ranks": lambda s: s["progress"].update(legs=[[0, 1, 1, 1]]),
    "audit in words": lambda s: s["progress"].update(audit=["x"]),
}


@pytest.mark.parametrize("content", [*STATES, "pickle", "npy", "zip"])
def test_no_code_runs_from_a_checkpoint_and_odd_ones_are_passed_over(content: str, tmp_path: Path) -> None:
    checkpoints = Checkpoints(str(tmp_path), {}, "d", keep=2)
    checkpoints.save(Progress(pairs=7, losses=[0.5], epoch_pairs=[7]), {"input": np.zeros((2, 2), np.float32)})
    folder, pointer = tmp_path / "checkpoints/000000000000007", tmp_path / "checkpoints/LATEST.json"
    state = json.loads((folder / "state.json").read_bytes())
    if content in STATES:
        STATES[content](state)
    else:
        data = payloads(tmp_path / "trace")[content]
        (folder / "state.safetensors").write_bytes(data)
        state["arrays"] = {"bytes": len(data), "xxh3": xxhash.xxh3_128_hexdigest(data)}
    (folder / "state.json").write_bytes(canonical_json(state))
    fields = json.loads(pointer.read_bytes())
    fields["checkpoints"][0]["sha256"] = sha((folder / "state.json").read_bytes())["sha256"]
    pointer.write_bytes(canonical_json(fields))
    unfinished, warnings = find_unfinished(str(tmp_path)), list[str]()
    assert unfinished is not None
    assert load_checkpoint(str(tmp_path), unfinished, lambda *_: None, warnings.append) is None
    assert len(warnings) == 1
    assert not (tmp_path / "trace").exists()
