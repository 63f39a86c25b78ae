"""What is done with objects of S3, Google's store and Azure's: ranges, whole writes, the conditional put, listing."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pipeline.storage.connect import SCHEMES, connect, library
from pipeline.storage.redact import has_user, redact
from pipeline.storage.retry import StoreError, retrying, short_text

Bytes = bytes | bytearray | memoryview

#: A larger object is written in parts of this size, or of more where that would be more than a store takes.
PART_BYTES = 16 << 20
_PARTS_AT_ONCE, _MOST_PARTS = 4, 10_000
_SMALL_BYTES = 1 << 20  # more than a pointer has
_PAGE = 1000  # objects that stores list or remove at once


class PointerMovedError(Exception):
    """Someone else swapped the pointer since it was read; nothing was written."""


class Piece(NamedTuple):
    """Some bytes of an object, the size of all of it, and the store's names of the version that they are of."""

    data: bytes
    size: int
    e_tag: str
    version: str | None = None


class StoredObject(NamedTuple):
    """An object in a listing: its URI, its size, and the time of its last write in Unix seconds."""

    uri: str
    bytes: int
    modified: float


def is_object(uri: str) -> bool:
    """Tell whether a URI is of an object store.

    Raises:
        StoreError: there is a name or password in it, where process lists and logs would show it.
    """
    if uri.partition("://")[0] not in SCHEMES:
        return False
    if has_user(uri):
        raise StoreError(
            f"{redact(uri)}: found a name or password in the URI, expected them where the store's own tools look: "
            "environment, profile, or the machine's role"
        )
    return True


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of an object's URI."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    return bucket, key


def _ask(action: str, uri: str, *arguments: object, purpose: str = "read", **options: object) -> Any:
    """Call a function of obstore's for an object.

    Raises:
        FileNotFoundError: there is no such object.
        StoreError: there is no such bucket, or obstore knows no such names.
    """
    bucket, key = split(uri)
    store = connect(uri.partition("://")[0], bucket, purpose)
    try:
        if action != "list" and key != key.strip("/"):  # which obstore takes away
            raise ValueError("a slash at an end of the name")
        return getattr(library(), action)(store, *(arguments or (key,)), **options)
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error):
            raise StoreError(f"{uri}: found {short_text(error)}, expected a bucket that exists") from None
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), uri) from None
    except ValueError as error:
        raise StoreError(f"{uri}: found {short_text(error)}, expected a name that obstore knows") from None


def get(uri: str, offset: int, length: int, e_tag: str | None = None) -> Piece:
    """Fetch a range by one request; it may end after the object's end, and is of the given version or not at all.

    Raises:
        FileNotFoundError: there is no such object.
        StoreError: it is of another version by now, or the store does not answer.
    """
    piece: Piece = retrying(uri, lambda: _get(uri, offset, length, e_tag))
    return piece


def _get(uri: str, offset: int, length: int, e_tag: str | None) -> Piece:
    key, condition = split(uri)[1], {} if e_tag is None else {"if_match": e_tag}
    try:
        found = _ask("get", uri, key, options={"range": (offset, offset + max(1, length)), **condition})
        data = bytes(found.bytes())
    except Exception as error:
        text = str(error)
        if "416 Range Not Satisfiable" in text or "Wanted range starting at" in text:  # at its end or after it
            return Piece(b"", offset, e_tag or "")
        if type(error).__name__ == "PreconditionError":
            raise StoreError(f"{uri}: found another version than before, expected a file at rest") from None
        if "non-partial response" not in text and "CONTENT_RANGE header" not in text:
            raise
        found = _ask("get", uri, key, options=condition)  # there are stores that know no ranges of a small object
        data = bytes(found.bytes())[offset : offset + max(1, length)]
    size, length = found.meta["size"], max(1, length)
    if len(data) != max(0, min(length, size - offset)):
        raise ConnectionError(f"found {len(data)} bytes of {min(length, size - offset)}")
    return Piece(data[:length], size, found.meta["e_tag"], found.meta["version"])


