"""Where a version comes from: lineage.json and inputs.parquet next to its tables.

lineage.json        parent version; dataset, its run and its base; totals of the text; settings; library versions;
                    alignment; the gate's figures and what it decided; SHA-256 of inputs.parquet
inputs.parquet      every file that the version or its parents were trained on: uri (where it really is), bytes
                    (stored), modified, digest and text_bytes (of its text, as in the dataset), since (the version that
                    read it), read (by this one). A file that was changed and read again has a row for each text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.manifest import INPUTS as DATASET_INPUTS
from pipeline.dataset.reader import Dataset
from pipeline.dataset.schema import FORMAT_VERSION, canonical_json, parse_json_object, sha256_hex
from pipeline.storage import storage
from trainer.models.environment import library_versions
from trainer.models.store import INPUTS, LINEAGE, version_folder
from trainer.retraining.config import Settings
from trainer.retraining.corpus import as_seen, load_files, save_files
from trainer.retraining.gate import Check
from trainer.retraining.state import Night


def known_files(model_uri: str, version: str) -> pa.Table | None:
    """Files that a version was trained on; None where it was not made by retraining.

    Raises:
        FormatError: the list is damaged.
    """
    return load_files(storage.join(version_folder(model_uri, version), INPUTS))


def trained_files(read: pa.Table, dataset: Dataset, known: pa.Table | None, version: str) -> pa.Table:
    """Files of a version: those that it read, with the digests that the pipeline found, and its parents'."""
    texts, rows, real = _texts_of(dataset), len(read), storage.RealPaths()
    places = pa.array([real.of(uri) for uri in read["uri"].to_pylist()], pa.string())
    table = read.select(["uri", "bytes", "modified"]).set_column(0, "uri", places)
    table = table.append_column("digest", texts["digest"]).append_column("text_bytes", texts["bytes"])
    table = table.append_column("since", pa.array([version] * rows, pa.string()))
    table = table.append_column("read", pa.array([True] * rows, pa.bool_()))
    if known is None:
        return table
    old = as_seen(known).append_column("since", known["since"])
    old = old.append_column("read", pa.array([False] * len(old), pa.bool_()))
    return pa.concat_tables([old.select(table.schema.names).cast(table.schema), table])


def content_of(dataset: Dataset) -> str:
    """Digest of the texts that a dataset was made of and how, whatever their files are called, in whatever order."""
    made = dataset.manifest
    texts = sorted(_texts_of(dataset)["digest"].to_pylist())
    return sha256_hex(canonical_json({"options": made.options, "tokenizer": made.tokenizer, "texts": texts}))


def _texts_of(dataset: Dataset) -> pa.Table:
    with storage.open_binary(dataset.path_of(DATASET_INPUTS)) as file:
        return pq.read_table(file, columns=["digest", "bytes"], use_threads=False).combine_chunks()


def save_lineage(
    model_uri: str, night: Night, dataset: Dataset, settings: Settings, files: pa.Table, aligned_words: int | None
) -> None:
    """Write both files of a staged version, as far as they are known before the gate."""
    folder = version_folder(model_uri, night.version)
    data = save_files(storage.join(folder, INPUTS), files)
    manifest = dataset.manifest
    own = {
        name: storage.redact(value) if isinstance(value, str) else value for name, value in vars(settings.own).items()
    }
    lineage = {
        "format_version": FORMAT_VERSION,
        "version": night.version,
        "parent": night.parent or None,
        "night": {"name": night.name, "started": night.started, "only_new": night.only_new},
        "dataset": {
            "uri": storage.redact(dataset.uri),
            "run": dataset.run_id,
            "dataset_id": dataset.dataset_id,
            "vocabulary": dataclasses.asdict(manifest.vocabulary),
            "corpus": dataclasses.asdict(manifest.corpus),
            "options": manifest.options,
            "tokenizer": manifest.tokenizer,
        },
        "inputs": {"file": INPUTS, "sha256": sha256_hex(data), "files": len(files), "read": night.files},
        "settings": {**own, "training": settings.training},
        "libraries": library_versions(),
        "aligned_words": aligned_words,
        "gate": None,
    }
    storage.write_bytes(storage.join(folder, LINEAGE), canonical_json(lineage))


def add_verdict(
    model_uri: str, version: str, kind: str, checks: Sequence[Check], scores: Mapping[str, Any], at: str
) -> None:
    """Write down what the gate found and decided."""
    lineage = load_lineage(model_uri, version) or {}
    failed = [str(check) for check in checks if not check.passed]
    gate = {"decision": kind, "at": at, "checks": [check.to_dict() for check in checks], "failed": failed}
    uri = storage.join(version_folder(model_uri, version), LINEAGE)
    storage.write_bytes(uri, canonical_json({**lineage, "gate": {**gate, "scores": dict(scores)}}))


def load_lineage(model_uri: str, version: str) -> dict[str, Any] | None:
    """Read lineage.json; None where a version has none.

    Raises:
        FormatError: it is damaged.
    """
    uri = storage.join(version_folder(model_uri, version), LINEAGE)
    data = storage.read_pointer(uri)
    return None if data is None else parse_json_object(data, storage.redact(uri))
