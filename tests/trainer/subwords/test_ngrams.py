"""The n-grams of words against fastText's loops in plain Python, and the mean of their rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.subwords import ngrams
from trainer.subwords.ngrams import Subwords, compose

pytestmark = pytest.mark.unit

WORDS = ["the", "a", "</s>", "été", "дом", "東京", "𝔘nicode", "naïve", "banana", "<", "", "co-op", "e\u0301"]


def fnv(data: bytes) -> int:
    """Dictionary::hash: bytes are signed."""
    h = 2166136261
    for byte in data:
        h ^= byte if byte < 128 else byte | 0xFFFFFF00
        h = h * 16777619 & 0xFFFFFFFF
    return h


def buckets_of(word: str, rule: Subwords) -> list[int]:
    """Dictionary::computeSubwords, byte by byte."""
    found: list[int] = []
    if word == "</s>":
        return found
    text = f"<{word}>".encode()
    for i in range(len(text)):
        if text[i] & 0xC0 == 0x80:
            continue
        j, n, ngram = i, 1, b""
        while j < len(text) and n <= rule.longest:
            ngram += text[j : j + 1]
            j += 1
            while j < len(text) and text[j] & 0xC0 == 0x80:
                ngram += text[j : j + 1]
                j += 1
            if n >= rule.shortest and not (n == 1 and (i == 0 or j == len(text))):
                found.append(fnv(ngram) % rule.buckets)
            n += 1
    return found


def test_the_oracles_hash_is_fnv_1a() -> None:
    assert (fnv(b""), fnv(b"a")) == (0x811C9DC5, 0xE40C292C)  # its authors' values; beyond ASCII fastText's differs


@pytest.mark.parametrize(
    "rule", [Subwords(3, 6, 1000), Subwords(1, 2, 7), Subwords(1, 1, 1), Subwords(5, 100, 2**31 - 20)]
)
def test_a_words_rows_are_its_own_and_those_of_its_ngrams(rule: Subwords) -> None:
    offsets_V1, rows = rule.parts(WORDS)
    assert (offsets_V1.dtype, rows.dtype) == (np.int64, np.int32)
    for row, word in enumerate(WORDS):
        expected = [row, *(len(WORDS) + bucket for bucket in buckets_of(word, rule))]
        assert rows[offsets_V1[row] : offsets_V1[row + 1]].tolist() == expected


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=30),
    st.tuples(st.integers(1, 6), st.integers(0, 4), st.integers(1, 2**20)),
    st.integers(1, 8),
)
def test_any_words_in_any_blocks(words: list[str], numbers: tuple[int, int, int], block: int) -> None:
    rule = Subwords(numbers[0], numbers[0] + numbers[1], numbers[2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngrams, "_BLOCK_WORDS", block)
        offsets_V1, rows = rule.parts(words)
    expected = [[row, *(len(words) + bucket for bucket in buckets_of(word, rule))] for row, word in enumerate(words)]
    assert rows.tolist() == [row for one in expected for row in one]
    assert np.diff(offsets_V1).tolist() == [len(one) for one in expected]
    for word in words:
        assert rule.unseen(word, 50).tolist() == [50 + bucket for bucket in buckets_of(word, rule)]


def test_a_word_without_ngrams_has_no_rows() -> None:
    rule = Subwords(5, 6, 10)
    assert rule.unseen("ab", 3).size == 0
    assert rule.unseen("abc", 3).size == 1
    assert rule.unseen("</s>", 3).size == 0
    assert rule.unseen("caf\udce9", 3).size == 0  # a byte of a command line that is no UTF-8


@pytest.mark.parametrize("numbers", [1, 64, 1 << 20])
def test_a_words_vector_is_the_mean_of_its_rows(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "_BLOCK_NUMBERS", numbers)
    rule = Subwords(2, 4, 20)
    table = np.random.default_rng(1).standard_normal((len(WORDS) + 20, 8), np.float32)
    offsets_V1, rows = rule.parts(WORDS)
    composed_VD = compose(table[:, :5], offsets_V1, rows)  # rows with a gap between them
    assert composed_VD.dtype == np.float32
    for row in range(len(WORDS)):
        own = rows[offsets_V1[row] : offsets_V1[row + 1]]
        np.testing.assert_allclose(composed_VD[row], table[own, :5].astype(np.float64).mean(axis=0), atol=1e-6)
    assert composed_VD.tobytes() == compose(table[:, :5], offsets_V1, rows).tobytes()


def test_no_words_at_all() -> None:
    offsets_V1, rows = Subwords(3, 6, 10).parts([])
    assert (offsets_V1.tolist(), rows.tolist()) == ([0], [])
    assert compose(np.zeros((10, 4), np.float32), offsets_V1, rows).shape == (0, 4)


def test_a_rule_is_written_as_it_is_read() -> None:
    assert Subwords.parse("3-6", 2_000_000) == Subwords(3, 6, 2_000_000)
    assert Subwords.parse("10-12", 1).lengths == "10-12"


@pytest.mark.parametrize(
    "text", ["", "3", "3-", "-6", "6-3", "0-3", "3-6-9", "3 - 6", "٣-٦", "-1-3", "3-1000000000000"]
)
def test_no_rule(text: str) -> None:
    with pytest.raises(ValueError, match=r"^found .*, expected MIN-MAX from 1 to 100, such as 3-6$"):
        Subwords.parse(text, 10)


def test_too_many_rows() -> None:
    for buckets in (0, -1, 2**31):
        with pytest.raises(ValueError, match=f"^found {buckets} buckets, expected 1 to 2147483647$"):
            Subwords(3, 6, buckets)
    with pytest.raises(ValueError, match="found 2 words and 2147483646 buckets, expected 2147483647 rows at most"):
        Subwords(3, 6, 2**31 - 2).parts(["a", "b"])
