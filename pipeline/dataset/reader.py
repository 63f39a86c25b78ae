"""Opening a dataset: follow the pointer, check every file against what names it, read pairs.

Shape suffix: N pairs of a row group.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.dataset.manifest import (
    LATEST,
    MANIFEST,
    RUN,
    SHARDS,
    VOCAB,
    Manifest,
    parse_manifest,
    parse_pointer,
    require_run_id,
)
from pipeline.dataset.schema import FormatError, parse_json_object, sha256_hex
from pipeline.dataset.shard_index import Columns, ShardTable, parse_shards
from pipeline.dataset.shards import Pairs, decode_row_group, parse_footer, require_checksum
from pipeline.dataset.vocabulary import Vocabulary, parse_vocab
from pipeline.storage import storage

#: Decoded footers that a dataset keeps, 31 kB each; beyond them a row group costs a second, small request again.
MOST_FOOTERS = 4096
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class RowGroupRef:
    """One row group of a dataset: what a reader distributes, shuffles and resumes at.

    Attributes:
        shard: row number in shards.parquet.
        group: index in the shard.
        rows: pairs.
        path: the shard's path relative to the run's folder.
    """

    shard: int
    group: int
    rows: int
    path: str


class RowGroups(Columns[RowGroupRef]):
    """The row groups of one pass, in file order; each is a RowGroupRef when it is asked for, and 16 bytes before.

    Attributes:
        rows_G: int64, pairs of each.
    """

    def __init__(self, shards: ShardTable, pass_index: int) -> None:
        """List what the table names."""
        self._shards = shards
        self._shard_G, self._group_G, self.rows_G = shards.row_groups_of(pass_index)

    def numbers(self) -> Iterator[tuple[int, int]]:
        """Yield (shard, group) of each: of all as objects at once they would be too many."""
        for start in range(0, len(self), _BLOCK):
            block = slice(start, start + _BLOCK)
            yield from zip(self._shard_G[block].tolist(), self._group_G[block].tolist(), strict=True)

    def __len__(self) -> int:
        return len(self.rows_G)

    def make(self, index: int) -> RowGroupRef:
        """Name a row group."""
        shard = int(self._shard_G[index])
        return RowGroupRef(shard, int(self._group_G[index]), int(self.rows_G[index]), self._shards.name(shard))


@dataclass(frozen=True, eq=False)
class Dataset:
    """One published run; what is read of it is checked against its pointer and manifest, or a FormatError says why.

    Attributes:
        uri: the dataset's folder, the pipeline's --output.
        run_id: the run that was opened.
        dataset_id: SHA-256 of its manifest.json.
    """

    uri: str
    run_id: str
    dataset_id: str
    manifest: Manifest

    @functools.cached_property
    def shards(self) -> ShardTable:
        """The list of shards; read when it is asked for, by open_dataset at once."""
        return parse_shards(self._read_listed(SHARDS), self.shown(SHARDS))

    @property
    def passes(self) -> int:
        """Passes over the corpus that the dataset holds."""
        return len(self.manifest.passes)

    @property
    def total_tokens(self) -> int:
        """Raw words of the corpus, before vocabulary and subsampling."""
        return self.manifest.corpus.tokens

    def pairs_in_pass(self, pass_index: int) -> int:
        return self.manifest.passes[pass_index].pairs

    def vocabulary(self) -> Vocabulary:
        vocabulary = parse_vocab(self._read_listed(VOCAB), self.shown(VOCAB))
        listed = self.manifest.vocabulary
        if len(vocabulary) != listed.rows:
            raise FormatError(f"{self.shown(VOCAB)}: found {len(vocabulary)} rows, expected {listed.rows}")
        return vocabulary

    def row_groups(self, pass_index: int) -> RowGroups:
        """List the row groups of one pass, in file order."""
        return RowGroups(self.shards, pass_index)

    def read_row_group(self, ref: RowGroupRef) -> Pairs:
        """Fetch one row group by one ranged read; safe to call from several threads.

        Returns:
            ``(center_N, context_N)``, int32, read-only, every id inside the vocabulary.

        Raises:
            FormatError: the shard is missing, truncated, damaged, or holds an id outside the vocabulary.
        """
        group = self.shards[ref.shard].row_groups[ref.group]
        self.footer(ref.shard)
        return self.decode_row_group(ref, self._read_range(ref.path, group.offset, group.bytes))

    def decode_row_group(self, ref: RowGroupRef, data: bytes) -> Pairs:
        """Check and decode the bytes of one row group, as read_row_group does with those it fetched."""
        group, path = self.shards[ref.shard].row_groups[ref.group], self.shown(ref.path)
        require_checksum(data, group, ref.group, path)
        pairs = decode_row_group(data, ref.group, self.footer(ref.shard), group.offset, path)
        for name, ids_N in zip(("center", "context"), pairs, strict=True):
            self._require_ids(ids_N, name, ref, path)
        return pairs

    def path_of(self, name: str) -> str:
        """Return the URI of one of the run's files."""
        return storage.join(self.uri, "runs", self.run_id, name)

    def shown(self, name: str) -> str:
        """Return path_of as messages may show it."""
        return storage.redact(self.path_of(name))

    @functools.cached_property
    def _footers(self) -> dict[int, pq.FileMetaData]:
        return {}

    def footer(self, number: int) -> pq.FileMetaData:
        """Read the footer of one shard, by its number; the newest MOST_FOOTERS are kept."""
        found = self._footers.get(number)
        if found is None:
            shard = self.shards[number]
            start = shard.row_groups[-1].offset + shard.row_groups[-1].bytes
            tail = self._read_range(shard.name, start, shard.bytes - start)
            if len(self._footers) >= MOST_FOOTERS:
                for old in list(self._footers)[: MOST_FOOTERS // 2]:
                    self._footers.pop(old, None)
            # Two threads may both decode it; they store equal values.
            found = self._footers[number] = parse_footer(tail, shard, self.shown(shard.name))
        return found

    def _read_range(self, name: str, offset: int, length: int) -> bytes:
        try:
            return storage.read_range(self.path_of(name), offset, length)
        except FileNotFoundError:
            raise FormatError(f"{self.shown(name)}: found no file, expected a pair shard") from None

    def _require_ids(self, ids_N: NDArray[np.int32], name: str, ref: RowGroupRef, path: str) -> None:
        rows = self.manifest.vocabulary.rows
        if ids_N.size and int(ids_N.view(np.uint32).max()) < rows:  # as unsigned numbers, those below 0 are the largest
            return
        low, high = int(ids_N.min()), int(ids_N.max())
        if low < 0 or high >= rows:
            raise FormatError(
                f"{path}: row group {ref.group}: found {name} id {low if low < 0 else high}, expected 0 to {rows - 1}"
            )

    def _read_listed(self, name: str) -> bytes:
        return _read_checked(self.path_of(name), self.manifest.files[name].sha256, "what the manifest names")


def open_dataset(uri: str, run_id: str | None = None) -> Dataset:
    """Open the run that LATEST.json names, or ``run_id``.

    Raises:
        FormatError: as open_manifest; a file that is not the one its manifest names, a local shard that is missing or
            of another size.
    """
    dataset = open_manifest(uri, run_id)
    _require_shards(dataset)
    return dataset


def open_manifest(uri: str, run_id: str | None = None) -> Dataset:
    """Open a run for what its manifest says, which is little at any size; its shards are not looked at.

    Raises:
        FormatError: nothing published there, another format version, a manifest that is not the one its pointer names.
    """
    pointer_path = storage.join(uri, LATEST)
    expected = None
    if run_id is None:
        data = storage.read_pointer(pointer_path)
        if data is None:
            raise FormatError(f"{storage.redact(pointer_path)}: found no file, expected a published dataset")
        pointer = parse_pointer(data, storage.redact(pointer_path))
        run_id, expected = pointer.run, pointer.manifest_sha256
    run_id = require_run_id(run_id, "--run")
    path = storage.join(uri, "runs", run_id, MANIFEST)
    data = _read_checked(path, expected, "what LATEST.json names")
    return Dataset(uri, run_id, sha256_hex(data), parse_manifest(data, storage.redact(path)))


def read_run(dataset: Dataset) -> dict[str, Any]:
    """Return the run's run.json, which nothing names and no digest covers.

    Raises:
        FormatError: there is none, or it is no JSON object.
    """
    return parse_json_object(_read_checked(dataset.path_of(RUN), None, "one"), dataset.shown(RUN))


def _read_checked(path: str, sha256: str | None, named_by: str) -> bytes:
    """Read a whole file and check its SHA-256."""
    try:
        data = storage.read_bytes(path)
    except FileNotFoundError:
        raise FormatError(f"{storage.redact(path)}: found no file, expected {named_by}") from None
    if sha256 is not None and (found := sha256_hex(data)) != sha256:
        raise FormatError(f"{storage.redact(path)}: found sha256 {found}, expected {sha256}, {named_by}")
    return data


def _require_shards(dataset: Dataset) -> None:
    """Check shards.parquet against the manifest's totals, and local files against shards.parquet."""
    for index, totals in enumerate(dataset.manifest.passes):
        rows_S = dataset.shards.rows_S[dataset.shards.passes_S == index]
        found = (len(rows_S), int(rows_S.sum()))
        if found != (totals.shards, totals.pairs):
            raise FormatError(
                f"{dataset.shown(SHARDS)}: pass {index}: found {found[0]} shards of {found[1]} pairs, "
                f"expected {totals.shards} of {totals.pairs}"
            )
    if not storage.is_local(dataset.uri):
        return  # one request per shard would cost more than finding out at the first read
    for name, expected in zip(dataset.shards.names, dataset.shards.bytes_S.tolist(), strict=True):
        path = dataset.path_of(name)
        try:
            size = os.stat(storage.local_path(path)).st_size
        except FileNotFoundError:
            raise FormatError(f"{path}: found no file, expected a pair shard") from None
        if size != expected:
            raise FormatError(f"{path}: found {size} bytes, expected {expected}")
