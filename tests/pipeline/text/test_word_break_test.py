"""Words are those of UAX #29, by Unicode's own cases and by an implementation that is not ours."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.text.normalize import pad_text
from pipeline.text.tokenize import scan_tokens, split_tokens, token_classes
from tests.quality.corpora import FOLDER
from tests.quality.words import both, words_of

pytestmark = pytest.mark.unit

#: Unicode's data, comments left out; its licence is next to it.
DATA = Path(__file__).with_name("WordBreakTest-17.0.0.txt")
CORPORA = ("wiki", "french", "russian", "greek", "korean", "chinese")


def cases() -> Iterator[list[str]]:
    """The segments of each of Unicode's cases."""
    for line in DATA.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            segments = line.replace("×", " ").strip("÷ ").split("÷")
            yield ["".join(chr(int(code, 16)) for code in segment.split()) for segment in segments]


def scanned(data: bytes) -> list[str]:
    """The tokens that the compiled loop finds."""
    found = scan_tokens(pad_text(data), token_classes("unicode"), 1 << 20, 1 << 20)
    content = found.text.tobytes()
    spans = zip(found.starts_T.tolist(), found.lengths_T.tolist(), strict=True)
    return [content[start : start + length].decode() for start, length in spans]


def test_unicodes_own_cases() -> None:
    number = 0
    for segments in cases():
        expected = words_of(segments)
        lines = "".join(segments).split("\n")  # a line feed ends every word, and lines come one by one
        assert [word for line in lines for word in split_tokens(line, "unicode")] == expected, segments
        assert scanned("".join(segments).encode()) == expected, segments
        # In the midst of a block of ASCII, and at its end.
        for before in ("x" * 40 + " ", "x " * 31, "x " * 32):
            assert scanned((before + "\n" + "".join(segments)).encode())[len(before.split()) :] == expected
        number += 1
    assert number == 1944


@pytest.mark.parametrize("corpus", CORPORA)
def test_the_regex_package_finds_the_same_words(corpus: str) -> None:
    """In the first half MiB; tests.quality.words compares all of it."""
    folder = FOLDER / "corpora" / corpus
    if not folder.is_dir():
        pytest.skip("the corpora are not beside the checkout")
    with gzip.open(min(folder.glob("*.gz"))) as file:
        data = file.read(1 << 19)
    lines = list(both(data[: data.rindex(b"\n")]))
    assert sum(len(theirs) for _, theirs in lines) > 10_000
    assert [ours for ours, _ in lines] == [theirs for _, theirs in lines]
