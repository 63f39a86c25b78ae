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
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.dataset.schema import (
    FORMAT_VERSION,
    FormatError,
    canonical_json,
    parse_json_object,
    require_inside,
    require_version,
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
)
from trainer.models.tensors import TensorFile, parse_tables

__all__ = ["INFO", "INPUTS", "LATEST", "LINEAGE", "RUN", "TABLES", "VOCAB", "version_folder"]  # of others' homes

#: What is the store's own in a model's folder.
OWN = (LATEST, "versions", "checkpoints", "retrain", "train.lock")

_SECTIONS = ("config", "lineage", "metrics")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Model:
    """Trained vectors.

    Attributes:
        input_VD: the input table, rows in id order.
        output_VD: the output table, rows in id order.
        vocabulary: tokens and counts of the V rows.
        info: `config`, `lineage`, `metrics` and, if it is known, `training` (threads, processes and the like), as in
            model.json; a loaded model has all of model.json here.
    """

    input_VD: Floats
    output_VD: Floats
    vocabulary: Vocabulary
    info: dict[str, Any]


def name_version(info: Mapping[str, Any]) -> str:
    """Name the version of a model.json: 16 hex digits, which follow from all that is in it and in the version's files.

    Equal names mean equal bytes: of the settings, the metrics, the tables and the vocabulary.
    """
    content = {name: value for name, value in info.items() if name not in ("format_version", "version")}
    return hashlib.sha256(canonical_json(content)).hexdigest()[:16]


def save_model(model_uri: str, model: Model, run: dict[str, Any], keep: int = HISTORY) -> str:
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
    _require_model(model, storage.redact(model_uri))
    before = read_pointer(model_uri)
    with publishing(model_uri) as folder:
        version, sha256 = _write_version(model_uri, folder, model, run, {MARK: b""})
        after = advance(before, version, sha256).cut(keep)
        swap(model_uri, before, after)
        end_publication(model_uri, after)
    return version


def stage_model(model_uri: str, model: Model, run: dict[str, Any]) -> tuple[str, str]:
    """Write a version, which no reader sees until the pointer names it; return its name and model.json's SHA-256.

    Raises:
        FormatError: a table holds NaN or Inf, or does not fit the vocabulary; nothing was written.
    """
    _require_model(model, storage.redact(model_uri))
    with publishing(model_uri) as folder:
        return _write_version(model_uri, folder, model, run, {})


def _write_version(
    model_uri: str, folder: str, model: Model, run: dict[str, Any], marks: dict[str, storage.Bytes]
) -> tuple[str, str]:
    digest, tables = hashlib.sha256(), {"input": model.input_VD, "output": model.output_VD}
    with contextlib.closing(TensorFile(storage.join(folder, TABLES), tables, digest)) as file:
        vocabulary = memoryview(save_vocab(model.vocabulary))
        info = {name: model.info[name] for name in _SECTIONS} | {
            "format_version": FORMAT_VERSION,
            "files": {
                TABLES: {"bytes": file.bytes, "sha256": digest.hexdigest()},
                VOCAB: {"bytes": vocabulary.nbytes, "sha256": sha256_hex(vocabulary)},
            },
        }
        if "training" in model.info:
            info["training"] = model.info["training"]
        version = name_version(info)
        data = canonical_json(info | {"version": version})
        published_at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        about = canonical_json({"published_at": published_at} | run)
        contents: dict[str, storage.Bytes] = {**marks, VOCAB: vocabulary, RUN: about, INFO: data}
        place(model_uri, version, folder, file, contents, digest.hexdigest())
    return version, sha256_hex(data)


def load_model(model_uri: str, version: str | None = None) -> Model:
    """Read a version, by default the current one; sizes and SHA-256 of its files are checked.

    Raises:
        FormatError: no model, unfinished training, another format version, a damaged or unexpected file.
    """
    return open_version(model_uri, version, lambda info: _load_version(model_uri, info))


def open_version(model_uri: str, version: str | None, load: Callable[[dict[str, Any]], Model]) -> Model:
    """Have a version loaded from its model.json; None means the live one, whatever is published meanwhile.

    Raises:
        FormatError: there is no such version, or it is damaged.
    """
    if version is not None:
        return load(read_info(model_uri, version))
    found = read_pointer(model_uri)
    if found is None:
        raise FormatError(explain_missing(model_uri))
    while True:
        try:
            return load(read_info(model_uri, found.version, found.model_sha256))
        except (FormatError, FileNotFoundError):  # it may have been replaced, and removed, since the pointer was read
            now = read_pointer(model_uri)
            if now is None or now.version == found.version:
                raise
            found = now


