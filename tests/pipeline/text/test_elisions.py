"""Elided words are tokens of their own where that is asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.elisions import ELIDED, elided_words, split_elisions
from pipeline.text.normalize import pad_text
from pipeline.text.tokenize import scan_tokens, split_tokens, token_classes
from tests.support.paths import ROOT

pytestmark = pytest.mark.unit


def scanned(text: str, languages: str, longest: int = 10_000, **options: object) -> list[list[str]]:
    """The tokens of each sentence, by the compiled loop."""
    classes = token_classes("unicode")
    found = scan_tokens(pad_text(text.encode()), classes, 1000, longest, elisions=languages, **options)  # type: ignore[arg-type]
    words = [
        bytes(found.text[a : a + n]).decode()
        for a, n in zip(found.starts_T.tolist(), found.lengths_T.tolist(), strict=True)
    ]
    ends = found.ends_S.tolist()
    return [words[a:b] for a, b in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize(
    ("languages", "line", "tokens"),
    [
        ("", "l'enfant qu'il", ["l'enfant", "qu'il"]),
        ("fr", "l'enfant qu’il d'un aujourd'hui", ["l'", "enfant", "qu’", "il", "d'", "un", "aujourd'hui"]),
        ("fr", "Qu'elle JUSQU'À l'u.r.s.s. t'l'a", ["Qu'", "elle", "JUSQU'", "À", "l'", "u.r.s.s", "t'", "l'", "a"]),
        ("it", "dell'arte un'altra po' l'ha", ["dell'", "arte", "un'", "altra", "po", "l'", "ha"]),
        ("fr", "dell'arte don't lorsqu'on", ["dell'arte", "don't", "lorsqu'", "on"]),
        ("ca,fr,it", "l'home dell'arte qu'il", ["l'", "home", "dell'", "arte", "qu'", "il"]),
        ("ga", "d'ith m'athair", ["d'", "ith", "m'", "athair"]),
        ("fr", "l'\u0308a l'", ["l'\u0308a", "l"]),
    ],
)
def test_words_are_cut_after_what_is_elided(languages: str, line: str, tokens: list[str]) -> None:
    assert scanned(line, languages) == [tokens]


@given(
    lines=st.lists(st.lists(st.sampled_from([*"'’ aLdqu\u0308é.", "qu'", "l’", "dell'", "lorsqu", "d'"]), max_size=20)),
    languages=st.sampled_from(["fr", "it", ",".join(ELIDED)]),
)
def test_the_compiled_loop_cuts_as_the_rule_does(lines: list[list[str]], languages: str) -> None:
    classes = token_classes("unicode")
    expected = [
        [part for token in split_tokens(line, "unicode") for part in split_elisions(token, languages, classes)]
        for line in map("".join, lines)
    ]
    assert scanned("\n".join(map("".join, lines)), languages) == [tokens for tokens in expected if tokens]


def test_elided_words_count_for_a_sentences_length() -> None:
    assert scanned("l'a l'b l'c", "fr", longest=4) == [["l'", "a", "l'", "b"], ["l'", "c"]]


def test_each_elided_word_fits_the_compiled_loop() -> None:
    assert max(len(word.rstrip("'’").encode()) for word in elided_words(",".join(ELIDED))) <= 7


def test_the_format_lists_them() -> None:
    text = (ROOT / "pipeline" / "dataset" / "README.md").read_text(encoding="utf-8")
    assert [name for name, words in ELIDED.items() if f"| `{name}` | {words} |" not in text] == []
