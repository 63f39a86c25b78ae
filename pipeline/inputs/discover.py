"""Listing the input files once, in the order that numbers them."""

from __future__ import annotations

import datetime
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.common.outputs import OutputError, refuse_inputs, refuse_owned, would_read
from pipeline.common.page.document import missing_extra
from pipeline.dataset.manifest import LATEST, MANIFEST, OWN, VOCAB
from pipeline.dataset.shards import shard_name
from pipeline.errors import ConfigError, InputError
from pipeline.storage import storage
from pipeline.storage.globs import is_marker, match_files, match_objects, matches_folder
from pipeline.storage.retry import StoreError
from pipeline.storage.storage import RealPaths

if TYPE_CHECKING:
    from pipeline.config import Config

#: Names as a run writes them below --output.
_WRITTEN = (
    LATEST,
    *(f"runs/RUN/{name}" for name in (MANIFEST, VOCAB, shard_name(0, 0, 1), "dead-letters/part-0.parquet")),
)

_ESCAPED = re.compile(r"\[[*?[]\]")  # by which a glob names one of its own signs


@dataclass(frozen=True, slots=True)
class InputFile:
    """One input file.

    Attributes:
        ordinal: its place in the order of --input, then bytewise of the name: what draws are keyed by.
        uri: where to read it.
        name: the path below the glob's fixed prefix: equal wherever the corpus is.
        bytes: stored size.
        modified: UTC, when it was written last, where the store says.
    """

    ordinal: int
    uri: str
    name: str
    bytes: int
    modified: datetime.datetime | None = None


def list_inputs(
    patterns: Sequence[str],
    passed_over: list[str] | None = None,
    repeated: Callable[[str, str], None] | None = None,
) -> Iterator[InputFile]:
    """List the files that the globs match, local, in S3 or Google's store, or in one that Beam's file systems know.

    Args:
        patterns: the globs.
        passed_over: takes the URIs of files that other programs put next to data, such as _SUCCESS.
        repeated: takes the URI and the real path of a file that is matched again, which is passed over then.

    Raises:
        InputError: a glob matches no data, or a file is matched twice, be it through a link; a password in a URI,
            which would be stored.
    """
    seen, real = dict[str, str](), RealPaths()
    ordinal = 0
    for pattern in patterns:
        prefix = _fixed_length(storage.local_path(pattern) if storage.is_local(pattern) else pattern)
        matched = _match(pattern)
        found = [item for item in matched if len(matched) == 1 or not is_marker(item[0][prefix:])]
        if passed_over is not None:
            passed_over += sorted({item[0] for item in matched}.difference(item[0] for item in found))
        if not found:
            raise _no_file(pattern, [uri for uri, _, _ in matched])
        found.sort(key=lambda item: item[0][prefix:].encode("utf-8", "surrogateescape"))
        for uri, size, modified in found:
            _require_utf8(uri, pattern)
            place = real.of(uri)
            if place in seen and repeated is not None:
                repeated(uri, place)
                continue
            if place in seen:
                raise InputError(
                    f"--input {pattern}: matches {uri}, as --input {seen[place]} does; expected each file once"
                )
            seen[place] = pattern
            yield InputFile(ordinal, uri, uri[prefix:], size, modified)
            ordinal += 1


def _no_file(pattern: str, passed_over: Sequence[str]) -> InputError:
    path = storage.local_path(pattern)
    if passed_over:
        example = os.path.basename(min(passed_over))
        return InputError(f"--input {storage.redact(pattern)}: no data, only files such as {example}")
    if storage.is_local(pattern) and not os.path.isdir(path) and matches_folder(path):
        return InputError(f"--input {pattern}: no file matches, only folders: {pattern}/** is all below")
    if storage.is_local(pattern) and os.path.isdir(path):
        return InputError(f"--input {pattern}: this is a folder; name the files in it, as {pattern.rstrip('/')}/* does")
    return InputError(f"--input {storage.redact(pattern)}: no file matches")


