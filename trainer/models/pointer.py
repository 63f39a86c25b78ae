"""LATEST.json of a model: which version is live, which were before it, and which were rolled back.

    {format_version, version, model_sha256}        and, where there are any,
    previous                                       versions that were live before it, newest first
    withdrawn                                      versions that a rollback took back, newest first
    dropped                                        versions that are no longer kept: their files are being removed

All of it changes in one conditional swap, so that "the version before" is always well defined.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.dataset.schema import (
    FORMAT_VERSION,
    FormatError,
    canonical_json,
    parse_json_object,
    parse_struct,
    require_inside,
)
from pipeline.storage import storage
from trainer.models.lock import share

LATEST = "LATEST.json"
VERSIONS = "versions"
HISTORY = 100  # versions that a pointer remembers at most

_LISTS = ("previous", "withdrawn", "dropped")


@dataclass(frozen=True)
class Pointer:
    """What LATEST.json says.

    Attributes:
        version: the live one.
        model_sha256: of its model.json.
        previous: versions that were live before it, newest first.
        withdrawn: versions that a rollback took back, newest first.
        dropped: versions that fell out of these lists, whose files may still be there.
        data: the file's bytes: what a swap expects to find.
    """

    version: str
    model_sha256: str | None = None
    previous: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    data: bytes = b""

    @property
    def kept(self) -> tuple[str, ...]:
        """All versions that someone may want."""
        return (self.version, *self.previous, *self.withdrawn)

    def to_json(self) -> bytes:
        fields = {"format_version": FORMAT_VERSION, "version": self.version, "model_sha256": self.model_sha256}
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        return canonical_json(fields | {name: value for name, value in lists.items() if value})

    def cut(self, keep: int) -> Pointer:
        """Keep no more than ``keep`` versions: the live one and those before it, and as many withdrawn ones."""
        after = replace(self, previous=self.previous[: keep - 1], withdrawn=self.withdrawn[:keep])
        gone = dict.fromkeys((*self.kept, *self.dropped))
        return replace(after, dropped=tuple(name for name in gone if name not in after.kept))


def advance(before: Pointer | None, version: str, model_sha256: str) -> Pointer:
    """The pointer once a version is published."""
    if before is None:
        return Pointer(version, model_sha256)
    previous = tuple(name for name in (before.version, *before.previous) if name != version)
    withdrawn = tuple(name for name in before.withdrawn if name != version)
    return Pointer(version, model_sha256, previous, withdrawn, before.dropped).cut(HISTORY)


def retreat(before: Pointer, version: str, model_sha256: str) -> Pointer:
    """The pointer once one of the versions before is live again: all newer ones are withdrawn."""
    place = before.previous.index(version)
    withdrawn = (before.version, *before.previous[:place], *before.withdrawn)
    kept = tuple(name for name in dict.fromkeys(withdrawn) if name != version)
    return Pointer(version, model_sha256, before.previous[place + 1 :], kept, before.dropped).cut(HISTORY)


def read_pointer(model_uri: str) -> Pointer | None:
    """Read LATEST.json; None where there is none yet.

    Raises:
        FormatError: it is damaged, another program's, or --model is a file.
    """
    uri = storage.join(model_uri, LATEST)
    path, data = storage.redact(uri), read_whole(model_uri, LATEST)
    if data is None:
        return None
    fields = parse_json_object(data, path)
    if "version" not in fields and "run" in fields:
        raise FormatError(f"{path}: found a dataset's pointer, expected a model's")
    pointer = replace(parse_struct(data, Pointer, path), data=data)
    for name in (*pointer.kept, *pointer.dropped):
        require_plain(name, uri)
    return pointer


def read_whole(model_uri: str, name: str) -> bytes | None:
    """Read a pointer in a model's folder; None where there is none yet."""
    try:
        return storage.read_pointer(storage.join(model_uri, name))
    except NotADirectoryError:
        raise FormatError(f"{storage.redact(model_uri)}: found a file, expected a model's folder") from None


def swap(model_uri: str, before: Pointer | None, after: Pointer) -> None:
    """Replace the pointer, if it still is what was read.

    Raises:
        PointerMovedError: another version was published, or a rollback was made, meanwhile.
    """
    expected = None if before is None else before.data
    with share(model_uri):
        storage.swap_pointer(storage.join(model_uri, LATEST), expected, after.to_json())


def version_folder(model_uri: str, version: str) -> str:
    """Name the folder of a version."""
    return storage.join(model_uri, VERSIONS, require_plain(version, model_uri))


def require_plain(version: object, uri: str) -> str:
    """Return a version's name if it is the plain name of a folder."""
    name = require_inside(version, storage.redact(uri))
    if "/" in name or name.startswith("."):
        raise FormatError(f"{storage.redact(uri)}: found the version {name!r}, expected the plain name of a folder")
    return name
