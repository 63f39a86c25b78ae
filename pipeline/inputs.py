"""Listing the input files once, in the order that numbers them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.dataset import storage
from pipeline.errors import InputError


@dataclass(frozen=True)
class InputFile:
    """One input file.

    Attributes:
        ordinal: its place in the order of --input, then bytewise of the name: what draws are keyed by.
        uri: where to read it.
        name: the path below the glob's fixed prefix: equal wherever the corpus lies.
        bytes: stored size.
    """

    ordinal: int
    uri: str
    name: str
    bytes: int


def list_inputs(patterns: Sequence[str]) -> list[InputFile]:
    """List the files that the globs match, local or in any store that Beam's file systems know.

    Raises:
        InputError: a glob matches nothing, or two match the same file.
    """
    files: list[InputFile] = []
    seen: dict[str, str] = {}
    for pattern in patterns:
        prefix = _fixed_prefix(pattern)
        found = sorted(_match(pattern), key=lambda item: item[0][len(prefix) :].encode("utf-8", "surrogateescape"))
        if not found:
            raise InputError(f"--input {storage.redact(pattern)}: found no file, expected at least one")
        for uri, size in found:
            if uri in seen:
                raise InputError(
                    f"--input {storage.redact(pattern)}: matches {storage.redact(uri)}, as --input "
                    f"{storage.redact(seen[uri])} does; expected each file once"
                )
            seen[uri] = pattern
            files.append(InputFile(len(files), uri, uri[len(prefix) :], size))
    return files


def batch_inputs(files: Sequence[InputFile], batch_bytes: int = 8 << 20) -> Iterator[list[InputFile]]:
    """Group neighbours so that many small files travel together; a large one travels alone."""
    batch: list[InputFile] = []
    for file in files:
        if batch and sum(member.bytes for member in batch) + file.bytes > batch_bytes:
            yield batch
            batch = []
        batch.append(file)
    if batch:
        yield batch


def _fixed_prefix(pattern: str) -> str:
    """Return the folder part that every match shares by the pattern's own words."""
    magic = min((pattern.find(sign) for sign in "*?[" if sign in pattern), default=len(pattern))
    return pattern[: pattern.rfind("/", 0, magic) + 1]


def _match(pattern: str) -> list[tuple[str, int]]:
    if storage.is_local(pattern):
        path = storage.local_path(pattern)
        paths = [path] if os.path.isfile(path) else glob.glob(path, recursive=True)
        scheme = pattern[: len(pattern) - len(path)] if pattern.endswith(path) else ""
        return [(scheme + found, os.path.getsize(found)) for found in paths if os.path.isfile(found)]
    from apache_beam.io.filesystems import FileSystems

    [result] = FileSystems.match([pattern])
    return [(found.path, found.size_in_bytes) for found in result.metadata_list]
