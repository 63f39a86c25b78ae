"""A reader refuses whatever is not what the manifest says, naming the file, what was found and what was expected."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from pipeline.dataset.manifest import Manifest, parse_manifest
from pipeline.dataset.reader import Dataset, open_dataset
from pipeline.dataset.schema import FormatError, sha256_hex
from pipeline.dataset.shard_index import parse_shards
from pipeline.dataset.shards import COMPRESSIONS, RowGroup, Shard
from pipeline.dataset.vocabulary import make_vocabulary, parse_vocab, save_vocab
from tests.support.datasets import group_of, make_dataset, save_shards

SENTENCES = [[0, 1, 2, 3], [3, 2, 2, 1], [1, 0]]
SHARD = "pairs/pass-00/part-00000-of-00002.parquet"


@pytest.fixture
def uri(tmp_path: Path) -> str:
    groups = [group_of(SENTENCES), group_of(SENTENCES[:1])]
    return make_dataset(tmp_path / "data", passes=[[groups, [group_of(SENTENCES[1:])]], [groups]])


def run_folder(uri: str) -> Path:
    return Path(uri, "runs", "run-1")


def read_all(dataset: Dataset, pass_index: int = 0) -> list[tuple[list[int], list[int]]]:
    pairs = [dataset.read_row_group(ref) for ref in dataset.row_groups(pass_index)]
    return [(center.tolist(), context.tolist()) for center, context in pairs]


def everything(uri: str) -> None:
    """Open, and read every file that a trainer would."""
    dataset = open_dataset(uri)
    dataset.vocabulary()
    for index in range(dataset.passes):
        read_all(dataset, index)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_was_written_is_read(tmp_path: Path, compression: str) -> None:
    groups = [group_of(SENTENCES), group_of(SENTENCES[:1])]
    dataset = open_dataset(make_dataset(tmp_path, passes=[[groups]], compression=compression))
    assert read_all(dataset) == [(center.tolist(), context.tolist()) for center, context in groups]
    assert dataset.passes == 1
    assert dataset.pairs_in_pass(0) == sum(len(center) for center, _ in groups)
    assert [ref.rows for ref in dataset.row_groups(0)] == [len(center) for center, _ in groups]
    assert dataset.dataset_id == sha256_hex((run_folder(dataset.uri) / "manifest.json").read_bytes())


def test_a_pass_is_read_by_itself(uri: str) -> None:
    dataset = open_dataset(uri)
    assert {ref.path for ref in dataset.row_groups(1)} == {"pairs/pass-01/part-00000-of-00001.parquet"}


def test_any_flipped_bit_is_found(uri: str) -> None:
    rng = np.random.Philox(key=5)
    files = sorted(path for path in Path(uri).rglob("*") if path.suffix in (".json", ".parquet"))
    for file in files:
        if file.name in ("inputs.parquet", "run.json"):
            continue  # for people; `verify` looks at them
        good = file.read_bytes()
        for place in (rng.random_raw(24) % np.uint64(len(good) * 8)).tolist():
            damaged = bytearray(good)
            damaged[place // 8] ^= 1 << place % 8
            file.write_bytes(damaged)
            with pytest.raises(FormatError) as error:
                everything(uri)
            assert "\n" not in str(error.value)
        file.write_bytes(good)
    everything(uri)


def test_truncated_missing_extra_and_swapped_shards(uri: str) -> None:
    shard = run_folder(uri) / SHARD
    other = shard.with_name("part-00001-of-00002.parquet")
    good = shard.read_bytes()
    shard.write_bytes(good[:-100])
    with pytest.raises(FormatError, match=rf"part-00000-of-00002\.parquet: found {len(good) - 100} bytes, expected"):
        open_dataset(uri)
    shard.unlink()
    with pytest.raises(FormatError, match=r"part-00000-of-00002\.parquet: found no file, expected a pair shard"):
        open_dataset(uri)
    shard.write_bytes(good[:-1] + b"x")
    with pytest.raises(FormatError, match="footer"):
        everything(uri)
    shard.write_bytes(good)
    shutil.copy(shard, shard.with_name("part-00009-of-00002.parquet"))
    everything(uri)  # a stranger in the folder is not read: the list says what is
    pair = good, other.read_bytes()
    shard.write_bytes(pair[1])
    other.write_bytes(pair[0])
    with pytest.raises(FormatError):
        everything(uri)


def rewrite_manifest(uri: str, change: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
    """Change the manifest and the pointer's digest of it, as a forger would."""
    path, pointer = run_folder(uri) / "manifest.json", Path(uri, "LATEST.json")
    fields = json.loads(path.read_bytes())
    change(fields)
    path.write_text(json.dumps(fields))
    latest = json.loads(pointer.read_bytes())
    pointer.write_text(json.dumps({**latest, "manifest_sha256": sha256_hex(path.read_bytes())}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format_version=2), "found format_version 2, expected 1"),
        (lambda m: m.update(format_version=True), "found format_version True, expected 1"),
        (lambda m: m.pop("passes"), "missing required field passes"),
        (lambda m: m["corpus"].pop("tokens"), "corpus: Object missing required field tokens"),
        (lambda m: m["vocabulary"].update(rows="4"), r"manifest\.json: vocabulary\.rows: found str, expected int"),
        (lambda m: m["corpus"].update(bytes=-1), r"corpus\.bytes: found another number, expected int >= 0"),
        (lambda m: m["corpus"].update(size=1), "corpus: Object contains unknown field size"),
        (lambda m: m["vocabulary"].update(rows=3), "found 4 rows, expected 3"),
        (lambda m: m["passes"][0].update(pairs=7), "pass 0: found 2 shards of .* expected 2 of 7"),
        (lambda m: m["files"].pop("vocab.parquet"), "no entry for vocab.parquet"),
        (lambda m: m["files"].update({"../../etc/passwd": {"bytes": 1, "sha256": "0"}}), "relative path inside"),
        (lambda m: m["files"]["vocab.parquet"].update(sha256="0" * 64), "found sha256 .*, expected 0000"),
    ],
)
def test_a_manifest_that_is_not_true(uri: str, change: Callable[[dict], object], message: str) -> None:  # type: ignore[type-arg]
    rewrite_manifest(uri, change)
    with pytest.raises(FormatError, match=message):
        everything(uri)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no valid JSON"),
        (b"[]", "found a JSON list, expected an object"),
        (b'{"format_version": 9, "run": "x", "manifest_sha256": ""}', "found format_version 9, expected 1"),
        (b'{"format_version": 1, "run": "../x", "manifest_sha256": ""}', "plain name of a folder"),
        (b'{"format_version": 1, "run": "gone", "manifest_sha256": "0"}', "found no file"),
    ],
)
def test_a_pointer_that_is_not_true(uri: str, content: bytes, message: str) -> None:
    Path(uri, "LATEST.json").write_bytes(content)
    with pytest.raises(FormatError, match=message):
        open_dataset(uri)


