"""Where a version comes from: lineage.json and inputs.parquet next to its tables.

lineage.json        parent version; dataset, its run and its base; totals of the text; settings; library versions;
                    alignment; the gate's figures and what it decided; SHA-256 of inputs.parquet
inputs.parquet      every file that the version or its parents were trained on: uri (where it really is), bytes
                    (stored), modified, digest and text_bytes (of its text, as in the dataset), since (the version that
                    read it), read (by this one). A file that was changed and read again has a row for each text.
"""

from __future__ import annotations

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.manifest import INPUTS as DATASET_INPUTS
from pipeline.dataset.manifest import CorpusTotals, VocabularyTotals
from pipeline.dataset.reader import Dataset
from pipeline.dataset.schema import FORMAT_VERSION, canonical_json, parse_struct, sha256_hex
from pipeline.storage import storage
from trainer.models.environment import library_versions
from trainer.models.store import INPUTS, LINEAGE, version_folder
from trainer.retraining.config import Settings
from trainer.retraining.corpus import as_seen, load_files, save_files
from trainer.retraining.gate import Check, Values
from trainer.retraining.state import Night


class OfNight(msgspec.Struct):
    """The night that made a version; ``name`` is its run's in the dataset."""

    name: str
    started: str
    only_new: bool


class OfDataset(msgspec.Struct):
    """The dataset; ``content`` is the digest of its texts, whatever their files are called."""

    uri: str
    run: str
    dataset_id: str
    vocabulary: VocabularyTotals
    corpus: CorpusTotals
    options: dict[str, object]
    tokenizer: dict[str, object]
    content: str = ""


class OfInputs(msgspec.Struct):
    """The list of files: how many there are, and how many of them this version read."""

    file: str
    sha256: str
    files: int
    read: int


class Verdict(msgspec.Struct):
    """What the gate found and decided; ``digest`` is of what that follows from."""

    decision: str
    at: str
    checks: list[Check]
    failed: list[str]
    scores: dict[str, Values]
    digest: str = ""


class Lineage(msgspec.Struct):
    """The content of lineage.json."""

    version: str
    parent: str | None
    night: OfNight
    dataset: OfDataset
    inputs: OfInputs
    settings: dict[str, object]
    libraries: dict[str, str | None]
    aligned_words: int | None
    gate: Verdict | None = None
    format_version: int = FORMAT_VERSION


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
    model_uri: str, version: str, night: Night, dataset: Dataset, settings: Settings, files: pa.Table,
    aligned_words: int | None,
) -> None:  # fmt: skip
    """Write both files of a staged version, as far as they are known before the gate."""
    data = save_files(storage.join(version_folder(model_uri, version), INPUTS), files)
    made = dataset.manifest
    own = {name: storage.redact(one) if isinstance(one, str) else one for name, one in vars(settings.own).items()}
    lineage = Lineage(
        version=version,
        parent=night.parent or None,
        night=OfNight(night.run, night.started, night.only_new),
        dataset=OfDataset(
            storage.redact(dataset.uri), dataset.run_id, dataset.dataset_id, made.vocabulary, made.corpus, made.options,
            made.tokenizer, content_of(dataset),
        ),
        inputs=OfInputs(INPUTS, sha256_hex(data), len(files), night.files),
        settings={**own, "training": settings.training},
        libraries=library_versions(),
        aligned_words=aligned_words,
    )  # fmt: skip
    write_lineage(model_uri, lineage)


def write_lineage(model_uri: str, lineage: Lineage) -> None:
    """Write lineage.json alone."""
    uri = storage.join(version_folder(model_uri, lineage.version), LINEAGE)
    storage.write_bytes(uri, canonical_json(msgspec.to_builtins(lineage)))


def load_lineage(model_uri: str, version: str) -> Lineage | None:
    """Read lineage.json; None where a version has none.

    Raises:
        FormatError: it is damaged.
    """
    uri = storage.join(version_folder(model_uri, version), LINEAGE)
    data = storage.read_pointer(uri)
    return None if data is None else parse_struct(data, Lineage, storage.redact(uri))
