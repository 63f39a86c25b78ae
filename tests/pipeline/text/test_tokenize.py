"""The loop over bytes cuts text exactly as the readable rule does."""

from __future__ import annotations

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.normalize import TextRules, normalize_text, pad_text
from pipeline.text.tokenize import ITEMS, TOKENIZERS, describe_tokenizer, scan_tokens, split_tokens, token_classes
from pipeline.text.wordbreak import EXTEND, word_classes

pytestmark = pytest.mark.unit

ALPHABET = "abzé'’’''_ \t.,:;\"·‿_ \u202f٫א׳-0123日本ひらカタカーภาษาไ한국ְ́̈\u200d\u00ad𐐷🙂½Ⅷשּׁ\x00\u3000\xa0"
LINES = st.text(
    st.sampled_from(ALPHABET) | st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=40
)

CUTTING = [name for name in TOKENIZERS if name != ITEMS]


def scan(text: str, tokenizer: str, max_token_bytes: int = 1000, max_sentence_tokens: int = 10_000, torn: bool = False):
    """The tokens of each sentence, as strings."""
    found = scan_tokens(pad_text(text.encode()), token_classes(tokenizer), max_token_bytes, max_sentence_tokens, torn)
    words = [
        bytes(found.text[a : a + n]).decode()
        for a, n in zip(found.starts_T.tolist(), found.lengths_T.tolist(), strict=True)
    ]
    ends = found.ends_S.tolist()
    return [words[a:b] for a, b in zip([0, *ends], ends, strict=False)], found.oversize


@given(lines=st.lists(LINES, max_size=5), tokenizer=st.sampled_from(CUTTING))
def test_bytes_and_characters_agree(lines: list[str], tokenizer: str) -> None:
    expected = [tokens for line in lines if (tokens := split_tokens(line, tokenizer))]
    sentences, oversize = scan("\n".join(lines), tokenizer)
    assert sentences == expected
    assert oversize == []


# Long stretches of ASCII, so that whole blocks of it stand between, before and behind other characters.
BLOCKS = st.lists(
    st.sampled_from(
        [
            "don't ",
            "x" * 30,
            " " * 40,
            "a1'b 2'3'",
            "'",
            "\n",
            "one two\tthree\x1c",
            "é",
            "’s",
            "a\u0301",
            "日",
            "_\x00-",
            "a.b:c'd 1.2,3;4'5",
            ".",
            ",",
            ":",
            "·",
            "‿",
            'א"',
            "א'",
        ]
    )
    | st.integers(0, 70).map("w".__mul__),
    max_size=40,
).map("".join)


@given(text=BLOCKS, tokenizer=st.sampled_from(CUTTING), limits=st.sampled_from([(1000, 10_000), (20, 3)]))
def test_blocks_of_ascii_are_cut_as_characters_are(text: str, tokenizer: str, limits: tuple[int, int]) -> None:
    expected, large = [], []
    for number, line in enumerate(text.split("\n")):
        tokens = split_tokens(line, tokenizer)
        large += [(number, token) for token in tokens if len(token.encode()) > limits[0]]
        kept = [token for token in tokens if len(token.encode()) <= limits[0]]
        expected += [kept[i : i + limits[1]] for i in range(0, len(kept), limits[1])]
    sentences, oversize = scan(text, tokenizer, *limits)
    data = text.encode()
    assert sentences == expected
    assert [(line, data[start : start + size].decode()) for line, start, size in oversize] == large


@pytest.mark.parametrize("tokenizer", CUTTING)
def test_masks_of_ascii_agree_with_the_tables(tokenizer: str) -> None:
    for code in range(128):
        sentences, _ = scan("b" + chr(code) + "b", tokenizer)
        found = [token for sentence in sentences for token in sentence]
        assert found == [token for line in f"b{chr(code)}b".split("\n") for token in split_tokens(line, tokenizer)]