def test_nothing_published_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"LATEST\.json: found no file, expected a published dataset"):
        open_dataset(str(tmp_path))


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "", "a//b", "s3://b/x", "C:\\x", "./x"])
def test_a_shard_list_cannot_leave_the_folder(name: str) -> None:
    shard = Shard(0, name, 1, 1, "", "", "", (RowGroup(4, 1, 1, ""),))
    with pytest.raises(FormatError, match="relative path inside the folder"):
        parse_shards(save_shards([shard]).to_pybytes(), "shards.parquet")


def test_ids_outside_the_vocabulary_are_refused(tmp_path: Path) -> None:
    pairs = np.array([0, 1, 7], np.int32), np.array([0, 1, 1], np.int32)
    dataset = open_dataset(make_dataset(tmp_path, make_vocabulary(["a", "b"], [2, 1]), [[[pairs]]]))
    with pytest.raises(FormatError, match="row group 0: found center id 7, expected 0 to 1"):
        read_all(dataset)


def forge_shard(uri: str, table: pa.Table) -> None:
    """Put another Parquet file in a shard's place, with checksums that fit it."""
    name = "pairs/pass-00/part-00000-of-00001.parquet"
    path = run_folder(uri) / name
    pq.write_table(table, path, store_schema=False)
    data, footer = path.read_bytes(), pq.read_metadata(path)
    start, columns = len(b"PAR1"), range(footer.num_columns)
    stop = start + sum(footer.row_group(0).column(i).total_compressed_size for i in columns)
    group = RowGroup(start, stop - start, footer.num_rows, xxhash.xxh3_64_hexdigest(data[start:stop]))
    shard = Shard(
        0, name, footer.num_rows, len(data), sha256_hex(data), "", xxhash.xxh3_64_hexdigest(data[stop:]), (group,)
    )
    shards = save_shards([shard]).to_pybytes()
    (run_folder(uri) / "shards.parquet").write_bytes(shards)
    entry = {"bytes": len(shards), "sha256": sha256_hex(shards)}
    rewrite_manifest(uri, lambda m: m["files"].update({"shards.parquet": entry}))


@pytest.mark.parametrize(
    "columns",
    [
        {"center": pa.array([0, 1], pa.int32()), "other": pa.array([0, 1], pa.int32())},
        {"context": pa.array([0, 1], pa.int32()), "center": pa.array([0, 1], pa.int32())},
        {"center": pa.array([0, 1], pa.int32()), "context": pa.array([0, 1], pa.int64())},
        {"center": pa.array([0, 1], pa.int32()), "context": pa.array([0, None], pa.int32())},
    ],
    ids=["name", "order", "type", "null"],
)
def test_other_columns_types_and_nulls_are_refused(tmp_path: Path, columns: dict[str, pa.Array]) -> None:
    uri = make_dataset(tmp_path, make_vocabulary(["a", "b"], [2, 1]), [[[group_of([[0, 1]])]]])
    fields = [pa.field(name, column.type, nullable=column.null_count > 0) for name, column in columns.items()]
    forge_shard(uri, pa.table(list(columns.values()), schema=pa.schema(fields)))
    with pytest.raises(
        FormatError, match=r"found columns \(.*\), expected \(center: int32 not null, context: int32 not"
    ):
        everything(uri)


def test_a_vocabulary_file_that_is_none() -> None:
    good = save_vocab(make_vocabulary(["a", "b"], [2, 1])).to_pybytes()
    assert parse_vocab(good, "v").tokens == ["a", "b"]
    for data, message in [(b"", "unreadable Parquet"), (good[:-10], "unreadable Parquet"), (b"PAR1" * 9, "unreadable")]:
        with pytest.raises(FormatError, match=message):
            parse_vocab(data, "v")
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"word": ["a"]}), sink)
    with pytest.raises(FormatError, match="v: found columns"):
        parse_vocab(sink.getvalue().to_pybytes(), "v")


def test_equal_manifests_are_equal_bytes(uri: str) -> None:
    data = (run_folder(uri) / "manifest.json").read_bytes()
    manifest = parse_manifest(data, "manifest.json")
    assert isinstance(manifest, Manifest)
    assert manifest.to_json() == data
