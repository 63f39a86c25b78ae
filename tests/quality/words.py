"""Do the words of the unicode tokenizer equal those of an implementation that is not ours, on real text?

    python -m tests.quality.words

The regex package cuts all text of every corpus beside the checkout at the word boundaries of UAX #29.
"""

from __future__ import annotations

import gzip
import itertools
import sys
from collections.abc import Iterator

import regex

from pipeline.text.normalize import TextRules, normalize_lines, normalize_text
from pipeline.text.tokenize import scan_tokens, token_classes
from tests.quality.corpora import shared_folder

_STARTS = r"[\p{L}\p{Nl}\p{WB=ALetter}\p{WB=Hebrew_Letter}\p{WB=Numeric}\p{WB=Katakana}--\p{WB=Extend}]"
_MARKS = r"[\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}]*"
#: A segment's word: from its first letter, digit or Katakana to the last, and a final ' after a Hebrew letter. So what
#: a segment may have at its ends besides, connectors and emoji, is left out.
WORD = regex.compile(rf"(?V1s){_STARTS}(?:.*{_STARTS})?{_MARKS}(?:(?<=\p{{WB=Hebrew_Letter}}{_MARKS})'{_MARKS})?")
#: What always separates.
SEPARATES = regex.compile(r"[_\u202f]")
#: Where regex breaks a word and UAX #29 does not (WB4 with WB6 and WB7): a letter, its mark, a sign, a letter: p̄‘e.
NOT_SEEN = regex.compile(r"\p{WB=Extend}(?:\p{WB=MidLetter}|\p{WB=MidNumLet}|\p{WB=MidNum}|')")
RULES = TextRules(drop_invisible=True)
BOUNDARY = regex.compile(r"(?V1w)\b")


def words_of(segments: list[str]) -> list[str]:
    """Return the words of UAX #29's segments."""
    pieces = [piece for segment in segments for piece in SEPARATES.split(segment)]
    return [found[0] for piece in pieces if (found := WORD.search(piece))]


def our_words(data: bytes) -> list[list[str]]:
    """Return the words of each line that has some, by our tokenizer."""
    text, _ = normalize_lines(data, 0, RULES)
    found = scan_tokens(text, token_classes("unicode"), 1 << 20, 1 << 20)
    content, starts, ends = found.text.tobytes(), found.starts_T.tolist(), (found.starts_T + found.lengths_T).tolist()
    words = [content[start:end].decode() for start, end in zip(starts, ends, strict=True)]
    bounds = [0, *found.ends_S.tolist()]
    return [words[begin:end] for begin, end in itertools.pairwise(bounds)]


def both(data: bytes) -> Iterator[tuple[list[str], list[str]]]:
    """Yield our words and the regex package's of each line."""
    ours = our_words(data)
    lines = (words_of(BOUNDARY.split(normalize_text(line, RULES))) for line in data.decode().split("\n"))
    yield from zip(ours, filter(None, lines), strict=True)


def main() -> int:
    """Compare all corpora; return 1 if a line differs."""
    different = 0
    for folder in sorted((shared_folder() / "corpora").iterdir()):
        words = wrong = known = 0
        for file in sorted(folder.glob("*.gz")):
            for ours, theirs in both(gzip.decompress(file.read_bytes())):
                is_known = ours != theirs and any(map(NOT_SEEN.search, ours))
                words, wrong, known = words + len(theirs), wrong + (ours != theirs and not is_known), known + is_known
        if words:
            print(f"{folder.name:10} {words:>12,} words, {wrong:,} lines differ, {known:,} by NOT_SEEN", flush=True)
        different += wrong
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