def _load_version(model_uri: str, info: dict[str, Any]) -> Model:
    folder = version_folder(model_uri, info["version"])
    vocab_path, tables_path = (storage.join(folder, name) for name in (VOCAB, TABLES))
    vocabulary = parse_vocab(read_checked(vocab_path, info["files"][VOCAB]), storage.redact(vocab_path))
    path = storage.redact(tables_path)
    tables = parse_tables(read_checked(tables_path, info["files"][TABLES]), len(vocabulary), path)
    for name, table_VD in tables.items():
        _require_table(table_VD, name, len(vocabulary), path)
    return Model(tables["input"], tables["output"], vocabulary, info)


def finished_version(model_uri: str) -> dict[str, Any] | None:
    """Return model.json of the current version, None where no training has finished yet.

    Raises:
        FormatError: the pointer or model.json is damaged.
    """
    found = read_pointer(model_uri)
    return None if found is None else read_info(model_uri, found.version, found.model_sha256)


def read_run(model_uri: str, version: str) -> dict[str, Any]:
    """Return run.json of a version.

    Raises:
        FormatError: there is none, or it is no JSON object.
    """
    path = storage.join(version_folder(model_uri, version), RUN)
    return parse_json_object(_read(path), storage.redact(path))


def _read(path: str) -> bytes:
    try:
        return storage.read_bytes(path)
    except (FileNotFoundError, NotADirectoryError):
        raise FormatError(f"{storage.redact(path)}: found no file, expected one of a model's") from None


def read_checked(path: str, entry: dict[str, Any]) -> bytes:
    data = _read(path)
    if len(data) != entry["bytes"]:
        raise FormatError(f"{storage.redact(path)}: found {len(data)} bytes, expected {entry['bytes']}")
    found = sha256_hex(data)
    if found != entry["sha256"]:
        raise FormatError(f"{storage.redact(path)}: found SHA-256 {found[:16]}…, expected {entry['sha256'][:16]}…")
    return data


def explain_missing(model_uri: str) -> str:
    path = storage.redact(model_uri)
    if not storage.is_local(model_uri) or storage.exists(model_uri):
        return f"{path}: no {LATEST} in it: its training has not finished, or this is not a model"
    return f"{path}: no such folder"


def read_info(model_uri: str, version: str, expected_sha256: str | None = None) -> dict[str, Any]:
    """Return model.json of a version.

    Raises:
        FormatError: it is missing, damaged, or not the one of the SHA-256.
    """
    uri = storage.join(version_folder(model_uri, version), INFO)
    path, data = storage.redact(uri), _read(uri)
    info = parse_json_object(data, path)
    require_version(info.get("format_version"), path)
    if expected_sha256 not in (None, sha256_hex(data)):
        raise FormatError(f"{path}: found SHA-256 {sha256_hex(data)[:16]}…, expected {str(expected_sha256)[:16]}…")
    if info.get("version") != version:
        raise FormatError(f"{path}: found version {info.get('version')!r}, expected {version!r}")
    for name in (*_SECTIONS, "files"):
        if not isinstance(info.get(name), dict):
            raise FormatError(f"{path}: found {name} = {info.get(name)!r}, expected an object")
    files = {require_inside(name, path): entry for name, entry in info["files"].items()}
    if files.keys() != {TABLES, VOCAB}:
        raise FormatError(f"{path}: found the files {sorted(files)}, expected {sorted((TABLES, VOCAB))}")
    for name, entry in files.items():
        if not isinstance(entry, dict) or type(entry.get("bytes")) is not int or type(entry.get("sha256")) is not str:
            raise FormatError(f"{path}: found files: {name} = {entry!r}, expected its bytes and sha256")
    return info


def _require_model(model: Model, where: str) -> None:
    for name, table_VD in (("input", model.input_VD), ("output", model.output_VD)):
        _require_table(table_VD, name, len(model.vocabulary), where)
    if model.input_VD.shape != model.output_VD.shape:
        raise FormatError(
            f"{where}: found tables of {model.input_VD.shape} and {model.output_VD.shape}, expected one shape"
        )


def _require_table(table_VD: npt.NDArray[Any], name: str, rows: int, path: str) -> None:
    if table_VD.dtype != np.float32 or table_VD.ndim != 2 or table_VD.shape[1] == 0:
        raise FormatError(f"{path}: found {name} {table_VD.dtype} {table_VD.shape}, expected float32 [{rows}, D]")
    if len(table_VD) != rows:
        raise FormatError(f"{path}: found {len(table_VD)} rows in {name}, expected the vocabulary's {rows}")
    # The extremes are NaN where any value is; unlike isfinite, no array of the table's size is made.
    if table_VD.size and not np.isfinite([table_VD.min(), table_VD.max()]).all():
        raise FormatError(f"{path}: found NaN or Inf in {name}, expected finite numbers")
