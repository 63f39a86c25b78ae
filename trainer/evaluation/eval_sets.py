"""Word-similarity and analogy files: what a model is scored on."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.dataset.schema import FormatError, sha256_hex
from pipeline.storage import storage
from trainer.errors import UserError
from trainer.progress.meter import warn
from trainer.vectors.arguments import as_uri

_NO_LETTERS = re.compile(r"[\d\W_]+")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_NOT_FINITE = frozenset({"nan", "inf", "infinity"})  # numbers for Python, and none that rank words
_SCORE_NAMES = frozenset(
    ("average", "avg", "gold", "human", "judgement", "judgment", "mean", "rating", "rel", "relatedness", "score",
     "scores", "sim", "similarity", "simlex", "value")
)  # fmt: skip


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
    """Files by their names as given, read before anything costs time."""

    similarity: dict[str, list[Pair]] = field(default_factory=dict)
    analogies: dict[str, list[Question]] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.similarity or self.analogies)


def read_evalsets(
    similarity: Sequence[str | os.PathLike[str]], analogies: Sequence[str | os.PathLike[str]]
) -> EvalSets:
    """Read the files of --similarity and --analogies; a heading that is left out is named on standard error.

    Raises:
        UserError: there is no such file.
        FormatError: it is not UTF-8, has a line that cannot be read, or nothing to score on.
    """
    sets = EvalSets()
    for path in map(as_uri, similarity):
        text, sets.sha256[path] = _read(path, "--similarity")
        sets.similarity[path] = parse_similarity(text, storage.redact(path))
    for path in map(as_uri, analogies):
        text, sets.sha256[path] = _read(path, "--analogies")
        sets.analogies[path] = parse_analogies(text, storage.redact(path))
    return sets


def read_text(path: str, encoding: str = "utf-8-sig") -> str:
    """Return a file's text."""
    return _decode(storage.read_bytes(path), path, encoding)


def parse_similarity(text: str, path: str, delimiter: str | None = None) -> list[Pair]:
    """Read `word word score` lines, separated by tabs, commas or spaces; further columns are ignored.

    Empty lines and lines that begin with # are skipped, and a heading: a first line of names like `word1 word2 score`.

    Raises:
        FormatError: a line that is none of these, or no pairs at all.
    """
    pairs: list[Pair] = []
    for number, (line_number, line) in enumerate(_content_lines(text)):
        fields = _split_fields(line) if delimiter is None else [one.strip() for one in line.split(delimiter)]
        score = _parse_number(fields[2]) if len(fields) >= 3 else None
        if score is not None and fields[0] and fields[1] and not _is_ambiguous(line, fields):
            pairs.append(Pair(fields[0], fields[1], score))
        elif number == 0 and _is_heading(fields):
            warn(f"{path}:{line_number}: skipped {line[:80]!r}, which looks like a heading")
        else:
            hint = _hint(line, fields, number)
            raise FormatError(f"{path}:{line_number}: found {line[:80]!r}, expected two words and a number{hint}")
    if not pairs:
        raise FormatError(f"{path}: found no pairs, expected lines of two words and a number")
    return pairs


def parse_analogies(text: str, path: str) -> list[Question]:
    """Read Google's format: `: section` lines, and four words a question, between tabs if spaces are in words.

    Raises:
        FormatError: a line with another number of words, or no questions at all.
    """
    questions, section = [], ""
    for line_number, line in _content_lines(text):
        if line.startswith(":"):
            section = line[1:].strip()
            continue
        words = line.split("\t") if line.count("\t") == 3 else line.split()
        if len(words) != 4:
            raise FormatError(f"{path}:{line_number}: found {len(words)} words in {line[:80]!r}, expected 4")
        questions.append(Question(section, (words[0], words[1], words[2], words[3])))
    if not questions:
        raise FormatError(f"{path}: found no questions, expected lines of four words")
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
    # A word may have a comma in it too: such lines are separated by spaces.
    if len(by_comma) >= 3 and (_parse_number(by_comma[2]) is not None or _is_heading(by_comma)):
        return by_comma
    fields = line.split()
    # Further columns are numbers, or else a word was taken for two.
    plain = _is_heading(fields) or all(_parse_number(field) is not None for field in fields[3:])
    return fields if plain else []


def _is_heading(fields: Sequence[str]) -> bool:
    """Tell whether a line is clearly one of column names, such as `Word 1, Word 2, Human (mean)`."""
    if len(fields) < 3 or not all(field[:1].isalpha() for field in fields[:3]) or fields[2].casefold() in _NOT_FINITE:
        return False
    first, second = (_NO_LETTERS.sub("", field).casefold() for field in fields[:2])
    numbered = first == second and fields[0] != fields[1]
    return numbered or not _SCORE_NAMES.isdisjoint(_NO_LETTERS.split(fields[2].casefold()))


def _is_ambiguous(line: str, fields: Sequence[str]) -> bool:
    """Tell whether `word,word,8,5` may have a decimal comma."""
    by_comma = "\t" not in line and len(fields) == line.count(",") + 1 == 4
    return by_comma and _DECIMAL_COMMA.fullmatch(",".join(fields[2:])) is not None


def _hint(line: str, fields: Sequence[str], number: int) -> str:
    if _is_ambiguous(line, fields) or _DECIMAL_COMMA.fullmatch(line.split()[-1]):
        return " with a decimal point, or tabs between columns"
    return "; begin a heading with #" if number == 0 and len(fields) >= 3 else ""


def _parse_number(text: str) -> float | None:
    """Read a finite number; unlike `float`, none with underscores."""
    try:
        value = float(text) if "_" not in text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _read(path: str, flag: str) -> tuple[str, str]:
    """Text and SHA-256 of a file that ``flag`` names."""
    try:
        data = storage.read_bytes(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"{flag}: no file {storage.redact(path)}") from None
    return _decode(data, path, "utf-8-sig"), sha256_hex(data)


def _decode(data: bytes, path: str, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise FormatError(f"{storage.redact(path)}: not valid {error.encoding.upper()} at byte {error.start}") from None
