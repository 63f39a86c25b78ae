"""What users read is in the plain words of the field: pages, --help, messages and docstrings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PAGES = [
    *ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/**/*.md"), *ROOT.glob("pipeline/**/*.md"),
    ROOT / "deploy" / "dataflow" / "metadata.json", *ROOT.glob("deploy/kubernetes/**/*.yaml"),
]  # fmt: skip
CODE = [ROOT / "pairstream.py", *ROOT.glob("pipeline/**/*.py"), *ROOT.glob("trainer/**/*.py")]

#: What is not written, and what is instead.
WORDS = {
    r"stands?|stood": "is, occurs, appears",
    r"behind": "after",
    r"anew": "again",
    r"for ever": "always",
    r"whoever": "anyone who",
    r"nobody": "no one",
    r"somebody": "someone",
    r"(held|holds?|holding) ([\w.`'-]+ ){0,6}against": "check against, compare with",
    r"travel(s|led|lers?|ling)?": "is sent, shuffled; payload",
    r"hand(s|ed|ing)? on": "emit, pass",
    r"deal(s|t|ing)?( out)?": "assign, distribute, split",
    r"lies?|lain": "is",
    r"beside": "next to, with, besides",
    r"hence|thus": "so",
    r"begins? with a point|without signs|no circle": "dotfile, no wildcard, symlink loop",
    r"is no UTF-8": "is not valid UTF-8",
    r"found that it cannot|expected it to|expected to be able": "cannot …: reason",
    r"at work": "is running",
}
PATTERN = re.compile("|".join(rf"\b(?:{pattern})\b" for pattern in WORDS), re.IGNORECASE)
#: Other senses, and names that decide bytes.
ALLOWED = re.compile(r"stand-ins?|stand-alone|seed:deal:file:chunk|^deal$", re.IGNORECASE)


def found_in(text: str) -> list[str]:
    """The words that are not to be used, each with what is around it."""
    text = ALLOWED.sub("", text)
    return [text[max(0, m.start() - 30) : m.end() + 30].replace("\n", " ") for m in PATTERN.finditer(text)]


def strings(path: Path) -> Iterator[str]:
    """All text in a module that is not a name: docstrings, help, messages."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_are_in_plain_words(path: Path) -> None:
    assert found_in(path.read_text(encoding="utf-8")) == []


def test_help_messages_and_docstrings_are_in_plain_words() -> None:
    found = {str(path.relative_to(ROOT)): [one for text in strings(path) for one in found_in(text)] for path in CODE}
    assert {name: words for name, words in found.items() if words} == {}


@pytest.mark.parametrize("text", ["Rows stand together.", "Hold it against the table.", "it Lies here", "dealt out"])
def test_a_word_of_these_is_found(text: str) -> None:
    assert len(found_in(text)) == 1


@pytest.mark.parametrize("text", ["stand-ins for a server", "outstanding, understand, besides, dealer, layout"])
def test_other_words_are_not(text: str) -> None:
    assert found_in(text) == []
