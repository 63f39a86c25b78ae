"""Files that a glob matches, local or in a store: as Python's `glob` has it, but nothing unreadable is passed over."""

from __future__ import annotations

import fnmatch
import glob
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from pipeline.errors import InputError
from pipeline.storage import storage
from pipeline.storage.objects import is_match

#: Names of files without data, in lower case; folders of such files.
_MARKERS = {".ds_store", "thumbs.db", "desktop.ini"}
_MARKER_FOLDERS = {"_delta_log", "_temporary", "_spark_metadata", "__MACOSX"}

_REQUESTS_AT_ONCE = 16

_KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def match_files(pattern: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield path and status of the files that a pattern matches, in any order; folders that it matches are none.

    "**" is any number of folders; dotfiles match only patterns that begin with a dot.

    Raises:
        InputError: a folder or file cannot be read, is a link to a folder around it, or is neither file nor folder.
    """
    try:
        for path in [pattern] if os.path.isfile(pattern) else dict.fromkeys(_match("", pattern)):
            status = os.stat(path)
            if kind := _KINDS.get(stat.S_IFMT(status.st_mode)):
                raise InputError(f"--input {pattern}: {path} is {kind}, not a file")
            if stat.S_ISREG(status.st_mode):
                yield path, status
    except OSError as error:
        place = str(error.filename).rstrip("/")
        raise InputError(
            f"{place}: found {error.strerror}, expected a readable file or folder (--input {pattern})"
        ) from None


def is_marker(path: str) -> bool:
    """Tell a file that is not data, by its path below a glob's fixed part: as Spark, Hadoop and desktops leave them."""
    *folders, name = path.split("/")
    plain = name.startswith("_") and "." not in name  # _SUCCESS, _metadata, _committed_123, _started_123
    return (
        plain
        or name.startswith("._")
        or name.lower() in _MARKERS
        or name.lower().endswith(".crc")
        or any(folder in _MARKER_FOLDERS for folder in folders)
    )


def matches_folder(pattern: str) -> bool:
    return any(os.path.isdir(path) for path in glob.iglob(pattern))


def matches_any(pattern: str) -> bool:
    """Tell whether a pattern matches a local file; where a folder cannot be read, it does not."""
    try:
        return any(True for _ in match_files(pattern))
    except InputError:
        return False


def absolute_glob(pattern: str) -> str:
    """Return a pattern that matches the same files from any folder; a URI is one already."""
    if "://" in pattern or os.path.isabs(pattern):
        return pattern
    here = os.getcwd() if os.path.isfile(pattern) else glob.escape(os.getcwd())  # a file's own name is no pattern
    return os.path.join(here, pattern)


def _match(folder: str, pattern: str) -> Iterator[str]:
    """Match the rest of a pattern below a folder that ends in a slash, or is "" for the present one."""
    name, slash, rest = pattern.partition("/")
    if name == "**":
        for below in _folders_below(folder):
            yield from _match(below, rest if slash else "*")
    elif not slash:
        yield from (folder + found for found in _names(folder, name))
    elif not name:  # a slash at the start, or two in a row
        yield from _match(folder + "/", rest)
    else:
        for found in _names(folder, name):
            status = _status(folder + found)
            if status and stat.S_ISDIR(status.st_mode):
                yield from _match(f"{folder}{found}/", rest)


def _names(folder: str, pattern: str) -> list[str]:
    """Names in a folder that match one part of a pattern; a part without a wildcard need only exist."""
    if not glob.has_magic(pattern):
        return [pattern] if _status(folder + pattern, os.lstat) else []
    names = fnmatch.filter(os.listdir(folder or "."), pattern)
    return [name for name in names if pattern.startswith(".") or not name.startswith(".")]


def _status(path: str, stat_of: Callable[[str], os.stat_result] = os.stat) -> os.stat_result | None:
    """Return what there is, None for nothing: unlike os.path.exists, not also where one may not look."""
    try:
        return stat_of(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _folders_below(top: str) -> Iterator[str]:
    """Yield a folder and all below it, through links as well, except dotfiles."""
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [(top, frozenset())]
    while waiting:
        folder, around = waiting.pop()
        yield folder
        status = os.stat(folder or ".")
        here = status.st_dev, status.st_ino
        if here in around:
            raise InputError(f"{folder.rstrip('/')}: symlink loop: a link to a folder that contains it")
        with os.scandir(folder or ".") as entries:
            names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
        waiting += [(f"{folder}{name}/", around | {here}) for name in names]


def match_objects(pattern: str) -> list[tuple[str, int, float | None]]:
    """Return URI, size and Unix time of what a pattern matches in an object store, by the rules for local files.

    Raises:
        InputError: it cannot be listed.
    """
    start = len(pattern) - len(pattern.partition("://")[2].partition("/")[2])
    prefix = pattern[: min((at for sign in "*?[" if (at := pattern.find(sign, start)) >= 0), default=len(pattern))]
    try:
        found = storage.list_objects(prefix)
        if found is None:
            return _match_by_beam(pattern)
        matched = [one for one in found if is_match(pattern[start:], one.uri[start:])]
        # An empty one may be how consoles mark a folder: a key that ends in a slash, which obstore does not show.
        empty = [one.uri for one in matched if not one.bytes]
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
            there = dict(zip(empty, pool.map(storage.exists, empty), strict=True))
        return [one for one in matched if there.get(one.uri, True)]
    except OSError as error:
        detail = error.strerror or str(error)
    raise InputError(f"--input {pattern}: cannot list it ({detail})") from None


def _match_by_beam(pattern: str) -> list[tuple[str, int, float | None]]:
    """Match where only Beam's file systems know how to list; their rules differ a little."""
    from apache_beam.io.filesystem import BeamIOError
    from apache_beam.io.filesystems import FileSystems

    try:
        [result] = FileSystems.match([pattern])
    except (BeamIOError, ValueError) as error:  # a store that does not answer; a scheme that nothing is installed for
        raise OSError(" ".join(str(error).split())) from None
    files = [m for m in result.metadata_list if not m.path.endswith("/")]
    return [(m.path, m.size_in_bytes, m.last_updated_in_seconds) for m in files]