def refuse_output(files: Iterable[InputFile], output: str) -> Iterator[InputFile]:
    """Pass files on, unless one is the output's own: the next run over the folder would read what this one wrote."""
    real = RealPaths()
    top = os.path.realpath(storage.local_path(output)) if storage.is_local(output) else output
    own = tuple(storage.join(top, name) for name in ("runs/", LATEST))
    for file in files:
        if real.of(file.uri).startswith(own):
            raise InputError(
                f"{file.uri}: found a file of --output's own dataset among those of --input, expected text alone"
            )
        yield file


def refuse_targets(config: Config) -> None:
    """Refuse to write the dataset or the page where this run, or the next one of the same command, reads.

    Raises:
        OutputError: it would.
        ConfigError: a library that pages are made with is missing.
    """
    if config.report and (missing := missing_extra()):
        raise ConfigError(f"--report: {missing}")
    sources = [("--input", pattern) for pattern in config.input]
    for name in _WRITTEN:
        for flag, pattern in sources:
            if would_read(pattern, storage.join(config.output, name)):
                raise OutputError(
                    f"--output {storage.redact(config.output)}: {flag} {storage.redact(pattern)} matches "
                    f"files that are written there, as {name}; expected another folder"
                )
    if config.report:
        refuse_place("--report", config.report, config)


def refuse_place(flag: str, place: str, config: Config) -> None:
    """Refuse to write a file onto what a run of these settings reads or writes.

    Raises:
        OutputError: the place is one of those.
    """
    sources = [("--input", pattern) for pattern in config.input]
    refuse_inputs(flag, place, [*sources, ("--input-list", config.input_list), ("--vocab", config.vocab)])
    for folder_flag, folder in (("--output", config.output), ("--vocab", config.vocab)):
        refuse_owned(flag, place, folder_flag, folder, OWN)


def _fixed_length(pattern: str) -> int:
    """Return the length of the folder part that every match shares by the pattern's own words."""
    if storage.is_local(pattern) and os.path.isfile(pattern):
        return pattern.rfind("/") + 1
    plain = _ESCAPED.sub("_", pattern)
    magic = min((plain.find(sign) for sign in "*?[" if sign in plain), default=len(plain))
    return plain.rfind("/", 0, magic) + 1


def _match(pattern: str) -> list[tuple[str, int, datetime.datetime | None]]:
    """Return URI, size and time of what a glob matches, in any order."""
    if storage.has_user(pattern):
        raise InputError(
            f"--input {storage.redact(pattern)}: found a name or password in the URI, which the run's list of files "
            "would keep; expected them where the store's own tools look for them"
        )
    if not storage.is_local(pattern):
        return [(uri, size, _utc(modified)) for uri, size, modified in match_objects(pattern)]
    return [(path, info.st_size, _utc(info.st_mtime)) for path, info in match_files(storage.local_path(pattern))]


def _utc(seconds: float | None) -> datetime.datetime | None:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc) if seconds else None


def _require_utf8(uri: str, pattern: str) -> None:
    """Refuse a name that is not valid UTF-8, or is not read as such: it would be another one in another locale."""
    try:
        uri.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"--input {pattern}: found the file name {uri!r}, expected UTF-8{_hint()}") from None
    if _hint() and not uri.isascii():
        raise InputError(f"--input {pattern}: found the file name {uri!r}, expected ASCII{_hint()}")


def _hint() -> str:
    """Say what helps where file names are not read as UTF-8."""
    encoding = sys.getfilesystemencoding()
    return "" if encoding == "utf-8" else f", for this locale's names are {encoding}: set PYTHONUTF8=1"


def unreadable(file: InputFile, error: OSError) -> InputError:
    """Say in one line that a file cannot be read."""
    if isinstance(error, StoreError):
        return InputError(str(error))
    return InputError(f"{storage.redact(file.uri)}: found {error.strerror or error}, expected a readable file")