def put(uri: str, data: Bytes) -> None:
    """Write an object, which is there when it is complete: by one request, or a large one in parts."""
    view, key = memoryview(data).cast("B"), split(uri)[1]
    if len(view) <= PART_BYTES:
        retrying(uri, lambda: _ask("put", uri, key, view, purpose="write", use_multipart=False))
        return
    sizes = {"chunk_size": max(PART_BYTES, -(-len(view) // _MOST_PARTS)), "max_concurrency": _PARTS_AT_ONCE}
    retrying(uri, lambda: _ask("put", uri, key, view, purpose="parts", use_multipart=True, **sizes))


def swap(uri: str, expected: bytes | None, new: bytes) -> None:
    """Write a small object if it still holds ``expected``, None for none; what holds ``new`` already is fine.

    Raises:
        PointerMovedError: it holds something else.
    """
    retrying(uri, lambda: _swap(uri, expected, new))


def _swap(uri: str, expected: bytes | None, new: bytes) -> None:
    mode: str | dict[str, str] = "create"
    found = None
    with contextlib.suppress(FileNotFoundError):
        found, _, e_tag, version = _get(uri, 0, _SMALL_BYTES, None)
        mode = {name: text for name, text in (("e_tag", e_tag), ("version", version)) if text}
    require_expected(uri, found, expected, new)
    if found == new:  # also where an earlier attempt's answer was lost
        return
    try:
        _ask("put", uri, split(uri)[1], new, purpose="write", mode=mode)
    except Exception as error:
        if type(error).__name__ not in ("PreconditionError", "AlreadyExistsError", "FileNotFoundError"):
            raise
        raise PointerMovedError(f"{uri}: was swapped by another publisher meanwhile") from None


def delete(uris: Sequence[str]) -> None:
    """Remove objects of one bucket, many by one request where the store can; what is not there is fine."""
    for start in range(0, len(uris), _PAGE):
        some = uris[start : start + _PAGE]
        retrying(some[0], lambda some=some: _delete(some))  # type: ignore[misc]


def _delete(uris: Sequence[str]) -> None:
    try:
        _ask("delete", uris[0], [split(uri)[1] for uri in uris], purpose="write")
    except FileNotFoundError:  # one of them is not: Azure says so
        for uri in uris if len(uris) > 1 else ():
            _delete([uri])


def list_prefix(prefix: str) -> Iterator[StoredObject]:
    """List the objects whose URIs begin with a prefix, which may end in the middle of a name."""
    scheme, (bucket, start) = prefix.partition("://")[0], split(prefix)
    folder, _, name = start.rpartition("/")
    # What is before the prefix is skipped by the store, where it lists by name.
    by_name = SCHEMES[scheme] != "AzureStore" and not bucket.endswith("--x-s3")
    for one in _pages(prefix, folder, start[:-1] if by_name and name[:-1].strip(".") else "", by_name):
        if one["path"].startswith(start):
            yield StoredObject(f"{scheme}://{bucket}/{one['path']}", one["size"], one["last_modified"].timestamp())
        elif by_name and one["path"].encode() > start.encode():
            return


def _pages(uri: str, folder: str, after: str, by_name: bool) -> Iterator[dict[str, Any]]:
    """List what is below a folder, page by page; a listing that breaks continues after what it had, or starts again."""
    stream: Any = None

    def page() -> Any:
        nonlocal stream
        try:
            stream = stream or _ask("list", uri, folder or None, offset=after or None, chunk_size=_PAGE)
            return next(stream, []) if by_name else [one for some in stream for one in some]
        except BaseException:
            stream = None
            raise

    while found := retrying(uri, page):
        yield from found
        after = found[-1]["path"]
        if not by_name:
            return


def require_expected(uri: str, found: bytes | None, expected: bytes | None, new: bytes) -> None:
    """Refuse to swap a pointer that is neither as its mover saw it nor as it shall be."""
    if found not in (expected, new):
        raise PointerMovedError(f"{uri}: was swapped by another publisher since this command started")


def is_match(pattern: str, key: str) -> bool:
    return key == pattern or _parts_match(pattern.split("/"), key.split("/"))


def _parts_match(patterns: Sequence[str], names: Sequence[str]) -> bool:
    if not patterns or not names:
        return not patterns and not names
    if patterns[0] == "**":
        hidden = names[0].startswith(".")
        return _parts_match(patterns[1:] or ["*"], names) or (not hidden and _parts_match(patterns, names[1:]))
    if names[0].startswith(".") and not patterns[0].startswith("."):
        return False
    return fnmatch.fnmatchcase(names[0], patterns[0]) and _parts_match(patterns[1:], names[1:])
