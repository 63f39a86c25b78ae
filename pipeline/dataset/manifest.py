"""The manifest: what decides and describes a dataset's bytes, and the pointer that names the current one.

Its SHA-256 is the dataset's id, so no clock, host or absolute path may enter it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

from pipeline.dataset.schema import (
    FORMAT_VERSION,
    FormatError,
    canonical_json,
    parse_json_object,
    require_inside,
    require_version,
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

T = TypeVar("T")


@dataclass(frozen=True)
class FileEntry:
    """Size and SHA-256 of one file of the dataset."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class CorpusTotals:
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

    files: int
    bytes: int
    lines: int
    sentences: int
    tokens: int
    in_vocabulary: int
    dead_letters: dict[str, int]
    dead_letter_bytes: int
    kept_dead_letters: dict[str, int] | None = None
    kept_dead_letter_bytes: int | None = None


@dataclass(frozen=True)
class VocabularyTotals:
    """Rows, sum of counts and logical digest (Vocabulary.digest) of the vocabulary."""

    rows: int
    count: int
    digest: str


@dataclass(frozen=True)
class PassTotals:
    """One pass over the corpus.

    Attributes:
        kept: tokens left after subsampling.
        pairs: rows over all shards.
        shards: files.
        digest: SHA-256 over the shards' logical digests, in order of their names.
    """

    kept: int
    pairs: int
    shards: int
    digest: str


@dataclass(frozen=True)
class Manifest:
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
        """Encode canonically."""
        fields = dataclasses.asdict(self)
        fields["corpus"] = {name: value for name, value in fields["corpus"].items() if value is not None}
        return canonical_json(fields)

    @property
    def dataset_id(self) -> str:
        """SHA-256 of the canonical bytes, in hexadecimal."""
        return sha256_hex(self.to_json())


def parse_manifest(data: bytes, path: str) -> Manifest:
    """Decode manifest.json; ``path`` names it in errors.

    Raises:
        FormatError: another format version, a missing, unknown or mistyped field, a name that leaves the folder.
    """
    fields = parse_json_object(data, path)
    require_version(fields.get("format_version"), path)
    files = _take(fields, "files", dict, path)
    manifest = Manifest(
        tokenizer=_take(fields, "tokenizer", dict, path),
        options=_take(fields, "options", dict, path),
        corpus=_record(CorpusTotals, fields.get("corpus"), f"{path}: corpus"),
        vocabulary=_record(VocabularyTotals, fields.get("vocabulary"), f"{path}: vocabulary"),
        passes=tuple(_record(PassTotals, p, f"{path}: passes") for p in _take(fields, "passes", list, path)),
        files={require_inside(n, path): _record(FileEntry, e, f"{path}: files: {n}") for n, e in files.items()},
    )
    rounds = manifest.options.get("phrases", 0)
    if type(rounds) is not int or not 0 <= rounds <= len(files):  # each has a file
        raise FormatError(f"{path}: found options: phrases = {_short(rounds)}, expected 0 to {len(files)}")
    missing = {VOCAB, INPUTS, SHARDS} - manifest.files.keys()
    if missing:
        raise FormatError(f"{path}: found no entry for {', '.join(sorted(missing))}, expected one in 'files'")
    return manifest


@dataclass(frozen=True)
class Pointer:
    """The content of LATEST.json: the run that readers follow."""

    run: str
    manifest_sha256: str
    format_version: int = FORMAT_VERSION

    def to_json(self) -> bytes:
        """Encode canonically."""
        return canonical_json(dataclasses.asdict(self))


def parse_pointer(data: bytes, path: str) -> Pointer:
    """Decode LATEST.json.

    Raises:
        FormatError: another format version, a missing field, a run name that leaves the folder.
    """
    fields = parse_json_object(data, path)
    require_version(fields.get("format_version"), path)
    pointer = _record(Pointer, fields, path)
    return dataclasses.replace(pointer, run=require_run_id(pointer.run, path))


def require_run_id(run: str, path: str) -> str:
    """Return ``run`` if it is the plain name of one folder.

    Raises:
        FormatError: it is empty, hidden or holds a slash.
    """
    if "/" in run or run.startswith("."):
        raise FormatError(f"{path}: found the run {run!r}, expected the plain name of a folder")
    return require_inside(run, path)


_KINDS = {"int": int, "str": str, "dict[str, int]": dict, "dict[str, int] | None": dict, "int | None": int}


def _record(kind: type[T], value: object, where: str) -> T:
    """Build a dataclass from a JSON object that must hold its fields, all but those that may be None, and no others."""
    if not isinstance(value, dict):
        raise FormatError(f"{where}: found {type(value).__name__}, expected an object")
    fields = {f.name: _KINDS[str(f.type)] for f in dataclasses.fields(kind)  # type: ignore[arg-type]
              if f.default is not None or f.name in value}  # fmt: skip
    if value.keys() != fields.keys():
        raise FormatError(f"{where}: found the fields {sorted(value)}, expected {sorted(fields)}")
    return kind(**{name: _take(value, name, wanted, where) for name, wanted in fields.items()})


def _take(fields: dict[str, Any], name: str, kind: type[T], where: str) -> T:
    value = fields.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise FormatError(f"{where}: found {name} = {_short(value)}, expected {kind.__name__}")
    if isinstance(value, int) and not 0 <= value < 1 << 63:
        raise FormatError(f"{where}: found {name} = {_short(value)}, expected 0 to 2^63 - 1")
    return value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:100] + "…"
