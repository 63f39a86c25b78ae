"""Draws: the compiled generator is numpy's, and a word depends on its place alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pairs.draws import order_key, raw_words, stream_key
from pipeline.pairs.philox import fill_block

pytestmark = pytest.mark.unit


@given(seed=st.integers(0, 2**63 - 1), block=st.integers(0, 2**40))
def test_a_compiled_block_is_numpys(seed: int, block: int) -> None:
    key, out = stream_key(seed, "window", 1, 2, 3), np.empty(4, np.uint64)
    fill_block(key, block, out)
    assert out.tolist() == raw_words(key, 4 * block, 4).tolist()


@given(first=st.integers(0, 50), count=st.integers(1, 50))
def test_words_do_not_depend_on_where_one_starts(first: int, count: int) -> None:
    key = stream_key(7, "subsample", 0, 0, 0)
    assert raw_words(key, first, count).tolist() == raw_words(key, 0, first + count)[first:].tolist()


def test_known_words() -> None:
    # Written down once: were they to change, every dataset would.
    key = stream_key(1, "subsample", 0, 2, 3)
    assert [hex(word) for word in key.tolist()] == ["0x839b6c5b680ea216", "0x3853bd4a14faf3e"]
    assert [hex(word) for word in raw_words(key, 0, 2).tolist()] == ["0x45ed219d6d7ca8dc", "0xd68a23c61b2744ab"]
    assert hex(order_key(1, "deal", 2, 3)) == "0xffb933091bdd2043"


def test_streams_differ_by_every_part_of_their_place() -> None:
    window = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 10), (0, 1, 0, 0)]
    places = [(1, "window", *place) for place in window] + [(2, "window", 0, 0, 0), (1, "subsample", 0, 0, 0)]
    assert len({tuple(stream_key(*place).tolist()) for place in places}) == len(places)
    assert len({order_key(*place) for place in places}) == len(places)
