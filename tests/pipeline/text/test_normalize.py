"""Normalising a chunk at once equals normalising its lines one by one."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.native.machine import PADDING
from pipeline.text.normalize import (
    INVISIBLE,
    DeadLetter,
    TextRules,
    _normalize,
    line_offset,
    normalize_lines,
    normalize_text,
    simple_characters,
)

pytestmark = pytest.mark.unit

LINES = st.lists(
    st.text(
        st.sampled_from("\u00ad\u200b\u200d\ufeffaBÉéΣσςİ\u0301\u030cJǰ\rﬁ \u00a0Ωſ\u212aȺ가\u1161𐐀\u0345’")
        | st.characters(exclude_characters="\n", exclude_categories=["Cs"]),
        max_size=90,
    ),
    min_size=1,
    max_size=6,
)


@given(lines=LINES, lowercase=st.booleans(), form=st.sampled_from(["NFC", "NFKC", "none"]), drop=st.booleans())
def test_a_chunk_is_its_lines(lines: list[str], lowercase: bool, form: str, drop: bool) -> None:
    rules = TextRules(lowercase, form, drop_invisible=drop)

    def one(line: str) -> str:
        line = "".join(c for c in line if not drop or c not in INVISIBLE)
        if form != "none":
            line = unicodedata.normalize(form, line)
        line = line.lower() if lowercase else line
        return unicodedata.normalize(form, line) if form != "none" else line

    text, dead = normalized("\n".join(lines).encode(), 0, rules)
    assert dead == []
    assert text.decode().split("\n") == [one(line) for line in lines]
    assert normalize_text("\n".join(lines), rules) == text.decode()


def test_composed_and_decomposed_are_one() -> None:
    composed, decomposed = "été".encode(), unicodedata.normalize("NFD", "été").encode()
    assert composed != decomposed
    assert normalized(composed, 0, TextRules())[0] == normalized(decomposed, 0, TextRules())[0]


def normalized(data: bytes, offset: int, rules: TextRules) -> tuple[bytes, list[DeadLetter]]:
    """Normalise, and take off the padding, of zeros."""
    text, dead = normalize_lines(data, offset, rules)
    assert not text[len(text) - PADDING :].any()
    return text[: len(text) - PADDING].tobytes(), dead


def test_what_cannot_be_seen_is_left_out_on_request() -> None:
    assert len(INVISIBLE) == 7
    data = "co\u00adop \ufeffΣo\u200bΣ\u200c\u200d \u200e\u200fe\u00ad\u0301\u2010\u200a".encode()
    assert normalized(data, 0, TextRules(drop_invisible=True))[0].decode() == "coop σoς é\u2010\u200a"
    assert normalized(data, 0, TextRules())[0].decode() == (
        "co\u00adop \ufeffσo\u200bς\u200c\u200d \u200e\u200fe\u00ad\u0301\u2010\u200a"
    )


BAD = "ok\né\n".encode() + b"b\xffd\n" + "ñ\n".encode() + b"\xc3\nend"


def test_bad_lines_become_dead_letters_at_their_offset() -> None:
    text, dead = normalized(BAD, 100, TextRules())
    assert text == "ok\né\n\nñ\n\nend".encode()
    assert dead == [DeadLetter(106, "invalid-utf-8", b"b\xffd"), DeadLetter(113, "invalid-utf-8", b"\xc3")]
    assert [line_offset(BAD, 100, line) for line in (0, 2, 4)] == [100, 106, 113]


@given(
    pieces=st.lists(
        st.sampled_from([b"\xff", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc1\xa9", b"\xe0\x90\x80", b"\xf0\x90\x90"])
        | st.sampled_from(["a" * 30, " ", "\n", "e\u0301", "\u0301", "É", "ж" * 33, "Σ", "𐐀", "한", "\u00a0"]).map(
            str.encode
        ),
        max_size=30,
    ),
    errors=st.sampled_from(["replace", "dead-letter"]),
    drop=st.booleans(),
)
def test_bad_bytes_among_all_others(pieces: list[bytes], errors: str, drop: bool) -> None:
    rules = TextRules(encoding_errors=errors, drop_invisible=drop)
    expected, bad = [], []
    for line in b"".join(pieces).split(b"\n"):
        try:
            expected.append(normalize_text(line.decode(), rules))
        except UnicodeDecodeError:
            bad.append(line)
            expected.append(normalize_text(line.decode(errors="replace"), rules) if errors == "replace" else "")
    text, dead = normalized(b"".join(pieces), 0, rules)
    assert text.decode().split("\n") == expected
    assert [letter.content for letter in dead] == (bad if errors == "dead-letter" else [])
    assert all(b"".join(pieces)[offset:].startswith(content) for offset, _, content in dead)


def test_bad_bytes_are_replaced_on_request() -> None:
    text, dead = normalized(BAD, 0, TextRules(encoding_errors="replace"))
    assert text.decode().split("\n") == ["ok", "é", "b\ufffdd", "ñ", "\ufffd", "end"]
    assert dead == []


def test_bad_bytes_fail_on_request() -> None:
    with pytest.raises(InputError, match="0xff"):
        normalized(BAD, 0, TextRules(encoding_errors="fail"))


def test_ten_thousand_marks_take_one_step() -> None:
    text, _ = normalized(("e" + "\u0301" * 10_000 + " x").encode(), 0, TextRules())
    assert text.decode() == "é" + "\u0301" * 9_999 + " x"


@given(
    words=st.lists(st.sampled_from(["a" * 64, "Zwölf", "ΟΔΟΣ", "Σ", "e\u0301", "\n", "B" * 7]), max_size=40),
    form=st.sampled_from(["NFC", "NFKC", "none"]),
)
def test_long_text_is_its_words(words: list[str], form: str) -> None:
    text = " ".join(words)
    rules = TextRules(True, form)
    found, _ = normalized(text.encode(), 0, rules)
    assert found.decode().split("\n") == [normalize_text(line, rules) for line in text.split("\n")]


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("form", ["NFC", "NFKC", "none"])
def test_every_simple_character_between_any_others(lowercase: bool, form: str) -> None:
    rules = TextRules(lowercase, form)
    codes = np.flatnonzero(simple_characters(lowercase, form)).tolist()
    text = "".join(map(chr, codes))
    assert len(codes) > 50_000
    for step in (1, 7, 1009):  # neighbours of many kinds
        mixed = "".join(text[start::step] for start in range(step))
        assert normalized(mixed.encode(), 0, rules)[0].decode() == normalize_text(mixed, rules)


MARKS = st.text(st.sampled_from("eǖ한\u1100\u1161\u11a8\u0301\u0316\u0345\u0f71\u0f73\u0344\u0308ﬁ①"), max_size=40)


@given(text=MARKS, form=st.sampled_from(["NFC", "NFKC"]))
def test_long_texts_have_the_same_normal_form(text: str, form: str) -> None:
    text = text * 200 + text[::-1] * 200
    assert _normalize(text, form) == unicodedata.normalize(form, text)  # type: ignore[arg-type]
