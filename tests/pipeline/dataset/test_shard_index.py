"""A dataset of as many shards as a corpus of hundreds of billions of tokens has: opening and planning stay small."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset import reader, verify
from pipeline.dataset.manifest import SHARDS
from pipeline.dataset.schema import SHARDS_SCHEMA, FormatError
from pipeline.dataset.shard_index import parse_shards
from pipeline.dataset.shards import shard_name
from pipeline.dataset.vocabulary import make_vocabulary
from pipeline.storage import storage
from tests.support.datasets import group_of, make_dataset, publish_dataset, save_shards, totals_of
from trainer.data.batches import Batches

SHARDS_COUNT, GROUPS = 100_000, 4
ROWS = 1 << 20


def many(count: int, groups: int) -> bytes:
    """The bytes of a shards.parquet that lists so many shards of so many row groups."""
    total = count * groups
    group = pa.StructArray.from_arrays(
        [
            pa.array(np.tile(np.arange(groups) * ROWS + 4, count)),
            pa.array(np.full(total, ROWS)),
            pa.array(np.full(total, ROWS)),
            pa.array([f"{number:016x}" for number in range(total)]),
        ],
        fields=list(SHARDS_SCHEMA.field("row_groups").type.value_type),
    )
    hashes = [f"{number:064x}" for number in range(count)]
    columns = [
        np.zeros(count, np.int32), [shard_name(0, number, count) for number in range(count)],
        np.full(count, groups * ROWS), np.full(count, groups * ROWS + 1000), hashes, hashes, hashes,
        pa.ListArray.from_arrays(
            np.arange(0, total + 1, groups, dtype=np.int32), group, type=SHARDS_SCHEMA.field("row_groups").type
        ),
    ]  # fmt: skip
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema=SHARDS_SCHEMA), sink, compression="zstd", write_page_checksum=True)
    data: bytes = sink.getvalue().to_pybytes()
    return data


@pytest.fixture(scope="module")
def listed() -> bytes:
    return many(SHARDS_COUNT, GROUPS)


@pytest.fixture(scope="module")
def dataset(listed: bytes, tmp_path_factory: pytest.TempPathFactory) -> reader.Dataset:
    """Published with its list alone, as in an object store, where opening does not look for each file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.support.datasets.save_shards", lambda _: pa.py_buffer(listed))
        shards, folder = parse_shards(listed, SHARDS), str(tmp_path_factory.mktemp("many"))
        uri = publish_dataset(folder, "run-1", make_vocabulary(["a"], [1]), shards, 1, 10)
        patch.setattr(storage, "is_local", lambda uri: False)
        return reader.open_dataset(uri)


