"""Items come out as they went in; their scan is the readable rule; limits hold as for words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.items import MARK, join_items, scan_items, split_items
from pipeline.text.tokenize import Tokens

pytestmark = pytest.mark.unit

ITEMS = st.lists(st.text(st.sampled_from("aB \n\r\t\x1f\ufeffé日😀_'\0"), min_size=1, max_size=5), max_size=6)


def tokens_of(tokens: Tokens) -> list[list[str]]:
    """The sentences of what was found."""
    text = tokens.text.tobytes()
    spans = zip(tokens.starts_T.tolist(), tokens.lengths_T.tolist(), strict=True)
    words, begin, sentences = [text[start : start + size].decode() for start, size in spans], 0, []
    for end in tokens.ends_S.tolist():
        sentences.append(words[begin:end])
        begin = end
    assert begin == len(words)
    return sentences


def lines_of(lists: list[list[str]]) -> bytes:
    return b"".join(join_items(items) + b"\n" for items in lists)


@given(st.lists(ITEMS, max_size=6), st.booleans())
def test_items_are_verbatim(lists: list[list[str]], ended: bool) -> None:
    data = lines_of(lists)
    assert data.count(b"\n") == len(lists)
    assert [split_items(line) for line in data.split(b"\n")[:-1]] == lists
    found = scan_items(data if ended else data.removesuffix(b"\n"), 1000, 1000)
    assert tokens_of(found) == [items for items in lists if items]
    assert found.oversize == []


@given(st.lists(ITEMS, max_size=6), st.integers(1, 5))
def test_long_lists_are_cut(lists: list[list[str]], longest: int) -> None:
    expected = [items[i : i + longest] for items in lists for i in range(0, len(items), longest)]
    assert tokens_of(scan_items(lines_of(lists), 1000, longest)) == expected


def test_what_is_too_long_is_set_aside_by_its_line() -> None:
    found = scan_items(lines_of([["a\nb", "c"], ["x" * 9], [], ["d", "y\n" * 5, "e"]]), 8, 1000)
    assert tokens_of(found) == [["a\nb", "c"], ["d", "e"]]
    places = [(line, found.text[start : start + size].tobytes()) for line, start, size in found.oversize]
    assert places == [(1, b"x" * 9), (3, b"y\n" * 5)]


def test_the_rest_of_a_torn_item_is_none() -> None:
    data = b"rest" + MARK + b"good\n"
    found = scan_items(data, 1000, 1000, torn=True)
    assert tokens_of(found) == [["good"]]
    assert found.oversize == [(0, 0, 4)]
    assert tokens_of(scan_items(MARK + b"good\n", 1000, 1000, torn=True)) == [["good"]]


@pytest.mark.parametrize(("item", "error"), [("\ud800", UnicodeEncodeError), (1, TypeError)])
def test_what_is_no_text_is_no_item(item: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        join_items([item])
