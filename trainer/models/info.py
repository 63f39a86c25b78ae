"""model.json of a version: what it says, and the files that it lists."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, TypedDict

from pipeline.dataset.schema import (
    FormatError,
    canonical_json,
    parse_json_object,
    parse_struct,
    require_sha256,
    sha256_hex,
)
from pipeline.storage import storage
from trainer.models.pointer import version_folder
from trainer.models.publication import INFO, RUN, SUBWORDS, TABLES, VOCAB, read_if_there
from trainer.subwords.ngrams import Subwords


class FileEntry(TypedDict):
    """Size and SHA-256 of one file of a version."""

    bytes: int
    sha256: str


class Rule(TypedDict):
    """What words are made of: see `Subwords`."""

    shortest: int
    longest: int
    buckets: int


class Info(TypedDict, total=False):
    """The content of model.json; before it is saved, `config`, `lineage`, `metrics` and maybe `training` alone.

    Attributes:
        training: how it was trained, as far as that is known: threads, processes and the like.
        subwords: only where words are made of n-grams; then there is a file of their rows.
    """

    format_version: int
    version: str
    config: dict[str, Any]
    lineage: dict[str, Any]
    metrics: dict[str, Any]
    training: dict[str, Any]
    subwords: Rule
    files: dict[str, FileEntry]


def name_version(info: Mapping[str, object]) -> str:
    """Name the version of a model.json: 16 hex digits, which follow from all that is in it and in the version's files.

    Equal names mean equal bytes: of the settings, the metrics, the tables and the vocabulary.
    """
    content = {name: value for name, value in info.items() if name not in ("format_version", "version")}
    return hashlib.sha256(canonical_json(content)).hexdigest()[:16]


def read_info(model_uri: str, version: str, expected_sha256: str | None = None) -> Info:
    """Return model.json of a version.

    Raises:
        FormatError: it is missing, damaged, or not the one of the SHA-256.
    """
    uri = storage.join(version_folder(model_uri, version), INFO)
    path, data = storage.redact(uri), _read(uri)
    info = parse_struct(data, Info, path)
    if expected_sha256 is not None:
        require_sha256(sha256_hex(data), expected_sha256, path)
    if missing := Info.__annotations__.keys() - info.keys() - {"training", "subwords"}:
        raise FormatError(f"{path}: found no {', '.join(sorted(missing))}, expected all of a model's")
    if info["version"] != version:
        raise FormatError(f"{path}: found version {info['version']!r}, expected {version!r}")
    expected = sorted((TABLES, VOCAB, SUBWORDS) if "subwords" in info else (TABLES, VOCAB))
    if sorted(info["files"]) != expected:
        raise FormatError(f"{path}: found the files {sorted(info['files'])}, expected {expected}")
    try:
        subword_rule(info)
    except ValueError as error:
        raise FormatError(f"{path}: subwords: {error}") from None
    return info


def subword_rule(info: Info) -> Subwords | None:
    """What a model's words are made of, None where each has but its own row."""
    return Subwords(**info["subwords"]) if "subwords" in info else None


def read_run(model_uri: str, version: str) -> dict[str, Any]:
    """Return run.json of a version."""
    path = storage.join(version_folder(model_uri, version), RUN)
    return parse_json_object(_read(path), storage.redact(path))


def _read(uri: str) -> bytes:
    data = read_if_there(uri)
    if data is None:
        raise FormatError(f"{storage.redact(uri)}: found no file, expected one of a model's")
    return data


def read_checked(uri: str, entry: FileEntry) -> bytes:
    """Read a file of this size and SHA-256."""
    path, data = storage.redact(uri), _read(uri)
    if len(data) != entry["bytes"]:
        raise FormatError(f"{path}: found {len(data)} bytes, expected {entry['bytes']}")
    require_sha256(sha256_hex(data), entry["sha256"], path)
    return data
