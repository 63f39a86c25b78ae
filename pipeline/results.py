"""What the stages of a run tell each other: small records, one a file written."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.dataset.manifest import FileEntry, VocabularyTotals
from pipeline.dataset.shards import Shard
from pipeline.text.dead_letters import Tally


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


class DeadLetters(NamedTuple):
    """What was set aside, as far as it is kept as it was written.

    Attributes:
        files: of letters that are kept.
        tallies: of all letters, by reason.
        kept: letters in the files, counted by reason.
        kept_bytes: their content.
    """

    files: dict[str, FileEntry]
    tallies: dict[str, Tally]
    kept: dict[str, int]
    kept_bytes: int

    @property
    def reasons(self) -> dict[str, int]:
        """All letters, counted by reason."""
        return {reason: tally.letters for reason, tally in self.tallies.items()}

    @property
    def firsts(self) -> dict[str, tuple[str, int]]:
        """File and offset of the first letter of each reason."""
        return {reason: tally.first for reason, tally in self.tallies.items()}

    @property
    def bytes(self) -> int:
        """Bytes of all letters."""
        return sum(tally.bytes for tally in self.tallies.values())

    @property
    def line_bytes(self) -> int:
        """Bytes of those that are whole lines or records, not tokens of a line."""
        return sum(tally.bytes for reason, tally in self.tallies.items() if reason != "token-too-long")


NO_DEAD_LETTERS = DeadLetters({}, {}, {}, 0)


class PhraseFile(NamedTuple):
    """What one round of joining found, as it was written.

    Attributes:
        rows: phrases in it.
    """

    name: str
    uri: str
    entry: FileEntry
    rows: int
