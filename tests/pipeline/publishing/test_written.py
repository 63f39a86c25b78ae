"""What was written travels as compact rows, and makes the same shards.parquet in whatever order it comes."""

from __future__ import annotations

import random
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset import shard_index
from pipeline.dataset.shard_index import parse_shards
from pipeline.dataset.shards import RowGroup, Shard, shard_name
from pipeline.publishing import written
from pipeline.publishing.written import WrittenShards, pack_shards
from pipeline.results import WrittenShard
from tests.support.datasets import save_shards, totals_of

pytestmark = pytest.mark.unit


def make_written(passes: int, shards: int, groups: int, seed: int = 1) -> list[WrittenShard]:
    """Shards of made-up sizes and hashes; of every seventh nothing was written."""
    draw = random.Random(seed)
    found = []
    for number in range(passes * shards):
        sizes = [(draw.randrange(900, 1000), draw.randrange(1, 50)) for _ in range(draw.randrange(1, groups + 1))]
        listed, offset = [], 4
        for size, rows in sizes:
            listed.append(RowGroup(offset, size, rows, draw.randbytes(8).hex()))
            offset += size
        rows = sum(rows for _, rows in sizes)
        name = shard_name(number % passes, number // passes, shards)
        hashes = (draw.randbytes(size).hex() for size in (32, 32, 8))
        shard = Shard(number % passes, name, rows, offset + 100, *hashes, tuple(listed))
        found.append(WrittenShard(number % passes, draw.randrange(1000), shard if number % 7 else None))
    return found


def pack_in_bundles(items: list[WrittenShard], seed: int = 2) -> list[bytes]:
    items = random.Random(seed).sample(items, len(items))
    return [pack_shards(items[start : start + 3]) for start in range(0, len(items), 3)]


def test_the_list_is_that_of_the_shards_in_any_order() -> None:
    items = make_written(2, 100, 5)
    found = WrittenShards(pack_in_bundles(items))
    shards = [item.shard for item in items if item.shard]
    assert len(found) == len(shards)
    assert shard_index.save_shards(found.tables()).equals(save_shards(shards))
    for index in range(2):
        kept = sum(item.kept for item in items if item.pass_index == index)
        assert found.totals(index) == totals_of(kept, [shard for shard in shards if shard.pass_index == index])


def test_a_long_list_is_written_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "_MOST_SHARDS", 40)
    monkeypatch.setattr(written, "_MOST_GROUPS", 90)
    items = make_written(2, 100, 5)
    data = shard_index.save_shards(WrittenShards(pack_in_bundles(items)).tables())
    assert data.equals(shard_index.save_shards(WrittenShards(pack_in_bundles(items, 3)).tables()))
    whole = parse_shards(data.to_pybytes(), "shards.parquet")
    assert list(whole) == sorted((i.shard for i in items if i.shard), key=lambda shard: (shard.pass_index, shard.name))
    footer = pq.read_metadata(pa.BufferReader(data))
    sizes = [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
    assert len(sizes) > 2
    assert max(sizes) <= 40


def test_nothing_written_is_no_shard() -> None:
    found = WrittenShards([pack_shards([WrittenShard(0, 3, None)]), pack_shards([])])
    assert len(found) == 0
    assert found.totals(0).kept == 3
    assert list(found.tables()) == []


def test_the_list_is_never_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "_MOST_GROUPS", 1 << 14)  # what is made at once, beside what is held
    packed = [pack_shards(make_written(1, 500, 16, seed)) for seed in range(40)]
    tracemalloc.start()
    try:
        data = shard_index.save_shards(WrittenShards(iter(packed)).tables())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    groups = sum(len(shard.row_groups) for shard in parse_shards(data.to_pybytes(), "shards.parquet"))
    assert peak < 100 * groups  # as objects it was 660