def python_bytes(action: Callable[[], Any]) -> tuple[Any, int]:
    """What an action returns, and the most that Python's objects took meanwhile."""
    tracemalloc.start()
    try:
        return action(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_list_is_kept_as_columns(listed: bytes) -> None:
    shards, peak = python_bytes(lambda: parse_shards(listed, "shards.parquet"))
    assert len(shards) == SHARDS_COUNT
    assert peak < 300 * SHARDS_COUNT  # as objects it was 2,300 bytes a shard, and is 7,000 with 16 row groups
    last = shards[-1]
    assert last.name == shard_name(0, SHARDS_COUNT - 1, SHARDS_COUNT)
    assert [group.offset for group in last.row_groups] == [4 + ROWS * number for number in range(GROUPS)]
    assert last.row_groups[-1].xxh3 == f"{SHARDS_COUNT * GROUPS - 1:016x}"


def test_it_opens_and_holds_together(dataset: reader.Dataset) -> None:
    assert dataset.manifest.passes[0].shards == SHARDS_COUNT
    assert dataset.manifest.passes[0].pairs == SHARDS_COUNT * GROUPS * ROWS
    verify._require_passes(dataset)


def test_each_rank_plans_its_share(dataset: reader.Dataset) -> None:
    batches = Batches(dataset, 0, batch_size=0, seed=1, rank=3, world_size=8)
    pieces = batches._pieces
    assert len(pieces) == batches.left == batches.total == SHARDS_COUNT * GROUPS // 8
    groups = [batches.places[int(index)].group for index in pieces["index"]]
    assert len({(group.shard, group.group) for group in groups}) == len(pieces)
    assert pieces.nbytes <= 20 * len(pieces)


def test_a_name_that_leaves_the_folder_is_found_anywhere_in_the_list() -> None:
    table = pq.read_table(pa.BufferReader(many(50, 1)))
    names = table["shard"].to_pylist()
    names[37] = "../elsewhere.parquet"
    sink = pa.BufferOutputStream()
    pq.write_table(table.set_column(1, SHARDS_SCHEMA.field("shard"), [names]).cast(SHARDS_SCHEMA), sink)
    with pytest.raises(FormatError, match="elsewhere"):
        parse_shards(sink.getvalue().to_pybytes(), "shards.parquet")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("offset", 5, "at 5, expected a row group of 1 to 268435456 rows at 3145732"),
        ("bytes", 0, "in 0 bytes"),
        ("bytes", 2**62, "and an end before byte"),
        ("rows", -1, "found -1 rows"),
        ("rows", 2**40, f"found {2**40} rows"),
        (
            "rows",
            ROWS - 1,
            f"row groups of {4 * ROWS - 1} rows that end at byte {4 * ROWS + 4}, expected {4 * ROWS} rows",
        ),
        ("bytes", ROWS + 996, "and an end before byte"),
    ],
)
def test_row_groups_that_do_not_fit_are_found(field: str, value: int, said: str) -> None:
    rows = pq.read_table(pa.BufferReader(many(9, 4))).to_pylist()
    rows[7]["row_groups"][3][field] = value
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=SHARDS_SCHEMA), sink)
    with pytest.raises(FormatError, match=re.escape(f"x: {shard_name(0, 7, 9)}: found ")) as caught:
        parse_shards(sink.getvalue().to_pybytes(), "x")
    assert said in str(caught.value)


def test_a_shard_without_row_groups_is_found() -> None:
    rows = pq.read_table(pa.BufferReader(many(3, 2))).to_pylist()
    rows[1]["row_groups"] = []
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=SHARDS_SCHEMA), sink)
    with pytest.raises(FormatError, match="found row groups of 0 rows"):
        parse_shards(sink.getvalue().to_pybytes(), "x")
    assert len(parse_shards(save_shards([]).to_pybytes(), "x")) == 0


def test_rows_are_what_was_saved(tmp_path: Path) -> None:
    groups = [[group_of([[0, 1, 2, 3]])], [group_of([[1, 2]]), group_of([[0, 3, 1]])]]
    dataset = reader.open_dataset(make_dataset(tmp_path, passes=[groups, groups[:1]]))
    again = parse_shards(save_shards(dataset.shards).to_pybytes(), "shards.parquet")
    assert again == dataset.shards
    assert list(again) == list(again[:]) == [again[number] for number in range(3)]
    assert again != parse_shards(save_shards(list(again)[:2]).to_pybytes(), "shards.parquet")
    assert [totals_of(10, [s for s in again if s.pass_index == i]).pairs for i in range(2)] == [18, 10]


def test_few_footers_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MOST_FOOTERS", 4)
    groups = [[group_of([[0, number % 4, 2, 3]])] for number in range(11)]
    dataset = reader.open_dataset(make_dataset(tmp_path, passes=[groups]))
    for _ in range(2):
        for ref in dataset.row_groups(0):
            center_N, context_N = dataset.read_row_group(ref)
            assert (center_N.tolist(), context_N.tolist()) == tuple(column.tolist() for column in groups[ref.shard][0])
            assert 0 < len(dataset._footers) <= 4
