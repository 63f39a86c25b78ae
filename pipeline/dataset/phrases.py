"""Phrases: pairs of neighbouring words that are one token of the dataset; one file for each round of joining."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.reader import Dataset
from pipeline.dataset.schema import PHRASES_SCHEMA, FormatError, sha256_hex
from pipeline.dataset.tables import encode_table, read_table
from pipeline.storage import storage

_NAME = re.compile(r"phrases/round-\d{2}\.parquet")


def phrases_name(number: int) -> str:
    """Name the file of round ``number``, from 1, in a run's folder."""
    return f"phrases/round-{number:02d}.parquet"


def phrase_files(dataset: Dataset) -> tuple[tuple[str, str], ...]:
    """Return URI and SHA-256 of a dataset's phrase files, in the order in which they are applied."""
    files = dataset.manifest.files
    return tuple((dataset.path_of(name), files[name].sha256) for name in sorted(files) if _NAME.fullmatch(name))


def save_phrases(table: pa.Table) -> pa.Buffer:
    """Encode a round's phrases, ordered by count descending, then by the bytes of both words."""
    # Binary columns compare bytewise; no locale has a say.
    keys = table.select(["first", "second"]).cast(pa.schema([("first", pa.binary()), ("second", pa.binary())]))
    keys = keys.append_column("count", table["count"])
    order = pc.sort_indices(keys, sort_keys=[("count", "descending"), ("first", "ascending"), ("second", "ascending")])
    ordered = table.take(order).cast(PHRASES_SCHEMA)
    return encode_table(ordered, compression_level=1, use_dictionary=False, row_group_size=1 << 20)


def load_phrases(uri: str, sha256: str) -> pa.Table:
    """Read one round's phrases, columns of PHRASES_SCHEMA.

    Raises:
        FormatError: no such file, not the one of that digest, or as parse_phrases.
    """
    path = storage.redact(uri)
    try:
        data = storage.read_bytes(uri)
    except FileNotFoundError:
        raise FormatError(f"{path}: found no file, expected the phrases of a round") from None
    if sha256_hex(data) != sha256:
        raise FormatError(f"{path}: found sha256 {sha256_hex(data)}, expected {sha256}")
    return parse_phrases(data, path)


def parse_phrases(data: bytes, path: str) -> pa.Table:
    """Decode the bytes of one round's file; ``path`` names it in errors.

    Raises:
        FormatError: no Parquet, other columns, a failed page checksum, a null, an empty word, a pair twice,
            a count below 1.
    """
    table = read_table(data, PHRASES_SCHEMA, path).combine_chunks()
    for name in ("first", "second"):
        if pc.any(pc.equal(table[name], "")).as_py():
            raise FormatError(f"{path}: found an empty word in the column {name}, expected none")
    lowest = pc.min(table["count"]).as_py()
    if lowest is not None and lowest < 1:
        raise FormatError(f"{path}: found count {lowest}, expected none below 1")
    different = table.group_by(["first", "second"], use_threads=False).aggregate([]).num_rows
    if different != table.num_rows:
        raise FormatError(f"{path}: found {different} pairs in {table.num_rows} rows, expected each pair once")
    return table
