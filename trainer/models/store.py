"""The model folder: finished versions of both tables with their vocabulary, and the pointer to the current one.

    LATEST.json                           which version is live: swapped last; see `trainer.models.pointer`
    versions/VERSION/model.safetensors    tensors `input` and `output`, float32 [V, D], rows in id order
    versions/VERSION/subwords.safetensors only of models with subwords: tensor `rows`, float32 [V + buckets, D], which
                                          the rows of `input` are means of; opened by who asks for an unknown word
    versions/VERSION/vocab.parquet        as in the dataset
    versions/VERSION/model.json           format version, config, training, lineage, metrics, rule of subwords; bytes
                                          and SHA-256 of the files above
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
from dataclasses import asdict, dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline.dataset.schema import FORMAT_VERSION, FormatError, canonical_json, sha256_hex
from pipeline.dataset.vocabulary import Vocabulary, parse_vocab, save_vocab
from pipeline.storage import storage
from trainer.models.info import FileEntry, Info, name_version, read_checked, read_info, read_run, subword_rule
from trainer.models.pointer import HISTORY, LATEST, advance, read_pointer, swap, version_folder
from trainer.models.publication import (
    INFO,
    INPUTS,
    LINEAGE,
    MARK,
    RUN,
    SUBWORDS,
    TABLES,
    VOCAB,
    end_publication,
    place,
    publishing,
)
from trainer.models.tensors import Array, TensorFile, is_finite, map_arrays, require_subwords, require_tables
from trainer.subwords.table import SubwordTable

__all__ = [  # of others' homes
    "INFO", "INPUTS", "LATEST", "LINEAGE", "RUN", "TABLES", "VOCAB", "FileEntry", "Info", "name_version", "read_info",
    "read_run", "version_folder",
]  # fmt: skip

#: What is the store's own in a model's folder.
OWN = (LATEST, "versions", "checkpoints", "retrain", "train.lock")

_SECTIONS = ("config", "lineage", "metrics", "training")

Floats = npt.NDArray[np.float32]

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
        subwords: what its words are made of, None where each has but its own row.
    """

    input_VD: Floats
    output_VD: Floats
    vocabulary: Vocabulary
    info: Info
    subwords: SubwordTable | None = None

    @property
    def tables(self) -> dict[str, Floats]:
        return {"input": self.input_VD, "output": self.output_VD}


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
    _require_model(model, storage.redact(model_uri))
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
    _require_model(model, storage.redact(model_uri))
    with publishing(model_uri) as folder:
        return _write_version(model_uri, folder, model, run, {})


def _write_version(
    model_uri: str, folder: str, model: Model, run: Mapping[str, object], marks: dict[str, storage.Bytes]
) -> tuple[str, str]:
    arrays: dict[str, dict[str, Floats]] = {TABLES: model.tables}
    info: dict[str, object] = {name: value for name, value in model.info.items() if name in _SECTIONS}
    if model.subwords is not None:
        arrays[SUBWORDS] = {"rows": model.subwords.rows_RD}
        info["subwords"] = asdict(model.subwords.rule)
    with contextlib.ExitStack() as opened:
        tables, entries = dict[str, tuple[TensorFile, str]](), dict[str, FileEntry]()
        for name, named in arrays.items():
            digest = hashlib.sha256()
            file = opened.enter_context(contextlib.closing(TensorFile(storage.join(folder, name), named, digest)))
            tables[name] = file, digest.hexdigest()
            entries[name] = FileEntry(bytes=file.bytes, sha256=digest.hexdigest())
        vocabulary = memoryview(save_vocab(model.vocabulary))
        entries[VOCAB] = FileEntry(bytes=vocabulary.nbytes, sha256=sha256_hex(vocabulary))
        info |= {"format_version": FORMAT_VERSION, "files": entries}
        version = name_version(info)
        data = canonical_json(info | {"version": version})
        published_at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        about = canonical_json({"published_at": published_at, **run})
        contents: dict[str, storage.Bytes] = {**marks, VOCAB: vocabulary, RUN: about, INFO: data}
        place(model_uri, version, folder, tables, contents)
    return version, sha256_hex(data)