@pytest.mark.parametrize(
    ("line", "tokens"),
    [
        ("don't stop, l’homme 'tis rock'", ["don't", "stop", "l’homme", "tis", "rock"]),
        ("3.14 1,000 1'000 90's a_b __init__", ["3.14", "1,000", "1'000", "90", "s", "a", "b", "init"]),
        ("col·legi u.s.a. k:a a,b 1:2 1.a", ["col·legi", "u.s.a", "k:a", "a", "b", "1", "2", "1", "a"]),
        ('ארה"ב \'אבא\' "א" א"a ג׳', ['ארה"ב', "אבא'", "א", "א", "a", "ג׳"]),
        ("a‿b‿ ‿c ア‿1 日‿日 10\u202f000\u202f%", ["a‿b", "c", "ア‿1", "日", "日", "10", "000"]),
        ("日本語 ひらがな カタカナー ab日", ["日", "本", "語", "ひ", "ら", "が", "な", "カタカナー", "ab", "日"]),
        ("μῆνιν ἄειδε θεὰ", ["μῆνιν", "ἄειδε", "θεὰ"]),
        ("hap\u0304‘el a\u0308:a", ["hap\u0304‘el", "a\u0308:a"]),
        ("cafe\u0301 naïve", ["cafe\u0301", "naïve"]),
        ("한국어 이다", ["한국어", "이다"]),
        ("\u0301\u0301 '' — …", []),
        ("a''b a'1 1'a", ["a", "b", "a", "1", "1", "a"]),
    ],
)
def test_words_of_many_scripts(line: str, tokens: list[str]) -> None:
    assert split_tokens(line, "unicode") == tokens


def test_version_1_joins_by_apostrophes_alone() -> None:
    line = "don't 3.14 1'000 col·legi u.s.a. ארה\"ב א' a‿b k:a"
    tokens = ["don't", "3", "14", "1'000", "col", "legi", "u", "s", "a", "ארה", "ב", "א", "a", "b", "k", "a"]
    assert split_tokens(line, "unicode-v1") == tokens
    assert describe_tokenizer("unicode-v1").items() >= {"name": "unicode", "version": 1}.items()


@given(text=st.text(st.sampled_from("abcéü ,;!?ñ"), max_size=60))
def test_plain_text_is_cut_at_unicode_word_boundaries(text: str) -> None:
    # An implementation that is not ours: the regex package's default word boundaries of UAX #29.
    pieces = regex.split(r"(?V1w)\b", text)
    assert split_tokens(text, "unicode") == [piece for piece in pieces if any(c.isalpha() for c in piece)]


@given(LINES)
def test_no_token_is_torn_at_a_mark(line: str) -> None:
    assert not any(word_classes(2)[ord(token[0])] == EXTEND for token in split_tokens(line, "unicode"))


@given(text=LINES, form=st.sampled_from(["NFC", "NFKC"]), data=st.data())
def test_no_word_depends_on_where_a_long_line_is_cut(text: str, form: str, data: st.DataObject) -> None:
    """Chunks cut lines that are longer than they are at ASCII white space."""
    rules = TextRules(True, form, drop_invisible=True)
    places = [i for i, one in enumerate(text) if one in " \t\x0b\x0c\r\x1c\x1d"]
    cut = data.draw(st.sampled_from([0, *places]))
    whole, first, second = (
        split_tokens(normalize_text(piece, rules), "unicode") for piece in (text, text[:cut], text[cut:])
    )
    assert first + second == whole


def test_long_lines_are_cut_and_lose_nothing() -> None:
    sentences, _ = scan("a b c d e\nf g\n\nh", "whitespace", max_sentence_tokens=2)
    assert sentences == [["a", "b"], ["c", "d"], ["e"], ["f", "g"], ["h"]]


def test_overlong_tokens_are_set_aside_with_their_line() -> None:
    sentences, oversize = scan("ab\ncd " + "x" * 9 + " ef", "whitespace", max_token_bytes=8)
    assert sentences == [["ab"], ["cd", "ef"]]
    assert oversize == [(1, 6, 9)]


def test_a_torn_chunk_sets_its_first_piece_aside_unless_that_is_a_whole_token() -> None:
    assert scan("xx ab", "whitespace", torn=True) == ([["ab"]], [(0, 0, 2)])
    assert scan(" ab", "whitespace", torn=True) == ([["ab"]], [])
    assert scan("日本", "unicode", torn=True) == ([["日", "本"]], [])


def test_lower_casing_follows_str_lower() -> None:
    rules = TextRules()
    assert normalize_text("ΟΔΥΣΣΕΥΣ ΣΑΣ", rules) == "οδυσσευς σας"  # final sigma
    assert normalize_text("İstanbul", rules) == "i̇stanbul"
    assert normalize_text("J\u030c", rules) == "\u01f0"  # composes only after lower-casing
    assert split_tokens(normalize_text("İstanbul", rules), "unicode") == ["i̇stanbul"]
