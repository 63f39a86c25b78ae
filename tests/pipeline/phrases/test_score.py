"""Phrases against ten lines of Counter and str: counting, scoring, joining, and the file."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.phrases import load_phrases, parse_phrases, save_phrases
from pipeline.dataset.schema import PHRASES_SCHEMA, FormatError, sha256_hex
from pipeline.phrases import score as phrase_counts
from pipeline.phrases.join import NO_PHRASES, Phrases, join_sentence
from pipeline.phrases.kernel import add_pairs, join_units, set_pairs, write_units
from pipeline.phrases.score import Counts, PairCounter, as_phrases, counts_from_bytes, merge_pairs, score_pairs
from pipeline.text.normalize import pad_text
from pipeline.text.tokenize import Tokens, scan_tokens, token_classes
from pipeline.vocabulary import count

pytestmark = pytest.mark.unit

Sentences = list[list[str]]
Found = dict[tuple[str, str], tuple[int, float]]

WORDS = st.sampled_from(["a", "b", "a_b", "_", "é", "日本", "b\x00", "longer'word"])
SENTENCES = st.lists(st.lists(WORDS, min_size=1, max_size=12), max_size=8)


def tokens_of(sentences: Sentences) -> Tokens:
    text = "\n".join(" ".join(words) for words in sentences)
    return scan_tokens(pad_text(text.encode()), token_classes("whitespace"), 1000, 10_000)


def words_of(tokens: Tokens) -> Sentences:
    spans = zip(tokens.starts_T.tolist(), tokens.lengths_T.tolist(), strict=True)
    words = [bytes(tokens.text[start : start + length]).decode() for start, length in spans]
    return [words[a:b] for a, b in itertools.pairwise([0, *tokens.ends_S.tolist()])]


def phrases_in(sentences: Sentences, min_count: int, threshold: float, max_token_bytes: int = 1000) -> Found:
    """The rule in full: what one round finds."""
    words = Counter(word for sentence in sentences for word in sentence)
    pairs = Counter(pair for sentence in sentences for pair in itertools.pairwise(sentence))
    scores = {
        (a, b): (count - min_count) / words[a] / words[b] * words.total()
        for (a, b), count in pairs.items()
        if count >= min_count and len(f"{a}_{b}".encode()) <= max_token_bytes
    }
    return {pair: (pairs[pair], score) for pair, score in scores.items() if score > threshold}


def table_of(pairs: Sequence[tuple[str, str]]) -> pa.Table:
    rows = [{"first": a, "second": b, "count": 1, "score": 1.0} for a, b in pairs]
    return pa.Table.from_pylist(rows, schema=PHRASES_SCHEMA)


def find_phrases(chunks: Sequence[Tokens], min_count: int, threshold: float, max_token_bytes: int = 1000) -> pa.Table:
    """What one round of the job does, with three counters and without Beam."""
    counters = [PairCounter() for _ in range(3)]
    for number, tokens in enumerate(chunks):
        counters[number % 3].add(tokens)
    by_first: dict[int, list[Counts]] = {}
    for part, counts in itertools.chain(*(counter.parts() for counter in counters)):
        by_first.setdefault(part, []).append(counts_from_bytes(counts.to_bytes()))
    by_second: dict[int, list[Counts]] = {}
    for parts in by_first.values():
        for part, counts in merge_pairs(parts, min_count):
            by_second.setdefault(part, []).append(counts_from_bytes(counts.to_bytes()))
    tokens_total = sum(len(tokens.starts_T) for tokens in chunks)
    tables = [score_pairs(p, tokens_total, min_count, threshold, max_token_bytes) for p in by_second.values()]
    return parse_phrases(save_phrases(as_phrases(tables)).to_pybytes(), "phrases")


def found_of(table: pa.Table) -> Found:
    found = {(row["first"], row["second"]): (row["count"], row["score"]) for row in table.to_pylist()}
    assert len(found) == len(table)
    return found


def test_a_word_joins_one_neighbour_from_left_to_right() -> None:
    phrases = {("new", "york"), ("york", "city"), ("a", "a")}
    assert join_sentence(["in", "new", "york", "city"], phrases) == ["in", "new_york", "city"]
    assert join_sentence(["york", "city", "new", "york"], phrases) == ["york_city", "new_york"]
    assert join_sentence(["a", "a", "a", "a", "a"], phrases) == ["a_a", "a_a", "a"]
    assert join_sentence(["new"], phrases) == ["new"]
    assert join_sentence([], phrases) == []


@given(sentences=SENTENCES, rounds=st.lists(st.lists(st.tuples(WORDS, WORDS), max_size=12, unique=True), max_size=4))
def test_chunks_are_joined_as_sentences_are(sentences: Sentences, rounds: list[list[tuple[str, str]]]) -> None:
    expected = sentences
    for pairs in rounds:
        expected = [join_sentence(words, set(pairs)) for words in expected]
    tokens = tokens_of(sentences)
    before = words_of(tokens)
    assert words_of(Phrases(map(table_of, rounds)).join(tokens)) == expected
    assert words_of(tokens) == before == sentences


@given(
    chunks=st.lists(SENTENCES, min_size=1, max_size=4),
    min_count=st.integers(1, 3),
    thresholds=st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=1, max_size=3),
    max_token_bytes=st.sampled_from([3, 5, 1000]),
)
def test_rounds_find_and_join_what_the_brute_force_does(
    chunks: list[Sentences], min_count: int, thresholds: list[float], max_token_bytes: int
) -> None:
    sentences = [words for chunk in chunks for words in chunk]
    tables: list[pa.Table] = []
    for threshold in thresholds:
        read = [Phrases(tables).join(tokens_of(chunk)) for chunk in chunks]
        assert [words for tokens in read for words in words_of(tokens)] == sentences
        tables.append(find_phrases(read, min_count, threshold, max_token_bytes))
        expected = phrases_in(sentences, min_count, threshold, max_token_bytes)
        assert found_of(tables[-1]) == expected
        sentences = [join_sentence(words, expected) for words in sentences]


def test_large_counts_come_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(1)
    sentences = [[f"w{int(300 * draw.random() ** 2)}" for _ in range(300)] for _ in range(400)]
    whole = find_phrases([tokens_of(sentences)], 2, 1.0)
    assert len(whole) > 1000
    assert found_of(whole) == phrases_in(sentences, 2, 1.0)
    monkeypatch.setattr(phrase_counts, "BATCH_BYTES", 100)
    monkeypatch.setattr(count, "FOLD_BYTES", 100)
    pieces = [tokens_of(sentences[start : start + 57]) for start in range(0, len(sentences), 57)]
    assert found_of(find_phrases(pieces, 2, 1.0)) == found_of(whole)


def test_a_large_counter_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phrase_counts, "PAIR_LIMIT", 3)
    counter = PairCounter()
    counter.add(tokens_of([["a", "b", "c", "d"]]))
    assert not counter.is_large
    counter.add(tokens_of([["b", "a"]]))
    assert counter.is_large


@given(pairs=st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 5), max_size=200), slots=st.sampled_from([16, 64]))
def test_pairs_are_counted_until_the_table_is_half_full(pairs: list[int], slots: int) -> None:
    keys, counts = np.full(slots, -1, np.int64), np.empty(slots, np.int64)
    done, used = add_pairs(np.array(pairs, np.int64), 0, keys, counts, 0)
    expected = Counter(pairs[:done])
    assert used == len(expected) <= slots // 2
    assert done == len(pairs) or (used == slots // 2 and pairs[done] not in expected)
    larger, larger_counts = np.full(2 * slots, -1, np.int64), np.empty(2 * slots, np.int64)
    set_pairs(keys, counts, larger, larger_counts)
    for table, values in ((keys, counts), (larger, larger_counts)):
        assert dict(zip(table[table >= 0].tolist(), values[table >= 0].tolist(), strict=True)) == expected


def test_units_are_joined_in_place_and_written_behind_the_text() -> None:
    keys, joined = np.full(16, -1, np.int64), np.empty(16, np.int64)
    set_pairs(np.array([0 << 32 | 1, 1 << 32 | 1]), np.array([7, -1]), keys, joined)
    ids, firsts = np.array([0, 1, 1, 1, 0, 1, -1], np.int32), np.arange(8, dtype=np.int32)
    ends = np.array([5, 7], np.int32)
    assert join_units(ids, firsts, ends, keys, joined) == 5
    assert ids[:5].tolist() == [7, -1, 0, 1, -1]
    assert firsts[:5].tolist() == [0, 2, 4, 5, 6]
    assert ends.tolist() == [3, 5]
    text = np.frombuffer(b"ab cd." + bytes(5), np.uint8).copy()
    starts, lengths = np.empty(1, np.int32), np.empty(1, np.int32)
    spans = np.array([0, 3], np.int32), np.array([2, 2], np.int32)
    assert write_units(text, *spans, np.array([0, 2], np.int32), 6, starts, lengths) == 11
    assert (bytes(text), starts.tolist(), lengths.tolist()) == (b"ab cd.ab_cd", [6], [5])


def test_no_phrases_change_nothing() -> None:
    tokens = tokens_of([["a", "b"]])
    assert NO_PHRASES.join(tokens) is tokens
    assert Phrases([table_of([])]).join(tokens) is tokens
    empty = tokens_of([])
    assert Phrases([table_of([("a", "b")])]).join(empty) is empty


def test_the_file_is_ordered_by_count_then_bytes() -> None:
    rows = [("b", "é", 2), ("b", "z", 2), ("a", "b", 2), ("c", "c", 9)]
    made = pa.Table.from_pylist(
        [{"first": a, "second": b, "count": n, "score": 1.5} for a, b, n in rows], schema=PHRASES_SCHEMA
    )
    saved = save_phrases(made)
    table = parse_phrases(saved.to_pybytes(), "x")
    expected = [("c", "c", 9), ("a", "b", 2), ("b", "z", 2), ("b", "é", 2)]
    assert [(row["first"], row["second"], row["count"]) for row in table.to_pylist()] == expected
    assert saved.equals(save_phrases(made.take([2, 0, 3, 1])))


GOOD = {"first": "a", "second": "b", "count": 1, "score": 1.0}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{**GOOD, "count": 0}], "x: found count 0, expected none below 1"),
        ([GOOD, {**GOOD, "second": ""}], "x: found an empty word in the column second, expected none"),
        ([GOOD, {**GOOD, "count": 5}], "x: found 1 pairs in 2 rows, expected each pair once"),
    ],
)
def test_rows_that_are_no_phrases(rows: list[dict[str, object]], message: str) -> None:
    with pytest.raises(FormatError) as error:
        parse_phrases(save_phrases(pa.Table.from_pylist(rows, schema=PHRASES_SCHEMA)).to_pybytes(), "x")
    assert str(error.value) == message


def test_foreign_and_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "round-01.parquet"
    pq.write_table(pa.table({"token": ["a"], "count": [1]}), path)
    with pytest.raises(
        FormatError, match=r"round-01\.parquet: found columns \(token: string, count: int64\), expected"
    ):
        load_phrases(str(path), sha256_hex(path.read_bytes()))
    data = save_phrases(table_of([("a", "b")])).to_pybytes()
    path.write_bytes(data)
    assert load_phrases(str(path), sha256_hex(data)).to_pylist() == [GOOD]
    for bad in (data[:-9], data[: len(data) // 2], b"", data[:20] + bytes([data[20] ^ 1]) + data[21:]):
        with pytest.raises(FormatError) as error:
            parse_phrases(bad, "x")
        assert str(error.value).startswith("x: found an unreadable Parquet file (")
        assert "\n" not in str(error.value)
        path.write_bytes(bad)
        with pytest.raises(FormatError, match=r"round-01\.parquet: found sha256 \w+, expected \w+$"):
            load_phrases(str(path), sha256_hex(data))
    with pytest.raises(FormatError, match="nothing: found no file, expected the phrases of a round"):
        load_phrases(str(tmp_path / "nothing"), "")
