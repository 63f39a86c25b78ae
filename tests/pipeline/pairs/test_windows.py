"""Pairs: the compiled walk against the readable rule, and the rule against ten lines of brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.checks import LONGEST_WHOLE
from pipeline.pairs import windows
from pipeline.pairs.sentences import SentenceRun
from pipeline.pairs.windows import PairMaker, PairRules, draw_radii, sentence_pairs

pytestmark = pytest.mark.unit

SENTENCES = st.lists(st.lists(st.integers(0, 4), max_size=12), min_size=1, max_size=8)


def make_run(sentences: list[list[int]], first: int = 0, chunk: int = 0) -> SentenceRun:
    ids = np.array([i for sentence in sentences for i in sentence], np.int32)
    return SentenceRun(2, chunk, first, np.array([len(s) for s in sentences], np.int32), ids)


def make_rules(window: int = 3, fixed: bool = False, keep: float = 1.0, seed: int = 1) -> PairRules:
    thresholds = np.full(5, int(keep * 2**53), np.uint64)
    return PairRules(window, fixed, seed, thresholds)


def all_pairs(runs: list[SentenceRun], rules: PairRules, pass_index: int = 0) -> tuple[list[tuple[int, int]], int]:
    maker, pairs = PairMaker(rules, pass_index), []
    for center, context in maker.row_groups(runs):
        pairs += list(zip(center.tolist(), context.tolist(), strict=True))
    return pairs, maker.kept


@given(
    sentences=SENTENCES, window=st.integers(0, 6), fixed=st.booleans(), keep=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    first=st.integers(0, 9), seed=st.integers(0, 3),
)  # fmt: skip
def test_the_compiled_walk_is_the_rule(sentences, window, fixed, keep, first, seed) -> None:  # type: ignore[no-untyped-def]
    runs = [make_run(sentences, first), make_run(sentences[::-1], first, chunk=1)]
    rules = make_rules(window, fixed, keep, seed)
    expected = [sentence_pairs(run, rules, 3) for run in runs]
    pairs, kept = all_pairs(runs, rules, 3)
    assert pairs == [pair for by_sentence, _ in expected for sentence in by_sentence for pair in sentence]
    assert kept == sum(count for _, count in expected)


@given(sentence=st.lists(st.integers(0, 4), max_size=12), window=st.integers(1, 15))
def test_a_fixed_window_pairs_every_neighbour(sentence: list[int], window: int) -> None:
    expected = [
        (sentence[i], sentence[j])
        for i in range(len(sentence))
        for j in range(len(sentence))
        if i != j and abs(i - j) <= window
    ]
    assert all_pairs([make_run([sentence])], make_rules(window, fixed=True))[0] == expected


@given(sentence=st.lists(st.integers(0, 4), max_size=12), fixed=st.booleans())
def test_a_window_of_0_is_the_whole_sentence(sentence: list[int], fixed: bool) -> None:
    places = range(len(sentence))
    expected = [(sentence[i], sentence[j]) for i in places for j in places if i != j]
    assert all_pairs([make_run([sentence])], make_rules(0, fixed))[0] == expected


def test_the_longest_whole_sentence_is_a_row_group() -> None:
    sentence = [i % 5 for i in range(LONGEST_WHOLE)]
    assert LONGEST_WHOLE * (LONGEST_WHOLE - 1) <= windows.ROW_GROUP_PAIRS < (LONGEST_WHOLE + 1) * LONGEST_WHOLE
    groups = [len(center) for center, _ in PairMaker(make_rules(0), 0).row_groups([make_run([sentence[:9], sentence])])]
    assert groups == [9 * 8 + LONGEST_WHOLE * (LONGEST_WHOLE - 1)]


@given(sentences=SENTENCES, window=st.integers(0, 6))
def test_no_pair_crosses_a_sentence(sentences: list[list[int]], window: int) -> None:
    marked = [[number] * len(sentence) for number, sentence in enumerate(sentences)]
    rules = PairRules(window, False, 1, np.full(8, 1 << 53, np.uint64))
    assert all(center == context for center, context in all_pairs([make_run(marked)], rules)[0])


@given(sentences=SENTENCES, cut=st.integers(0, 8), keep=st.sampled_from([0.5, 1.0]))
def test_a_run_may_be_split_anywhere(sentences: list[list[int]], cut: int, keep: float) -> None:
    whole = make_run(sentences)
    before = sum(len(s) for s in sentences[:cut])
    parts = [make_run(sentences[:cut]), make_run(sentences[cut:], first=before)]
    rules = make_rules(keep=keep)
    assert all_pairs([whole], rules) == all_pairs(parts, rules)


def test_radii_are_uniform() -> None:
    words = np.random.Philox(key=1).random_raw(50_000)
    counts = np.bincount(draw_radii(words, 5), minlength=6)
    assert counts[0] == 0
    assert ((counts[1:] - 10_000) ** 2 / 10_000).sum() < 18.5  # chi-square, 4 degrees, p = .001


def test_passes_and_seeds_draw_afresh() -> None:
    run, rules = make_run([[i % 5 for i in range(60)]]), make_rules(keep=0.5)
    seen = {tuple(all_pairs([run], rules, p)[0]) for p in range(3)}
    seen |= {tuple(all_pairs([run], make_rules(keep=0.5, seed=9))[0])}
    assert len(seen) == 4


def test_row_groups_end_on_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "ROW_GROUP_PAIRS", 25)
    run = make_run([[number % 5] * 4 for number in range(12)])  # 12 pairs a sentence at a fixed window of 3
    groups = [len(center) for center, _ in PairMaker(make_rules(fixed=True), 0).row_groups([run])]
    assert groups == [36, 36, 36, 36]
