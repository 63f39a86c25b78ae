"""The last step of a run: the manifest, then the pointer. Until the pointer is swapped no reader sees any of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset.manifest import LATEST, MANIFEST, FileEntry, Manifest, PassTotals, Pointer
from pipeline.dataset.schema import sha256_hex
from pipeline.storage import storage


def file_entries(files: Mapping[str, storage.Bytes]) -> dict[str, FileEntry]:
    """Describe files by name as the manifest does."""
    return {name: FileEntry(memoryview(data).nbytes, sha256_hex(memoryview(data))) for name, data in files.items()}


def pass_totals(kept: int, rows_S: NDArray[np.int64], digests: str) -> PassTotals:
    """Add up one pass; ``digests`` are the shards' logical ones, end to end in order of their names."""
    digest = hashlib.sha256(digests.encode("ascii")).hexdigest()
    return PassTotals(kept=kept, pairs=int(rows_S.sum()), shards=len(rows_S), digest=digest)


def publish_run(uri: str, run_id: str, manifest: Manifest, expected: bytes | None) -> None:
    """Write the manifest of a run whose other files are all written, then swap LATEST.json to it.

    Raises:
        PointerMovedError: another run was published meanwhile; this one stays complete, and unpublished.
    """
    storage.write_bytes(storage.join(uri, "runs", run_id, MANIFEST), manifest.to_json())
    point_to(uri, run_id, manifest.dataset_id, expected)


def point_to(uri: str, run_id: str, dataset_id: str, expected: bytes | None) -> None:
    """Swap LATEST.json to a run whose files are all written, if it still holds ``expected``.

    Raises:
        PointerMovedError: another run was published meanwhile.
    """
    pointer = Pointer(run=run_id, manifest_sha256=dataset_id)
    storage.swap_pointer(storage.join(uri, LATEST), expected, pointer.to_json())
