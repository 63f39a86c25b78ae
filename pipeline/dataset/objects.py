"""What each object store does its own way: the conditional put, and removing an object."""

from __future__ import annotations

import contextlib
import functools
import os
from typing import Any

CONNECT_SECONDS, READ_SECONDS = 10, 30  # a store that is silent for longer is asked anew


class PointerMovedError(Exception):
    """Somebody else swapped the pointer since it was read; nothing was written."""


def require_expected(uri: str, found: bytes | None, expected: bytes | None, new: bytes) -> None:
    """Refuse to swap a pointer that is neither as its mover saw it nor as it shall be.

    Raises:
        PointerMovedError: it is so.
    """
    if found not in (expected, new):
        raise PointerMovedError(f"{uri}: was swapped by another publisher since this command started")


def transport_params(uri: str) -> dict[str, Any]:
    """What smart-open shall pass on to the store's client."""
    scheme = uri.partition("://")[0]
    if scheme == "s3":
        return {"client": s3_client()}
    return {"timeout": READ_SECONDS} if scheme in ("http", "https") else {}


def s3_client() -> Any:
    """A client for S3; one for each process, since its connections must not cross a fork."""
    return _s3_client(os.getpid(), os.environ.get("AWS_ENDPOINT_URL"), os.environ.get("AWS_ENDPOINT_URL_S3"))


@functools.lru_cache(maxsize=4)
def _s3_client(_pid: int, *_endpoints: str | None) -> Any:
    import boto3
    import botocore.config

    limits = botocore.config.Config(connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS)
    return boto3.client("s3", config=limits)


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of an object's URI."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    return bucket, key


def delete_s3(uri: str) -> None:
    """Remove an object; one that is not there is fine."""
    bucket, key = split(uri)
    s3_client().delete_object(Bucket=bucket, Key=key)


def delete_gcs(uri: str) -> None:
    """Remove an object; one that is not there is fine."""
    import google.api_core.exceptions
    import google.cloud.storage

    bucket, key = split(uri)
    with contextlib.suppress(google.api_core.exceptions.NotFound):
        google.cloud.storage.Client().bucket(bucket).blob(key).delete()


def swap_s3(uri: str, expected: bytes | None, new: bytes) -> None:
    """Swap the pointer by a put that S3 accepts only while its ETag is the one that was read."""
    import botocore.exceptions

    (bucket, key), client = split(uri), s3_client()
    condition: dict[str, str] = {"IfNoneMatch": "*"}
    try:
        found = client.get_object(Bucket=bucket, Key=key)
        require_expected(uri, found["Body"].read(), expected, new)
        condition = {"IfMatch": found["ETag"]}
    except client.exceptions.NoSuchKey:
        require_expected(uri, None, expected, new)
    try:
        client.put_object(Bucket=bucket, Key=key, Body=new, **condition)
    except botocore.exceptions.ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412):
            raise PointerMovedError(f"{uri}: was swapped by another publisher meanwhile") from None
        raise


def swap_gcs(uri: str, expected: bytes | None, new: bytes) -> None:
    """Swap the pointer by a put that the store accepts only while its generation is the one that was read."""
    import google.api_core.exceptions
    import google.cloud.storage

    bucket, key = split(uri)
    blob = google.cloud.storage.Client().bucket(bucket).get_blob(key)
    found = None if blob is None else blob.download_as_bytes()
    require_expected(uri, found, expected, new)
    target = google.cloud.storage.Client().bucket(bucket).blob(key)
    try:
        target.upload_from_string(new, if_generation_match=0 if blob is None else blob.generation)
    except google.api_core.exceptions.PreconditionFailed:
        raise PointerMovedError(f"{uri}: was swapped by another publisher meanwhile") from None
