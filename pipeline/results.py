"""What the stages of a run tell each other: small records, one a file written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pyarrow as pa

from pipeline.dataset.manifest import FileEntry, VocabularyTotals
from pipeline.dataset.publish import file_entries
from pipeline.dataset.shards import Shard
from pipeline.text import DeadLetter


class VocabularyFile(NamedTuple):
    """The vocabulary as it was written.

    Attributes:
        kept: expected tokens left of the vocabulary's counts by subsampling.
    """

    uri: str
    entry: FileEntry
    totals: VocabularyTotals
    kept: float


class WrittenShard(NamedTuple):
    """One pass of one shard; ``shard`` is None where no pair came out."""

    pass_index: int
    kept: int
    shard: Shard | None


class PassedOver(NamedTuple):
    """Files that were matched and not read, such as _SUCCESS: how many, and the URI of one."""

    files: int
    example: str


NOTHING_PASSED_OVER = PassedOver(0, "")


class DeadLetterPart(NamedTuple):
    """One file of dead letters.

    Attributes:
        firsts: file and offset of the first one of each reason.
        bytes: of all of them.
        line_bytes: of those that are whole lines or records, not tokens of a line.
    """

    name: str
    entry: FileEntry
    reasons: dict[str, int]
    firsts: dict[str, tuple[str, int]]
    bytes: int
    line_bytes: int

    @classmethod
    def of(cls, name: str, data: pa.Buffer, named: Sequence[tuple[str, DeadLetter]]) -> DeadLetterPart:
        """Describe a part by its content, dead letters with the names of their files."""
        letters = [letter for _, letter in named]
        firsts = first_places(((letter.reason, (file, letter.offset)) for file, letter in named))
        entry = file_entries({name: memoryview(data)})[name]
        reasons = Counter(letter.reason for letter in letters)
        sizes = [(len(letter.content), letter.reason != "token-too-long") for letter in letters]
        return cls(name, entry, dict(reasons), firsts, sum(n for n, _ in sizes), sum(n for n, whole in sizes if whole))


def first_places(places: Iterable[tuple[str, tuple[str, int]]]) -> dict[str, tuple[str, int]]:
    """Return the first place of each reason, by file and offset."""
    firsts: dict[str, tuple[str, int]] = {}
    for reason, place in places:
        firsts[reason] = min(place, firsts.get(reason, place))
    return firsts


class PhraseFile(NamedTuple):
    """What one round of joining found, as it was written.

    Attributes:
        rows: phrases in it.
    """

    name: str
    uri: str
    entry: FileEntry
    rows: int
