"""Dealing: every sentence has one shard, shards are even, and one giant chunk is no giant shard."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pairs import shard_plan as planning
from pipeline.pairs.chunk_stats import file_digests, join_rows, pack_rows
from pipeline.pairs.draws import order_key
from pipeline.pairs.shard_plan import ChunkStats, Plan, weight_table

pytestmark = pytest.mark.unit


def chunk(number: int, weight: int, paired: int = 100) -> ChunkStats:
    return ChunkStats(number // 10, number % 10, 1, 1, paired, paired, weight, weight, "00" * 16)


def make_plan(stats: list[ChunkStats], **settings: Any) -> Plan:
    return planning.make_plan(join_rows([pack_rows(stats, ChunkStats)], ChunkStats), **settings)


def starts(plan: Plan, stats: list[ChunkStats]) -> list[int | None]:
    return [plan.start_of(s.file, s.chunk) for s in stats]


def test_weights_are_the_expected_pairs() -> None:
    window = 3
    for n in range(8):
        # Chance that a radius drawn from 1 … W reaches distance d: (W − d + 1) / W.
        expected = sum(window - abs(i - j) + 1 for i in range(n) for j in range(n) if 0 < abs(i - j) <= window)
        fixed = window * sum(1 for i in range(n) for j in range(n) if 0 < abs(i - j) <= window)
        assert weight_table(10, window, False)[n] == expected
        assert weight_table(10, window, True)[n] == fixed
        assert weight_table(10, 0, False)[n] == weight_table(10, 0, True)[n] == n * (n - 1)


def test_whole_sentences_need_both_words_of_a_pair() -> None:
    stats = [chunk(number, 1000) for number in range(10)]
    assert make_plan(stats, kept_share=0.5, window=0, shard_pairs=100, seed=1).shards == 10_000 // 4 // 100
    assert make_plan(stats, kept_share=0.5, window=1, shard_pairs=100, seed=1).shards == 10_000 // 2 // 100


@given(
    weights=st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=10), min_size=1, max_size=8),
    shards=st.integers(1, 20),
)
def test_every_sentence_goes_where_it_starts(weights: list[list[int]], shards: int) -> None:
    stats = [chunk(number, sum(sentences)) for number, sentences in enumerate(weights)]
    plan = make_plan(stats, kept_share=1, window=1, shard_pairs=1, seed=3)
    plan = dataclasses.replace(plan, shards=shards)
    for number, sentences in enumerate(weights):
        start = position = plan.start_of(stats[number].file, stats[number].chunk)
        assert start is not None
        expected = []
        for weight in sentences:
            expected.append(min(position * shards // plan.total, shards - 1) if plan.total else 0)
            position += weight
        assert plan.shard_of(start, np.array(sentences)).tolist() == expected


def test_one_giant_chunk_makes_no_giant_shard() -> None:
    stats = [chunk(0, 1_000_000), *(chunk(number, 100) for number in range(1, 50))]
    plan = make_plan(stats, kept_share=1, window=1, shard_pairs=100_000, seed=1)
    assert plan.shards == 11
    loads = np.bincount(plan.shard_of(plan.start_of(0, 0) or 0, np.full(10_000, 100)), minlength=plan.shards)
    assert loads.max() <= loads.sum() / plan.shards + 51


def test_shards_are_never_more_than_sentences_with_pairs() -> None:
    assert make_plan([chunk(0, 500, paired=3)], kept_share=1, window=1, shard_pairs=1, seed=1).shards == 3
    assert make_plan([chunk(0, 0, paired=0)], kept_share=1, window=1, shard_pairs=1, seed=1).shards == 1
    assert make_plan([], kept_share=1, window=1, shard_pairs=1, seed=1).shards == 1


def test_small_datasets_still_have_shards_for_several_threads() -> None:
    def shards(pairs: int) -> int:
        return make_plan([chunk(0, pairs)], kept_share=1, window=1, shard_pairs=16 << 20, seed=1).shards

    assert [shards(rows << 20) for rows in (0, 1, 2, 5, 8, 100, 128, 160)] == [1, 1, 2, 5, 8, 8, 8, 10]


def test_the_order_depends_on_the_seed_and_not_on_the_order_of_arrival() -> None:
    stats = [chunk(number, 10) for number in range(30)]
    one = make_plan(stats, kept_share=1, window=1, shard_pairs=10, seed=1)
    assert starts(one, stats) == starts(make_plan(stats[::-1], kept_share=1, window=1, shard_pairs=10, seed=1), stats)
    assert starts(one, stats) != starts(make_plan(stats, kept_share=1, window=1, shard_pairs=10, seed=2), stats)


@given(st.sets(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=30), st.integers(0, 3))
def test_every_chunk_has_a_place_of_its_own(places: set[tuple[int, int]], seed: int) -> None:
    stats = [ChunkStats(file, number, 1, 1, 1, 1, 1, file + number, "00" * 16) for file, number in sorted(places)]
    plan = make_plan(stats, kept_share=1, window=1, shard_pairs=10, seed=seed)
    ordered = sorted(stats, key=lambda s: (order_key(seed, "deal", s.file, s.chunk), s.file, s.chunk))
    expected = {(s.file, s.chunk): sum(before.weight for before in ordered[:n]) for n, s in enumerate(ordered)}
    everywhere = {(file, number): plan.start_of(file, number) for file in range(-1, 7) for number in range(-1, 11)}
    assert {place: start for place, start in everywhere.items() if start is not None} == expected
    assert plan.total == sum(s.weight for s in stats)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 50), st.binary(max_size=3)), unique_by=lambda c: c[:2]))
def test_a_files_digest_is_that_of_its_chunks_digests(chunks: list[tuple[int, int, bytes]]) -> None:
    rows = [ChunkStats(file, n, 1, 1, 1, 1, 1, 1, xxhash.xxh3_128_hexdigest(text)) for file, n, text in chunks]
    table = join_rows([pack_rows(rows[3:], ChunkStats), pack_rows(rows[:3], ChunkStats)], ChunkStats)
    texts: dict[int, str] = {}
    for row in sorted(rows):
        texts[row.file] = texts.get(row.file, "") + row.digest
    found = file_digests(table.rows)
    expected = {file: xxhash.xxh3_128_digest(text.encode()) for file, text in texts.items()}
    assert dict(zip(found["file"].tolist(), found["digest"].tolist(), strict=True)) == expected
