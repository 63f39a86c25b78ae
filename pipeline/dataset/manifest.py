"""The manifest: what decides and describes a dataset's bytes, and the pointer that names the current one.

Its SHA-256 is the dataset's id, so no clock, host or absolute path may enter it.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from pipeline.dataset.schema import (
    FORMAT_VERSION,
    FormatError,
    canonical_json,
    parse_struct,
    require_inside,
    sha256_hex,
)

LATEST = "LATEST.json"
MANIFEST = "manifest.json"
VOCAB = "vocab.parquet"
INPUTS = "inputs.parquet"
SHARDS = "shards.parquet"
RUN = "run.json"
MODELS = "models"  # a folder next to the runs: which ones models were trained on

#: What is the dataset's own in its folder.
OWN = ("runs", LATEST, f"{LATEST}.lock")

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A JSON object that holds these fields and no others."""


class FileEntry(_Record, frozen=True):
    """Size and SHA-256 of one file of the dataset."""

    bytes: Count
    sha256: str


class CorpusTotals(_Record, frozen=True):
    """What was read.

    Attributes:
        bytes: decompressed bytes of text.
        sentences: lines, or pieces of overlong ones, that hold at least one token.
        tokens: tokens before the vocabulary is applied.
        in_vocabulary: tokens that the vocabulary holds.
        dead_letters: what was set aside, counted by reason.
        dead_letter_bytes: bytes of the text that was set aside.
        kept_dead_letters: those of them that are in the dataset's files, by reason; None where all are.
        kept_dead_letter_bytes: theirs; None where all are.
    """

    files: Count
    bytes: Count
    lines: Count
    sentences: Count
    tokens: Count
    in_vocabulary: Count
    dead_letters: dict[str, Count]
    dead_letter_bytes: Count
    kept_dead_letters: dict[str, Count] | None = None
    kept_dead_letter_bytes: Count | None = None


class VocabularyTotals(_Record, frozen=True):
    """Rows, sum of counts and logical digest (Vocabulary.digest) of the vocabulary."""

    rows: Count
    count: Count
    digest: str


class PassTotals(_Record, frozen=True):
    """One pass over the corpus.

    Attributes:
        kept: tokens left after subsampling.
        pairs: rows over all shards.
        shards: files.
        digest: SHA-256 over the shards' logical digests, in order of their names.
    """

    kept: Count
    pairs: Count
    shards: Count
    digest: str


class Manifest(_Record, frozen=True, omit_defaults=False):
    """The content of manifest.json.

    Attributes:
        tokenizer: name, version and Unicode versions.
        options: every option that shapes the bytes.
        files: the other files by name, relative to the run's folder; shards are listed in shards.parquet.
    """

    tokenizer: dict[str, Any]
    options: dict[str, Any]
    corpus: CorpusTotals
    vocabulary: VocabularyTotals
    passes: tuple[PassTotals, ...]
    files: dict[str, FileEntry]
    format_version: int = FORMAT_VERSION

    def to_json(self) -> bytes:
        return canonical_json(msgspec.to_builtins(self))

    @property
    def dataset_id(self) -> str:
        """SHA-256 of the canonical bytes, in hexadecimal."""
        return sha256_hex(self.to_json())


def parse_manifest(data: bytes, path: str) -> Manifest:
    """Decode manifest.json; ``path`` names it in errors.

    Raises:
        FormatError: another format version, a missing, unknown or mistyped field, a name that leaves the folder.
    """
    manifest = parse_struct(data, Manifest, path)
    for name in manifest.files:
        require_inside(name, path)
    rounds = manifest.options.get("phrases", 0)
    if type(rounds) is not int or not 0 <= rounds <= len(manifest.files):  # each has a file
        raise FormatError(f"{path}: found options: phrases = {str(rounds)[:100]}, expected 0 to {len(manifest.files)}")
    missing = {VOCAB, INPUTS, SHARDS} - manifest.files.keys()
    if missing:
        raise FormatError(f"{path}: found no entry for {', '.join(sorted(missing))}, expected one in 'files'")
    return manifest


class Pointer(_Record, frozen=True, omit_defaults=False):
    """The content of LATEST.json: the run that readers follow."""

    run: str
    manifest_sha256: str
    format_version: int = FORMAT_VERSION

    def to_json(self) -> bytes:
        return canonical_json(msgspec.to_builtins(self))


def parse_pointer(data: bytes, path: str) -> Pointer:
    """Decode LATEST.json.

    Raises:
        FormatError: another format version, a missing field, a run name that leaves the folder.
    """
    pointer = parse_struct(data, Pointer, path)
    require_run_id(pointer.run, path)
    return pointer


def require_run_id(run: str, path: str) -> str:
    """Return ``run`` if it is the plain name of one folder.

    Raises:
        FormatError: it is empty, hidden or holds a slash.
    """
    if "/" in run or run.startswith("."):
        raise FormatError(f"{path}: found the run {run!r}, expected the plain name of a folder")
    return require_inside(run, path)
