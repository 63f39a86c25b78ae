"""The model folder: finished versions of both tables with their vocabulary, and the pointer to the current one.

    LATEST.json                           which version is live: swapped last; see `trainer.models.pointer`
    versions/VERSION/model.safetensors    tensors `input` and `output`, float32 [V, D], rows in id order
    versions/VERSION/vocab.parquet        as in the dataset
    versions/VERSION/model.json           format version, config, training, lineage, metrics; bytes and SHA-256 of these
                                          two files
    versions/VERSION/run.json             what varies from run to run: times, URIs, library versions
    versions/VERSION/lineage.json         only of `retrain`: what it comes from, and the gate's figures; inputs.parquet

VERSION is a digest of the version's content: two models never share a name.

Shapes: V vocabulary rows, D dimensions.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

from pipeline.dataset.schema import (
    FORMAT_VERSION,
    FormatError,
    canonical_json,
    parse_json_object,
    parse_struct,
    require_sha256,
    sha256_hex,
)
from pipeline.dataset.vocabulary import Vocabulary, parse_vocab, save_vocab
from pipeline.storage import storage
from trainer.models.pointer import HISTORY, LATEST, advance, read_pointer, swap, version_folder
from trainer.models.publication import (
    INFO,
    INPUTS,
    LINEAGE,
    MARK,
    RUN,
    TABLES,
    VOCAB,
    end_publication,
    place,
    publishing,
    read_if_there,
)
from trainer.models.tensors import Array, TensorFile, is_finite, map_arrays, require_tables

__all__ = ["INFO", "INPUTS", "LATEST", "LINEAGE", "RUN", "TABLES", "VOCAB", "version_folder"]  # of others' homes

#: What is the store's own in a model's folder.
OWN = (LATEST, "versions", "checkpoints", "retrain", "train.lock")

_SECTIONS = ("config", "lineage", "metrics", "training")

Floats = npt.NDArray[np.float32]


class FileEntry(TypedDict):
    """Size and SHA-256 of one file of a version."""

    bytes: int
    sha256: str


class Info(TypedDict, total=False):
    """The content of model.json; before it is saved, `config`, `lineage`, `metrics` and maybe `training` alone.

    Attributes:
        training: how it was trained, as far as that is known: threads, processes and the like.
    """

    format_version: int
    version: str
    config: dict[str, Any]
    lineage: dict[str, Any]
    metrics: dict[str, Any]
    training: dict[str, Any]
    files: dict[str, FileEntry]


#: Gets the URI of a file of tables, its entry and the vocabulary's rows, returns the tables `input` and `output`.
Loader: TypeAlias = "Callable[[str, FileEntry, int], dict[str, Floats]]"


@dataclass(frozen=True, eq=False)
class Model:
    """Trained vectors.

    Attributes:
        input_VD: the input table, rows in id order.
        output_VD: the output table, rows in id order.
        vocabulary: tokens and counts of the V rows.
        info: what model.json says of it.
    """

    input_VD: Floats
    output_VD: Floats
    vocabulary: Vocabulary
    info: Info

    @property
    def tables(self) -> dict[str, Floats]:
        return {"input": self.input_VD, "output": self.output_VD}


def name_version(info: Mapping[str, object]) -> str:
    """Name the version of a model.json: 16 hex digits, which follow from all that is in it and in the version's files.

    Equal names mean equal bytes: of the settings, the metrics, the tables and the vocabulary.
    """
    content = {name: value for name, value in info.items() if name not in ("format_version", "version")}
    return hashlib.sha256(canonical_json(content)).hexdigest()[:16]


def save_model(model_uri: str, model: Model, run: Mapping[str, object], keep: int = HISTORY) -> str:
    """Write a version, make it the live one, and return its name.

    Until the pointer is swapped, readers see the previous version. ``published_at`` (UTC) is added to run.json.

    Args:
        model_uri: the model's folder.
        model: what to write.
        run: for run.json.
        keep: published versions to keep, the live one among them; the files of older ones are removed.

    Raises:
        FormatError: a table holds NaN or Inf, or does not fit the vocabulary; nothing was written.
        PointerMovedError: another version was published meanwhile.
    """
    _require_model(model.tables, len(model.vocabulary), storage.redact(model_uri))
    before = read_pointer(model_uri)
    with publishing(model_uri) as folder:
        version, sha256 = _write_version(model_uri, folder, model, run, {MARK: b""})
        after = advance(before, version, sha256).cut(keep)
        swap(model_uri, before, after)
        end_publication(model_uri, after)
    return version


def stage_model(model_uri: str, model: Model, run: Mapping[str, object]) -> tuple[str, str]:
    """Write a version, which no reader sees until the pointer names it; return its name and model.json's SHA-256.

    Raises:
        FormatError: a table holds NaN or Inf, or does not fit the vocabulary; nothing was written.
    """
    _require_model(model.tables, len(model.vocabulary), storage.redact(model_uri))
    with publishing(model_uri) as folder:
        return _write_version(model_uri, folder, model, run, {})


def _write_version(
    model_uri: str, folder: str, model: Model, run: Mapping[str, object], marks: dict[str, storage.Bytes]
) -> tuple[str, str]:
    digest, tables = hashlib.sha256(), model.tables
    with contextlib.closing(TensorFile(storage.join(folder, TABLES), tables, digest)) as file:
        vocabulary = memoryview(save_vocab(model.vocabulary))
        info = {name: value for name, value in model.info.items() if name in _SECTIONS} | {
            "format_version": FORMAT_VERSION,
            "files": {
                TABLES: FileEntry(bytes=file.bytes, sha256=digest.hexdigest()),
                VOCAB: FileEntry(bytes=vocabulary.nbytes, sha256=sha256_hex(vocabulary)),
            },
        }
        version = name_version(info)
        data = canonical_json(info | {"version": version})
        published_at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        about = canonical_json({"published_at": published_at, **run})
        contents: dict[str, storage.Bytes] = {**marks, VOCAB: vocabulary, RUN: about, INFO: data}
        place(model_uri, version, folder, file, contents, digest.hexdigest())
    return version, sha256_hex(data)


def load_model(model_uri: str, version: str | None = None) -> Model:
    """Read a version, by default the current one; sizes and SHA-256 of its files are checked.

    Raises:
        FormatError: no model, unfinished training, another format version, a damaged or unexpected file.
    """

    def load(uri: str, entry: FileEntry, rows: int) -> dict[str, Floats]:
        tables = map_arrays(read_checked(uri, entry), storage.redact(uri))
        _require_model(tables, rows, storage.redact(uri))
        return tables  # type: ignore[return-value]

    return open_version(model_uri, version, load)


def open_version(
    model_uri: str, version: str | None, load: Callable[[str, FileEntry, int], dict[str, Floats]]
) -> Model:
    """Open a version; None means the live one, whatever is published meanwhile.

    Raises:
        FormatError: there is no such version, or it is damaged.
    """
    if version is not None:
        return _open(model_uri, read_info(model_uri, version), load)
    found = read_pointer(model_uri)
    if found is None:
        raise FormatError(explain_missing(model_uri))
    while True:
        try:
            return _open(model_uri, read_info(model_uri, found.version, found.model_sha256), load)
        except (FormatError, FileNotFoundError):  # it may have been replaced, and removed, since the pointer was read
            now = read_pointer(model_uri)
            if now is None or now.version == found.version:
                raise
            found = now


def _open(model_uri: str, info: Info, load: Loader) -> Model:
    vocab_uri, tables_uri = (storage.join(version_folder(model_uri, info["version"]), name) for name in (VOCAB, TABLES))
    vocabulary = parse_vocab(read_checked(vocab_uri, info["files"][VOCAB]), storage.redact(vocab_uri))
    tables = load(tables_uri, info["files"][TABLES], len(vocabulary))
    return Model(tables["input"], tables["output"], vocabulary, info)


def finished_version(model_uri: str) -> Info | None:
    """Return model.json of the current version, None where no training has finished yet."""
    found = read_pointer(model_uri)
    return None if found is None else read_info(model_uri, found.version, found.model_sha256)


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


def explain_missing(model_uri: str) -> str:
    path = storage.redact(model_uri)
    if not storage.is_local(model_uri) or storage.exists(model_uri):
        return f"{path}: no {LATEST} in it: its training has not finished, or this is not a model"
    return f"{path}: no such folder"


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
    if missing := Info.__annotations__.keys() - info.keys() - {"training"}:
        raise FormatError(f"{path}: found no {', '.join(sorted(missing))}, expected all of a model's")
    if info["version"] != version:
        raise FormatError(f"{path}: found version {info['version']!r}, expected {version!r}")
    if info["files"].keys() != {TABLES, VOCAB}:
        raise FormatError(f"{path}: found the files {sorted(info['files'])}, expected {sorted((TABLES, VOCAB))}")
    return info


def _require_model(tables: Mapping[str, Array], rows: int, path: str) -> None:
    require_tables(tables, rows, path)
    for name, table_VD in tables.items():
        if not is_finite(table_VD):
            raise FormatError(f"{path}: found NaN or Inf in {name}, expected finite numbers")
