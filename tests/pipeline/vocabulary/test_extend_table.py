"""Merging ordered streams of counts, and the vocabulary file made of them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Config
from pipeline.dataset import vocabulary as vocab
from pipeline.dataset.schema import FormatError
from pipeline.dataset.vocabulary import load_vocab, order_rows, save_vocab_rows
from pipeline.errors import ConfigError
from pipeline.stages import vocabulary
from pipeline.stages.spill import FileSpill, Spill
from pipeline.stages.vocabulary import merge_ordered, read_batches, write_vocabulary
from pipeline.vocabulary import count as counting
from pipeline.vocabulary.count import COUNTS_SCHEMA, merge_counts, table_to_bytes
from pipeline.vocabulary.lookup import TokenLookup

pytestmark = pytest.mark.unit

COUNTS = st.dictionaries(st.text(st.sampled_from("abé日\x00"), min_size=1, max_size=3), st.integers(1, 4), max_size=40)


def table_of(counts: dict[str, int]) -> pa.Table:
    return pa.table([[t.encode() for t in counts], list(counts.values())], schema=COUNTS_SCHEMA)


def ordered(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0].encode()))


@given(counts=COUNTS, parts=st.integers(1, 5), batch=st.integers(1, 4))
def test_streams_merge_into_one_order(counts: dict[str, int], parts: int, batch: int) -> None:
    streams = []
    for part in range(parts):
        table = order_rows(table_of(dict(list(counts.items())[part::parts])))
        streams.append(iter([table.slice(start, batch) for start in range(0, len(table), batch)]))
    rows = [row for table in merge_ordered(streams) for row in table.to_pylist()]
    assert [(row["token"].decode(), row["count"]) for row in rows] == ordered(counts)


@pytest.mark.parametrize("spill", ["inline", "file"])
@pytest.mark.parametrize(("max_vocab", "limit"), [(0, None), (7, 7), (10_000, None)])
def test_the_file_is_the_whole_order(
    spill: str, max_vocab: int, limit: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "BATCH_ROWS", 3)
    counts = {f"w{n}": 1 + n % 5 for n in range(100)}
    through: Spill = Spill() if spill == "inline" else FileSpill(str(tmp_path / "tmp"))
    partitions = [
        through.put(table_to_bytes(merge_counts([table_of(dict(list(counts.items())[n::4]))], 1))) for n in range(4)
    ]
    through.close()
    config = Config((), str(tmp_path), max_vocab=max_vocab, sample=0.0)
    written = write_vocabulary(config, str(tmp_path), None, partitions, through)
    found = load_vocab(written.uri)
    assert list(zip(found.tokens, found.counts.tolist(), strict=True)) == ordered(counts)[:limit]
    assert written.totals.rows == len(found)
    assert written.totals.count == written.kept == sum(n for _, n in ordered(counts)[:limit])
    assert written.totals.digest == found.digest


def test_no_token_left(tmp_path: Path) -> None:
    nothing = [table_to_bytes(COUNTS_SCHEMA.empty_table())]
    with pytest.raises(ConfigError, match="--min-count 5: no token in the input is that frequent"):
        write_vocabulary(Config((), str(tmp_path)), str(tmp_path), None, nothing, Spill())
    assert list(tmp_path.iterdir()) == []


@given(cuts=st.lists(st.integers(0, 50), max_size=5))
def test_the_bytes_do_not_depend_on_the_tables(cuts: list[int]) -> None:
    table = order_rows(table_of({f"w{n}": n + 1 for n in range(50)}))
    bounds = [0, *sorted(cuts), 50]
    sinks = [pa.BufferOutputStream(), pa.BufferOutputStream()]
    assert save_vocab_rows([table], sinks[0]) == 50
    save_vocab_rows([table.slice(a, b - a) for a, b in itertools.pairwise(bounds)], sinks[1])
    assert sinks[0].getvalue().equals(sinks[1].getvalue())


def test_rows_lie_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocab, "_GROUP_ROWS", 20)
    sink = pa.BufferOutputStream()
    save_vocab_rows([table_of({f"w{n}": 1 for n in range(start, start + 15)}) for start in (0, 15, 30)], sink)
    metadata = pq.ParquetFile(pa.BufferReader(sink.getvalue())).metadata
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [20, 20, 5]


def test_more_tokens_than_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocab, "MAX_VOCABULARY_ROWS", 3)
    with pytest.raises(FormatError, match="found 4 tokens or more, expected at most 3"):
        save_vocab_rows([table_of({"a": 1, "b": 1}), table_of({"c": 1, "d": 1})], pa.BufferOutputStream())


@given(parts=st.lists(COUNTS, min_size=1, max_size=6), min_count=st.integers(1, 6), limit=st.sampled_from([1, 1 << 20]))
def test_counts_add_up_however_they_are_folded(parts: list[dict[str, int]], min_count: int, limit: int) -> None:
    total: dict[str, int] = {}
    for part in parts:
        for token, count in part.items():
            total[token] = total.get(token, 0) + count
    known = ["a", "é", "none"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "FOLD_BYTES", limit)
        merged = merge_counts(map(table_of, parts), min_count, TokenLookup(pa.chunked_array([known])))
    expected = {token: count for token, count in total.items() if count >= min_count or token in known}
    assert [(row["token"].decode(), row["count"]) for row in merged.to_pylist()] == ordered(expected)


def test_a_stream_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "BATCH_ROWS", 4)
    data = table_to_bytes(table_of({f"w{n}": 1 for n in range(10)}))
    assert [len(table) for table in read_batches(Spill().open(data))] == [4, 4, 2]
    assert vocabulary.read_batches is read_batches
    assert np.array_equal(TokenLookup(pa.chunked_array([["x", "y"]])).rows_of(pa.chunked_array([["y", "z"]])), [1, -1])
