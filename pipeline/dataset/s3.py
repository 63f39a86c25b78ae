"""S3 and what speaks its protocol: ranged reads, whole writes, the conditional put."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipeline.dataset import objects
from pipeline.dataset.objects import Bytes, Piece, PointerMovedError, StoredObject, not_found, require_expected, split
from pipeline.dataset.retry import StoreError, retrying

#: A larger object is written in parts of this size, each of which is repeated by itself if it fails.
PART_BYTES = 64 << 20
_PARTS_AT_ONCE = 4
_SMALL_BYTES = 1 << 20  # more than a pointer has
_CONNECTIONS = 64  # more than readers have threads

_making = threading.Lock()


def client() -> Any:
    """A client; one for each process, since its connections must not cross a fork."""
    environment = tuple((name, value) for name, value in sorted(os.environ.items()) if name.startswith("AWS_"))
    with _making:  # boto3 makes clients in one thread at a time
        return _client(os.getpid(), environment, objects.CONNECT_SECONDS, objects.READ_SECONDS)


@functools.lru_cache(maxsize=4)
def _client(_pid: int, _environment: tuple[tuple[str, str], ...], connect_s: float, read_s: float) -> Any:
    import boto3.session
    import botocore.config

    limits = botocore.config.Config(
        connect_timeout=connect_s, read_timeout=read_s, max_pool_connections=_CONNECTIONS,
        retries={"total_max_attempts": 1},  # `retry` does that, once: ten times six would be for ever
    )  # fmt: skip
    return boto3.session.Session().client("s3", config=limits)


class S3:
    """See objects.Store."""

    def get(self, uri: str, offset: int, length: int, version: str | None = None) -> Piece:
        """Fetch by one ranged request."""
        import botocore.exceptions

        bucket, key = split(uri)
        condition = {} if version is None else {"IfMatch": version}
        try:
            found = client().get_object(
                Bucket=bucket, Key=key, Range=f"bytes={offset}-{offset + max(1, length) - 1}", **condition
            )
        except botocore.exceptions.ClientError as error:
            if _code(error) == "InvalidRange":  # at its end or behind it: of an empty object all ranges are
                return Piece(b"", 0 if offset == 0 else offset, version or "")
            if _code(error) in ("NoSuchKey", "404"):  # the number alone where the answer's text was lost
                raise not_found(uri) from None
            if _status(error) == 412:
                raise StoreError(f"{uri}: found another version than before, expected a file at rest") from None
            raise
        data = found["Body"].read()
        if "ContentRange" not in found:  # there are stores that answer with all of a small object
            return Piece(data[offset : offset + length], len(data), found["ETag"])
        return Piece(data[:length], int(found["ContentRange"].rpartition("/")[2]), found["ETag"])

    def put(self, uri: str, data: Bytes) -> None:
        """Write by one request, which leaves nothing where it fails, or a large object in parts."""
        bucket, key = split(uri)
        view = memoryview(data).cast("B")
        if len(view) <= PART_BYTES:
            client().put_object(Bucket=bucket, Key=key, Body=_stream(view))
            return
        upload = client().create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        try:
            parts = _put_parts(uri, upload, view)
            client().complete_multipart_upload(
                Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
            )
        except BaseException:
            with contextlib.suppress(OSError):  # the write's own error is the one to tell
                self.abort(uri, upload)
            raise

    def swap(self, uri: str, expected: bytes | None, new: bytes) -> None:
        """Put on the condition that the ETag still is the one that was read, or that there is no object."""
        import botocore.exceptions

        try:
            found, _, etag = self.get(uri, 0, _SMALL_BYTES)
            condition = {"IfMatch": etag}
        except FileNotFoundError:
            found, condition = None, {"IfNoneMatch": "*"}
        require_expected(uri, found, expected, new)
        bucket, key = split(uri)
        try:
            client().put_object(Bucket=bucket, Key=key, Body=new, **condition)
        except botocore.exceptions.ClientError as error:
            if _status(error) not in (409, 412):
                raise
            # Of an earlier attempt's answer that was lost the store says the same.
            if self.get(uri, 0, _SMALL_BYTES).data != new:
                raise PointerMovedError(f"{uri}: was swapped by another publisher meanwhile") from None

    def delete(self, uri: str) -> None:
        """Remove by one request."""
        bucket, key = split(uri)
        client().delete_object(Bucket=bucket, Key=key)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List page by page."""
        bucket, start = split(prefix)
        scheme, more = prefix.partition("://")[0], dict[str, str]()
        while True:
            page = retrying(
                prefix,
                lambda more=more: client().list_objects_v2(Bucket=bucket, Prefix=start, **more),  # type: ignore[misc]
            )
            for one in page.get("Contents", ()):
                yield StoredObject(f"{scheme}://{bucket}/{one['Key']}", one["Size"], one["LastModified"].timestamp())
            if not page["IsTruncated"]:
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def unfinished(self, prefix: str) -> Iterator[tuple[StoredObject, str]]:
        """List uploads in parts that were neither completed nor aborted; their parts cost like objects."""
        bucket, start = split(prefix)
        # MinIO lists uploads by no prefix, or by a whole key; S3 and others by any.
        for one in [*_list_uploads(bucket, start)] or _list_uploads(bucket, ""):
            if one["Key"].startswith(start):
                yield StoredObject(f"s3://{bucket}/{one['Key']}", 0, one["Initiated"].timestamp()), one["UploadId"]

    def abort(self, uri: str, upload: str) -> None:
        """Remove an upload's parts."""
        bucket, key = split(uri)

        def remove() -> None:
            try:
                client().abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
            except client().exceptions.NoSuchUpload:
                pass

        retrying(uri, remove)


def _list_uploads(bucket: str, start: str) -> Iterator[dict[str, Any]]:
    more = dict[str, str]()
    while True:
        page = retrying(
            f"s3://{bucket}/{start}",
            lambda more=more: client().list_multipart_uploads(Bucket=bucket, Prefix=start, **more),  # type: ignore[misc]
        )
        yield from page.get("Uploads", ())
        if not page.get("IsTruncated"):
            return
        more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def _put_parts(uri: str, upload: str, view: memoryview) -> list[dict[str, Any]]:
    """Write the parts, some at once; return what completes the upload."""
    bucket, key = split(uri)

    def put(number: int) -> dict[str, Any]:
        piece = view[(number - 1) * PART_BYTES : number * PART_BYTES]
        send = functools.partial(client().upload_part, Bucket=bucket, Key=key, UploadId=upload, PartNumber=number)
        return {"PartNumber": number, "ETag": retrying(uri, lambda: send(Body=_stream(piece)))["ETag"]}

    with ThreadPoolExecutor(_PARTS_AT_ONCE) as pool:
        return list(pool.map(put, range(1, -(-len(view) // PART_BYTES) + 1)))


def _stream(view: memoryview) -> io.BytesIO:
    """Bytes to be sent piece by piece: the time limit of a connection is for each piece, not for all."""
    return io.BytesIO(view)


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code"))


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
