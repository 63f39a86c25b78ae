"""Expressions against what they are written from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.errors import UserError
from trainer.neighbors.expressions import parse_expression

WORDS = st.text("ab+-−é", min_size=1, max_size=4)
SPACES = st.sampled_from([" ", "  ", "\t"])
TERMS = st.lists(st.tuples(st.sampled_from("+-−"), WORDS, SPACES), min_size=1, max_size=5)


@given(TERMS, st.booleans())
def test_what_is_written_is_read(terms: list[tuple[str, str, str]], signed: bool) -> None:
    text = "".join(f"{space}{sign}{space}{word}" for sign, word, space in terms)
    expected = [(word, 1 if sign == "+" else -1) for sign, word, _ in terms]
    if not signed:
        text = text.split(maxsplit=1)[1]
        expected[0] = (terms[0][1], 1)
    elif len(terms) > 1 and all(word in ("+", "-", "−") for _, word, _ in terms):
        return  # nothing but signs
    parsed = [(term.word, term.weight) for term in parse_expression(text)]
    assert parsed == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("king", [("king", 1)]),
        ("t-shirt - c++", [("t-shirt", 1), ("c++", -1)]),
        ("- man + king", [("man", -1), ("king", 1)]),
        ("-", [("-", 1)]),
        ("- +  +", [("-", 1), ("+", 1)]),
        ("king − man", [("king", 1), ("man", -1)]),
    ],
)
def test_examples(text: str, expected: list[tuple[str, int]]) -> None:
    assert [(term.word, term.weight) for term in parse_expression(text)] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Red  Wine ", [("Red  Wine", 1)]),
        ("Red Wine - Beer + Oat Milk", [("Red Wine", 1), ("Beer", -1), ("Oat Milk", 1)]),
        ("Beer\u2212Ale - Red Wine", [("Beer\u2212Ale", 1), ("Red Wine", -1)]),
        ("king - man", [("king", 1), ("man", -1)]),
    ],
)
def test_words_with_spaces(text: str, expected: list[tuple[str, int]]) -> None:
    assert [(term.word, term.weight) for term in parse_expression(text, spaces=True)] == expected


@pytest.mark.parametrize("text", ["", "Red Wine -  + Beer"])
def test_no_expression_of_words_with_spaces(text: str) -> None:
    with pytest.raises(UserError, match="expected a word, or words with"):
        parse_expression(text, spaces=True)


@pytest.mark.parametrize(
    "text", ["", "  ", "king queen", "king -", "king man + woman", "king - man woman", "king+ man"]
)
def test_no_expression(text: str) -> None:
    with pytest.raises(UserError, match="expected a word, or words with"):
        parse_expression(text)
