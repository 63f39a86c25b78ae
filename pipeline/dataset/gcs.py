"""Google's store: ranged reads, whole writes, the conditional put."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import threading
from collections.abc import Iterator
from typing import Any

from pipeline.dataset import objects
from pipeline.dataset.objects import Bytes, Piece, PointerMovedError, StoredObject, not_found, require_expected, split
from pipeline.dataset.retry import StoreError, retrying

_CHUNK_BYTES = 8 << 20  # what one request of a large upload carries

_making = threading.Lock()


def client() -> Any:
    """A client; one for each process, since its connections must not cross a fork."""
    with _making:
        return _client(os.getpid(), os.environ.get("STORAGE_EMULATOR_HOST"))


@functools.lru_cache(maxsize=4)
def _client(_pid: int, _emulator: str | None) -> Any:
    import google.cloud.storage

    return google.cloud.storage.Client()


def _limits() -> dict[str, Any]:
    """How long a request may take; `retry` repeats it, so the library must not."""
    return {"timeout": (objects.CONNECT_SECONDS, objects.READ_SECONDS), "retry": None}


def _blob(uri: str) -> Any:
    bucket, key = split(uri)
    return client().bucket(bucket).blob(key, chunk_size=_CHUNK_BYTES)


class BytesReader(io.RawIOBase):
    """Bytes as a file, without the copy that io.BytesIO makes of all that is not `bytes`."""

    def __init__(self, data: Bytes) -> None:
        """Begin at the start."""
        self._view, self._at = memoryview(data).cast("B"), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._view)}[whence])
        return self._at

    def readinto(self, target: Any) -> int:
        piece = self._view[self._at : self._at + len(target)]
        target[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


class Gcs:
    """See objects.Store."""

    def get(self, uri: str, offset: int, length: int, version: str | None = None) -> Piece:
        """Ask for size and generation, then fetch by one ranged request; stored bytes as they are."""
        import google.api_core.exceptions as errors

        blob = _blob(uri)
        condition = {} if version is None else {"if_generation_match": int(version)}
        try:
            if version is None:
                blob.reload(**_limits())
                condition = {"if_generation_match": blob.generation}
            data = blob.download_as_bytes(
                start=offset,
                end=offset + max(1, length) - 1,
                raw_download=True,
                checksum=None,
                **condition,
                **_limits(),
            )
        except errors.NotFound:
            raise not_found(uri) from None
        except errors.RequestRangeNotSatisfiable:
            data = b""
        except errors.PreconditionFailed:
            raise StoreError(f"{uri}: found another version than before, expected a file at rest") from None
        if version is not None:  # whoever knows the version knows the size, and asks for nothing behind it
            return Piece(data[:length], offset + length, version)
        return Piece(data[:length], blob.size or 0, str(blob.generation))

    def put(self, uri: str, data: Bytes) -> None:
        """Write; what a large upload leaves where it fails is no object, and the store forgets it."""
        blob, size = _blob(uri), memoryview(data).nbytes
        blob.upload_from_file(io.BufferedReader(BytesReader(data)), size=size, checksum="crc32c", **_limits())

    def swap(self, uri: str, expected: bytes | None, new: bytes) -> None:
        """Put on the condition that the generation still is the one that was read; 0 stands for no object."""
        import google.api_core.exceptions as errors

        try:
            found, generation = self._read_small(uri)
        except errors.NotFound:
            found, generation = None, 0
        require_expected(uri, found, expected, new)
        try:
            _blob(uri).upload_from_string(new, if_generation_match=generation, **_limits())
        except errors.PreconditionFailed:
            # Of an earlier attempt's answer that was lost the store says the same.
            if self._read_small(uri)[0] != new:
                raise PointerMovedError(f"{uri}: was swapped by another publisher meanwhile") from None

    def _read_small(self, uri: str) -> tuple[bytes, int]:
        blob = _blob(uri)
        blob.reload(**_limits())
        return blob.download_as_bytes(if_generation_match=blob.generation, **_limits()), blob.generation

    def delete(self, uri: str) -> None:
        """Remove by one request."""
        import google.api_core.exceptions as errors

        with contextlib.suppress(errors.NotFound):
            _blob(uri).delete(**_limits())

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List page by page."""
        bucket, start = split(prefix)
        scheme, token = prefix.partition("://")[0], None

        def page() -> Any:
            found = client().list_blobs(bucket, prefix=start, page_token=token, page_size=1000, **_limits())
            return list(next(found.pages)), found.next_page_token

        while True:
            blobs, token = retrying(prefix, page)
            for blob in blobs:
                modified = (blob.updated or blob.time_created).timestamp()
                yield StoredObject(f"{scheme}://{bucket}/{blob.name}", blob.size, modified)
            if not token:
                return

    def unfinished(self, prefix: str) -> Iterator[tuple[StoredObject, str]]:
        """None: the store lists no uploads, and forgets them after a week."""
        yield from ()

    def abort(self, uri: str, upload: str) -> None:
        """Nothing is ever listed to be removed."""
