"""Counting and encoding against collections.Counter and a dict."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.vocabulary import Vocabulary, order_rows
from pipeline.native.machine import PADDING
from pipeline.pairs.sentences import SentenceRun, run_from_bytes, split_runs
from pipeline.text.normalize import pad_text
from pipeline.text.tokenize import Tokens, scan_tokens, token_classes
from pipeline.vocabulary import count, lookup
from pipeline.vocabulary.count import TokenCounter, merge_counts, table_from_bytes, table_to_bytes
from pipeline.vocabulary.lookup import TokenLookup

pytestmark = pytest.mark.unit


def in_order(tables: list[pa.Table]) -> Vocabulary:
    rows = order_rows(pa.concat_tables(tables))
    return Vocabulary(rows["token"].cast(pa.string()), rows["count"].to_numpy())


WORDS = st.lists(st.text(st.sampled_from("abcé日\x00"), min_size=1, max_size=4), max_size=60)


def tokens_of(words: list[str]) -> Tokens:
    return scan_tokens(pad_text(" ".join(words).encode()), token_classes("whitespace"), 1000, 10_000)


def counts_of(counters: list[TokenCounter], min_count: int = 1) -> dict[str, int]:
    by_partition: dict[int, list[pa.Table]] = {}
    for counter in counters:
        for partition, table in counter.partitions():
            by_partition.setdefault(partition, []).append(table_from_bytes(table_to_bytes(table)))
    merged = [merge_counts(tables, min_count).to_pylist() for tables in by_partition.values()]
    rows = [row for table in merged for row in table]
    assert len({row["token"] for row in rows}) == len(rows), "a token lies in one partition"
    return {row["token"].decode(): row["count"] for row in rows}


@given(chunks=st.lists(WORDS, min_size=1, max_size=5), min_count=st.integers(1, 3))
def test_counts_are_those_of_a_counter(chunks: list[list[str]], min_count: int) -> None:
    counters = [TokenCounter(), TokenCounter()]
    for number, words in enumerate(chunks):
        counters[number % 2].add(tokens_of(words))
    expected = Counter(word for words in chunks for word in words)
    assert counts_of(counters, min_count) == {word: n for word, n in expected.items() if n >= min_count}


def test_a_table_grows() -> None:
    words = [f"w{i % 70_000}" for i in range(100_000)]
    counter = TokenCounter()
    for start in range(0, len(words), 10_000):
        counter.add(tokens_of(words[start : start + 10_000]))
    assert counts_of([counter]) == Counter(words)


def test_a_large_table_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(count, "ARENA_LIMIT_BYTES", 10)
    counter = TokenCounter()
    counter.add(tokens_of(["abc", "def"]))
    assert not counter.is_large
    counter.add(tokens_of(["a much", "longer", "text"]))
    assert counter.is_large


@given(words=WORDS)
def test_the_vocabulary_is_ordered_by_count_then_bytes(words: list[str]) -> None:
    counter = TokenCounter()
    counter.add(tokens_of(words))
    tables = [table for _, table in counter.partitions()] or [count.COUNTS_SCHEMA.empty_table()]
    vocabulary = in_order(tables)
    expected = sorted(Counter(words).items(), key=lambda item: (-item[1], item[0].encode()))
    assert list(zip(vocabulary.tokens, vocabulary.counts.tolist(), strict=True)) == expected
    if words:
        assert TokenLookup(vocabulary.column).encode(tokens_of(words)).tolist() == vocabulary.encode(words).tolist()


def test_unknown_tokens_have_no_id() -> None:
    counter = TokenCounter()
    counter.add(tokens_of(["b", "a", "b"]))
    vocabulary = in_order([t for _, t in counter.partitions()])
    assert TokenLookup(vocabulary.column).encode(tokens_of(["a", "zz", "b", "ab"])).tolist() == [1, -1, 0, -1]


@given(
    sentences=st.lists(st.lists(st.integers(-1, 3), min_size=1, max_size=6), min_size=1, max_size=8),
    cuts=st.lists(st.integers(0, 1), min_size=8, max_size=8),
)
def test_runs_hold_every_known_token_once(sentences: list[list[int]], cuts: list[int]) -> None:
    ids = np.array([i for s in sentences for i in s], np.int32)
    ends = np.cumsum([len(s) for s in sentences]).astype(np.int32)
    shards = 5 + np.cumsum(cuts[: len(sentences)])
    first = 0
    found = []
    for shard, run in split_runs(1, 2, ids, ends, shards):
        again = run_from_bytes(run.to_bytes())
        assert (again.file, again.chunk, again.first) == (1, 2, first)
        first += len(again.ids_T)
        cut = np.split(again.ids_T, np.cumsum(again.lengths_S)[:-1])
        found += [(shard, part.tolist()) for part in cut]
    assert found == [(int(s), [i for i in ids_ if i >= 0]) for s, ids_ in zip(shards, sentences, strict=True)]


def test_a_run_survives_travel() -> None:
    run = SentenceRun(3, 2**40, 7, np.array([2, 0, 1], np.int32), np.array([5, 6, 2**31 - 1], np.int32))
    again = run_from_bytes(run.to_bytes())
    assert (again.file, again.chunk, again.first) == (3, 2**40, 7)
    assert again.lengths_S.tolist() == [2, 0, 1]
    assert again.ids_T.tolist() == [5, 6, 2**31 - 1]


def test_long_tokens_are_found_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "_BLOCK", 3)
    words = [letter * size for size in (1, 16, 17, 40, 300) for letter in "abc"]
    found = TokenLookup(pa.chunked_array([words[:4], [], words[4:]]))
    assert found.encode(tokens_of(words)).tolist() == list(range(len(words)))
    others = [word[:-1] + "z" for word in words] + [word + "z" for word in words]
    assert set(found.encode(tokens_of(others)).tolist()) == {-1}
    assert len(found._arena) == sum(len(word) for word in words if len(word) > 16) + PADDING
