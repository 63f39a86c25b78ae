"""Word-similarity and analogy files: what a model is scored on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.dataset import storage
from pipeline.dataset.schema import FormatError, sha256_hex
from trainer.errors import UserError


@dataclass(frozen=True)
class Pair:
    """One line of a similarity file."""

    first: str
    second: str
    score: float


@dataclass(frozen=True)
class Question:
    """One line of an analogy file: a : b :: c : d."""

    section: str
    words: tuple[str, str, str, str]


@dataclass(frozen=True)
class EvalSets:
    """Files by their names as given, read before anything costs time.

    Attributes:
        similarity: pairs by file.
        analogies: questions by file.
        sha256: of each file.
    """

    similarity: dict[str, list[Pair]] = field(default_factory=dict)
    analogies: dict[str, list[Question]] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.similarity or self.analogies)


def read_evalsets(similarity: Sequence[str], analogies: Sequence[str]) -> EvalSets:
    """Read the files of --similarity and --analogies.

    Raises:
        UserError: there is no such file.
        FormatError: it is no UTF-8, or has a line that cannot be read.
    """
    sets = EvalSets()
    for path in similarity:
        text, sets.sha256[path] = _read(path, "--similarity")
        sets.similarity[path] = parse_similarity(text, path)
    for path in analogies:
        text, sets.sha256[path] = _read(path, "--analogies")
        sets.analogies[path] = parse_analogies(text, path)
    return sets


def parse_similarity(text: str, path: str) -> list[Pair]:
    """Read `word word score` lines, separated by tabs, commas or spaces; further columns are ignored.

    Empty lines and lines from # on are skipped, and a first line whose score is no number, as a heading.

    Raises:
        FormatError: a line that is none of these.
    """
    pairs: list[Pair] = []
    for number, (line_number, line) in enumerate(_content_lines(text)):
        fields = _split_fields(line)
        score = _parse_number(fields[2]) if len(fields) >= 3 else None
        if score is not None and fields[0] and fields[1]:
            pairs.append(Pair(fields[0], fields[1], score))
        elif number > 0 or len(fields) < 3:
            raise FormatError(f"{path}:{line_number}: found {line[:80]!r}, expected two words and a number")
    return pairs


def parse_analogies(text: str, path: str) -> list[Question]:
    """Read Google's format: `: section` lines, and four words a question.

    Raises:
        FormatError: a line of another number of words.
    """
    questions, section = [], ""
    for line_number, line in _content_lines(text):
        if line.startswith(":"):
            section = line[1:].strip()
            continue
        words = line.split()
        if len(words) != 4:
            raise FormatError(f"{path}:{line_number}: found {len(words)} words in {line[:80]!r}, expected 4")
        questions.append(Question(section, (words[0], words[1], words[2], words[3])))
    return questions


def _content_lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            yield number, stripped


def _split_fields(line: str) -> list[str]:
    if "\t" in line:
        return [field.strip() for field in line.split("\t")]
    by_comma = [field.strip() for field in line.split(",")]
    # A word may hold a comma too: these lines are separated by spaces.
    return by_comma if len(by_comma) >= 3 and _parse_number(by_comma[2]) is not None else line.split()


def _parse_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _read(path: str, flag: str) -> tuple[str, str]:
    """Text and SHA-256 of a file that ``flag`` names."""
    try:
        data = storage.read_bytes(path)
        return data.decode("utf-8-sig"), sha256_hex(data)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"{flag}: found no file {storage.redact(path)}, expected one") from None
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{storage.redact(path)}: found a byte that is no UTF-8 at {error.start}, expected text"
        ) from None
