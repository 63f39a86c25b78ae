"""The last step of a run: the manifest, then the pointer. Until the pointer is swapped no reader sees any of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from pipeline.dataset import storage
from pipeline.dataset.manifest import LATEST, MANIFEST, FileEntry, Manifest, PassTotals, Pointer
from pipeline.dataset.schema import sha256_hex
from pipeline.dataset.shards import Shard


def file_entries(files: Mapping[str, storage.Bytes]) -> dict[str, FileEntry]:
    """Describe files by name as the manifest does."""
    return {name: FileEntry(memoryview(data).nbytes, sha256_hex(memoryview(data))) for name, data in files.items()}


def pass_totals(kept: int, shards: Iterable[Shard]) -> PassTotals:
    """Add up the shards of one pass; the digest is SHA-256 over their logical digests in order of name."""
    ordered = sorted((shard.name, shard.digest, shard.rows) for shard in shards)
    digest = hashlib.sha256("".join(digest for _, digest, _ in ordered).encode("ascii")).hexdigest()
    return PassTotals(kept=kept, pairs=sum(rows for _, _, rows in ordered), shards=len(ordered), digest=digest)


def publish_run(uri: str, run_id: str, manifest: Manifest, expected: bytes | None) -> None:
    """Write the run's manifest, then swap LATEST.json to it.

    Args:
        uri: the dataset's folder.
        run_id: the run, whose other files are all written.
        manifest: what to publish.
        expected: the pointer's content when the run started, None where there was none.

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
