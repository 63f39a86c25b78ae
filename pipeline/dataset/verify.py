"""Checking a run against its manifest: every byte, digest and total, or only what tells a whole run from a torn one.

A reader checks what it reads; this reads everything, also what no training reads.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from pipeline.dataset.manifest import INPUTS, LATEST, MANIFEST, SHARDS, VOCAB, parse_pointer
from pipeline.dataset.phrases import load_phrases, phrase_files, phrases_name
from pipeline.dataset.publish import pass_totals
from pipeline.dataset.reader import Dataset, RowGroupRef, open_dataset
from pipeline.dataset.schema import DEAD_LETTERS_SCHEMA, INPUTS_SCHEMA, FormatError, require_schema, sha256_hex
from pipeline.storage import storage

_BLOCK_BYTES = 1 << 20

T = TypeVar("T")


@dataclass(frozen=True)
class Verified:
    """What was read and found true: files with the manifest among them, their bytes, pairs over all passes."""

    run_id: str
    dataset_id: str
    files: int
    bytes: int
    pairs: int


def verify_run(uri: str, run_id: str | None = None) -> Verified:
    """Read all that a manifest names, several files at once, each thread no more than a row group at a time.

    Raises:
        FormatError: names the first file, in the order of the manifest and then of the shards, that is not as it says.
    """
    dataset = open_dataset(uri, run_id)
    manifest_bytes = _require_manifest(dataset)
    manifest = dataset.manifest
    in_order(lambda name: _require_file(dataset, name), sorted(manifest.files))
    _require_vocabulary(dataset)
    _require_inputs(dataset)
    _require_dead_letters(dataset)
    _require_phrases(dataset)
    _require_passes(dataset)
    in_order(lambda number: _require_shard(dataset, number), range(len(dataset.shards)))
    return Verified(
        dataset.run_id, dataset.dataset_id, len(manifest.files) + len(dataset.shards) + 1,
        manifest_bytes + sum(e.bytes for e in manifest.files.values()) + int(dataset.shards.bytes_S.sum()),
        sum(totals.pairs for totals in manifest.passes),
    )  # fmt: skip


def require_whole(dataset: Dataset) -> None:
    """Check what an interrupted run or copy would lack: each listed file whole, each shard with its own footer.

    Raises:
        FormatError: a file is missing, of another size, or not the one that the manifest names.
    """
    in_order(lambda name: _require_file(dataset, name), sorted(dataset.manifest.files))
    in_order(dataset.footer, range(len(dataset.shards)))


def in_order(check: Callable[[T], object], items: Sequence[T]) -> None:
    """Run a check in several threads; of several errors the first in order is raised, whichever came first."""
    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
        for _ in pool.map(check, items):
            pass


def _require_manifest(dataset: Dataset) -> int:
    """Check that the manifest is written as a run writes it, and is the pointer's; return its size."""
    shown, data = storage.redact(dataset.path_of(MANIFEST)), storage.read_bytes(dataset.path_of(MANIFEST))
    if data != dataset.manifest.to_json():
        raise FormatError(f"{shown}: found JSON that is not in canonical form, expected the bytes that a run writes")
    pointer_path = storage.join(dataset.uri, LATEST)
    pointer_bytes = storage.read_pointer(pointer_path)
    if pointer_bytes is not None:
        pointer = parse_pointer(pointer_bytes, storage.redact(pointer_path))
        if pointer.run == dataset.run_id and pointer.manifest_sha256 != sha256_hex(data):
            raise FormatError(
                f"{shown}: found sha256 {sha256_hex(data)}, expected {pointer.manifest_sha256}, what {LATEST} names"
            )
    return len(data)


def _require_file(dataset: Dataset, name: str) -> None:
    """Check one listed file's size and SHA-256 against the manifest."""
    path, entry = dataset.path_of(name), dataset.manifest.files[name]
    sha, size = hashlib.sha256(), 0
    try:
        with storage.open_binary(path) as stream:
            while block := stream.read(_BLOCK_BYTES):
                sha.update(block)
                size += len(block)
    except FileNotFoundError:
        raise FormatError(f"{storage.redact(path)}: found no file, expected what the manifest names") from None
    _require_equal(path, "bytes", size, entry.bytes)
    _require_equal(path, "sha256", sha.hexdigest(), entry.sha256)


def _require_vocabulary(dataset: Dataset) -> None:
    vocabulary, listed, path = dataset.vocabulary(), dataset.manifest.vocabulary, dataset.path_of(VOCAB)
    _require_equal(path, "digest", vocabulary.digest, listed.digest)
    _require_equal(path, "sum of counts", int(vocabulary.counts.sum()), listed.count)
    _require_equal(path, "different tokens", pc.count_distinct(vocabulary.column).as_py(), listed.rows)


