"""Dealing: every sentence has one shard, shards are even, and one giant chunk is no giant shard."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.plan import ChunkStats, Plan, make_plan, weight_table


def chunk(number: int, weight: int, paired: int = 100) -> ChunkStats:
    return ChunkStats(number // 10, number % 10, 1, 1, paired, paired, weight, weight, "")


def test_weights_are_the_expected_pairs() -> None:
    window = 3
    for n in range(8):
        # Chance that a radius drawn from 1 … W reaches distance d: (W − d + 1) / W.
        expected = sum(window - abs(i - j) + 1 for i in range(n) for j in range(n) if 0 < abs(i - j) <= window)
        fixed = window * sum(1 for i in range(n) for j in range(n) if 0 < abs(i - j) <= window)
        assert weight_table(10, window, False)[n] == expected
        assert weight_table(10, window, True)[n] == fixed


@given(
    weights=st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=10), min_size=1, max_size=8),
    shards=st.integers(1, 20),
)
def test_every_sentence_goes_where_it_starts(weights: list[list[int]], shards: int) -> None:
    stats = [chunk(number, sum(sentences)) for number, sentences in enumerate(weights)]
    plan = make_plan(stats, kept_share=1, window=1, shard_pairs=1, seed=3)
    plan = Plan(plan.positions, plan.total, shards)
    for number, sentences in enumerate(weights):
        position = plan.positions[stats[number].file, stats[number].chunk]
        expected = []
        for weight in sentences:
            expected.append(min(position * shards // plan.total, shards - 1) if plan.total else 0)
            position += weight
        assert plan.shard_of(stats[number].file, stats[number].chunk, np.array(sentences)).tolist() == expected


def test_one_giant_chunk_makes_no_giant_shard() -> None:
    stats = [chunk(0, 1_000_000), *(chunk(number, 100) for number in range(1, 50))]
    plan = make_plan(stats, kept_share=1, window=1, shard_pairs=100_000, seed=1)
    assert plan.shards == 11
    loads = np.bincount(plan.shard_of(0, 0, np.full(10_000, 100)), minlength=plan.shards)
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
    one = make_plan(stats, kept_share=1, window=1, shard_pairs=10, seed=1).positions
    assert one == make_plan(stats[::-1], kept_share=1, window=1, shard_pairs=10, seed=1).positions
    assert one != make_plan(stats, kept_share=1, window=1, shard_pairs=10, seed=2).positions