def load_model(model_uri: str, version: str | None = None) -> Model:
    """Read a version, by default the current one; sizes and SHA-256 of its files are checked.

    The rows of subwords are mapped when they are asked for.

    Raises:
        FormatError: no model, unfinished training, another format version, a damaged or unexpected file.
    """

    def load(uri: str, entry: FileEntry, rows: int) -> dict[str, Floats]:
        tables = map_arrays(read_checked(uri, entry), storage.redact(uri))
        _require_finite(tables, rows, storage.redact(uri))
        return tables  # type: ignore[return-value]

    return open_version(model_uri, version, load)


def open_version(model_uri: str, version: str | None, load: Loader, verify: bool = True) -> Model:
    """Open a version; None means the live one, whatever is published meanwhile.

    Args:
        model_uri: the model's folder.
        version: its name.
        load: reads or maps its tables.
        verify: check the SHA-256 of the rows of subwords when they are asked for.

    Raises:
        FormatError: there is no such version, or it is damaged.
    """
    if version is not None:
        return _open(model_uri, read_info(model_uri, version), load, verify)
    found = read_pointer(model_uri)
    if found is None:
        raise FormatError(explain_missing(model_uri))
    while True:
        try:
            return _open(model_uri, read_info(model_uri, found.version, found.model_sha256), load, verify)
        except (FormatError, FileNotFoundError):  # it may have been replaced, and removed, since the pointer was read
            now = read_pointer(model_uri)
            if now is None or now.version == found.version:
                raise
            found = now


def _open(model_uri: str, info: Info, load: Loader, verify: bool) -> Model:
    folder = version_folder(model_uri, info["version"])
    vocab_uri, tables_uri, subwords_uri = (storage.join(folder, name) for name in (VOCAB, TABLES, SUBWORDS))
    vocabulary = parse_vocab(read_checked(vocab_uri, info["files"][VOCAB]), storage.redact(vocab_uri))
    tables = load(tables_uri, info["files"][TABLES], len(vocabulary))
    rule = subword_rule(info)
    if rule is None:
        return Model(tables["input"], tables["output"], vocabulary, info)
    shape = (len(vocabulary) + rule.buckets, tables["input"].shape[1])

    def open_rows() -> Floats:
        from trainer.models.mapped import map_subwords  # which imports this module

        return map_subwords(subwords_uri, info["files"][SUBWORDS], shape, verify)

    return Model(tables["input"], tables["output"], vocabulary, info, SubwordTable(rule, open_rows))


def finished_version(model_uri: str) -> Info | None:
    """Return model.json of the current version, None where no training has finished yet."""
    found = read_pointer(model_uri)
    return None if found is None else read_info(model_uri, found.version, found.model_sha256)


def explain_missing(model_uri: str) -> str:
    path = storage.redact(model_uri)
    if not storage.is_local(model_uri) or storage.exists(model_uri):
        return f"{path}: no {LATEST} in it: its training has not finished, or this is not a model"
    return f"{path}: no such folder"


def _require_model(model: Model, path: str) -> None:
    _require_finite(model.tables, len(model.vocabulary), path)
    if model.subwords is not None:
        rows = {"rows": model.subwords.rows_RD}
        require_subwords(rows, (len(model.vocabulary) + model.subwords.rule.buckets, model.input_VD.shape[1]), path)
        if not is_finite(rows["rows"]):
            raise FormatError(f"{path}: found NaN or Inf in the rows of subwords, expected finite numbers")


def _require_finite(tables: Mapping[str, Array], rows: int, path: str) -> None:
    require_tables(tables, rows, path)
    for name, table_VD in tables.items():
        if not is_finite(table_VD):
            raise FormatError(f"{path}: found NaN or Inf in {name}, expected finite numbers")