def _require_inputs(dataset: Dataset) -> None:
    path, corpus = dataset.path_of(INPUTS), dataset.manifest.corpus
    sums: Counter[str] = Counter()
    for batch in _batches(path, INPUTS_SCHEMA):
        sums["files"] += len(batch)
        for name in ("bytes", "lines", "tokens"):
            sums[name] += pc.sum(batch[name]).as_py() or 0
    for name in ("files", "bytes", "lines", "tokens"):
        _require_equal(path, f"sum of {name}", sums[name], getattr(corpus, name))


def _require_dead_letters(dataset: Dataset) -> None:
    reasons: Counter[str] = Counter()
    size = 0
    for name in sorted(name for name in dataset.manifest.files if name.startswith("dead-letters/")):
        for batch in _batches(dataset.path_of(name), DEAD_LETTERS_SCHEMA):
            reasons.update(batch["reason"].to_pylist())
            size += pc.sum(pc.binary_length(batch["content"])).as_py() or 0
    path, corpus = dataset.path_of("dead-letters"), dataset.manifest.corpus
    kept, kept_bytes = corpus.kept_dead_letters, corpus.kept_dead_letter_bytes
    _require_equal(path, "dead letters", dict(reasons), corpus.dead_letters if kept is None else kept)
    _require_equal(path, "bytes of dead letters", size, corpus.dead_letter_bytes if kept_bytes is None else kept_bytes)


def _require_phrases(dataset: Dataset) -> None:
    """Check that there is a readable file for each round."""
    files = phrase_files(dataset)
    expected = [dataset.path_of(phrases_name(n)) for n in range(1, dataset.manifest.options.get("phrases", 0) + 1)]
    _require_equal(dataset.path_of("phrases"), "files", [uri for uri, _ in files], expected)
    for uri, sha256 in files:
        load_phrases(uri, sha256)


def _require_passes(dataset: Dataset) -> None:
    """Check shards.parquet against the manifest's passes, digests included."""
    path, passes = dataset.path_of(SHARDS), dataset.manifest.passes
    names = Counter(dataset.shards.names)
    _require_equal(path, "shards listed twice", sorted(name for name, times in names.items() if times > 1), [])
    _require_equal(path, "passes", sorted(set(dataset.shards.passes_S.tolist())), list(range(len(passes))))
    for index, totals in enumerate(passes):
        rows_S = dataset.shards.rows_S[dataset.shards.passes_S == index]
        found = pass_totals(totals.kept, rows_S, dataset.shards.digests_of(index))
        _require_equal(path, f"digest of pass {index}", found.digest, totals.digest)


def _require_shard(dataset: Dataset, number: int) -> None:
    """Read one shard from its first byte to its last, decoding each row group on the way."""
    shard, path = dataset.shards[number], dataset.path_of(dataset.shards[number].name)
    sha, center_hash, context_hash = hashlib.sha256(), xxhash.xxh3_128(), xxhash.xxh3_128()
    dataset.footer(number)  # its error comes before those of the pages, which cannot be decoded without it
    rows = 0
    with storage.open_binary(path) as stream:
        sha.update(stream.read(shard.row_groups[0].offset))
        for index, group in enumerate(shard.row_groups):
            data = stream.read(group.bytes)
            sha.update(data)
            ref = RowGroupRef(number, index, group.rows, shard.name)
            center_N, context_N = dataset.decode_row_group(ref, data)
            center_hash.update(center_N.data)
            context_hash.update(context_N.data)
            rows += len(center_N)
        sha.update(stream.read())
    _require_equal(path, "sha256", sha.hexdigest(), shard.sha256)
    _require_equal(path, "rows", rows, shard.rows)
    _require_equal(path, "digest", center_hash.hexdigest() + context_hash.hexdigest(), shard.digest)


def _batches(path: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Read a table piece by piece."""
    shown = storage.redact(path)
    with storage.open_binary(path) as stream:
        try:
            file = pq.ParquetFile(stream, page_checksum_verification=True)
            require_schema(file.schema_arrow, schema, shown)
            yield from file.iter_batches(use_threads=False)
        except pa.ArrowException as error:
            raise FormatError(f"{shown}: found an unreadable Parquet file ({str(error).splitlines()[0]})") from None


def _require_equal(path: str, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise FormatError(f"{storage.redact(path)}: found {what} {found}, expected {expected}")
