"""Taking away what dead runs left in a dataset's folder, and runs that newer ones replaced.

Only files of names that the pipeline gives are ever removed; other files in the folder stay where they are.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import re
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from pipeline.dataset.manifest import LATEST, MANIFEST, MODELS, parse_pointer
from pipeline.dataset.schema import FormatError, parse_json_object, parse_struct
from pipeline.publishing.lease import LEASE, Writer, probe_lease
from pipeline.storage import storage
from pipeline.storage.folders import StoredFile, list_files, remove_empty, remove_files

_log = logging.getLogger(__name__)

#: Files that a run writes for itself alone; its manifest names none of them.
_HALF_WRITTEN = re.compile(r"(?:.+/)?\.[^/]+\.tmp")
_TEMPORARY = re.compile(rf"tmp/.+|lease\.json|{_HALF_WRITTEN.pattern}")
_WRITTEN = re.compile(
    r"(?:manifest|run)\.json|(?:listing|vocab|inputs|shards)\.parquet|pairs/pass-\d+/part-\d+-of-\d+\.parquet"
    r"|dead-letters/part-\d+\.parquet|phrases/round-\d+\.parquet"
)
#: Folders that a run makes, and its own.
_FOLDER = re.compile(r"\.|tmp(?:/.+)?|pairs(?:/pass-\d+)?|dead-letters|phrases")


@dataclass(frozen=True)
class Removed:
    """What was removed of one run.

    Attributes:
        run: its name; "" for what is next to the runs.
        reason: "dead": the run was never complete, and no process is writing it; "old": newer ones replaced it;
            "temporary": only files that a dead process left.
        dead_letters: how many of the files.
    """

    run: str
    reason: str
    files: int
    bytes: int
    dead_letters: int


class _Uses(msgspec.Struct):
    """The record of a model that retrain writes: its files, by run, which are there as long as it uses the run."""

    model: str
    host: str
    uses: dict[str, list[str]]


def clean(output: str, older_than_s: float, keep: int = 0, dry_run: bool = False) -> list[Removed]:
    """Remove what dead runs left, and old runs if asked.

    Args:
        output: the dataset's folder.
        older_than_s: where it is not certain that a run is dead, it is taken for dead after so many seconds in which
            none of its files was written.
        keep: complete runs to leave, the published one and those before it; 0 for all.
        dry_run: only say what would be removed.

    Raises:
        FormatError: the folder does not exist, or its pointer is damaged.
    """
    if storage.is_local(output) and not os.path.isdir(storage.local_path(output)):
        raise FormatError(f"{output}: found no folder, expected that of a dataset")
    before = time.time() - older_than_s
    runs = _list_runs(output)
    found = [_clean_run(output, run, files, before, dry_run) for run, files in sorted(runs.items())]
    temporaries = [file for file in _list_top(output) if file.modified <= before and _TEMPORARY.fullmatch(file.name)]
    if temporaries:
        found.append(_remove(output, "", temporaries, "temporary", dry_run))
    return [item for item in found if item is not None] + remove_old_runs(output, keep, dry_run)


def remove_old_runs(output: str, keep: int, dry_run: bool = False) -> list[Removed]:
    """Remove complete runs older than the published one but ``keep - 1``; 0 keeps all.

    Runs newer than the published one stay: they lost a race, or wait for the pointer to come back. So do those that a
    version of a model was trained on.

    Raises:
        FormatError: the pointer is damaged.
    """
    if not keep:
        return []
    runs = {run: files for run, files in _list_runs(output).items() if any(f.name == MANIFEST for f in files)}
    started = {run: _started(output, run, files) for run, files in runs.items()}
    published = _published(output)
    if published not in started:
        return []  # without a pointer nothing says which run is the one to keep
    older = sorted((run for run in runs if started[run] < started[published]), key=lambda run: (started[run], run))
    removed = []
    for run in older[: max(0, len(older) - (keep - 1))]:
        if _published(output) == run:  # someone rolled back to it meanwhile
            break
        if models_of(output, run):  # looked up one by one: a retraining may begin meanwhile
            continue
        files = [f for f in runs[run] if _WRITTEN.fullmatch(f.name) or _TEMPORARY.fullmatch(f.name)]
        # Without its manifest a run is none: whatever interrupts this, no reader finds half of one.
        files.sort(key=lambda file: file.name != MANIFEST)
        removed.append(_remove(output, run, files, "old", dry_run))
    return removed


def models_of(output: str, run: str) -> list[str]:
    """Name the models that a run is in use by: a version that was trained on it is there, or it cannot be told.

    Raises:
        FormatError: a record of a model is damaged; nothing says what it holds.
    """
    folder, found = storage.join(output, MODELS), list[str]()
    for file in list_files(folder):
        uri = storage.join(folder, file.name)
        if not file.name.endswith(".json") or "/" in file.name or file.name.startswith("."):
            continue
        record = parse_struct(storage.read_bytes(uri), _Uses, storage.redact(uri))
        if any(_is_there(record.model, record.host, proof) for proof in record.uses.get(run, [])):
            found.append(record.model)
    return sorted(found)


def _is_there(model: str, host: str, name: str) -> bool:
    """Tell whether a model's file is there; it counts as there where that cannot be told from here."""
    if storage.is_local(model) and host != socket.gethostname():
        return True
    try:
        return storage.exists(storage.join(model, name))
    except Exception:  # any store's own
        return True


def try_remove_old_runs(output: str, keep: int) -> None:
    """Remove old runs after a publication, which what cannot be removed does not undo."""
    try:
        remove_old_runs(output, keep)
    except (OSError, FormatError) as error:
        _log.error("warning: %s: old runs stay: %s", storage.redact(output), " ".join(str(error).split()))


def remove_unfinished(output: str, run: str, but: Sequence[str] = ()) -> None:
    """Remove the files of a run that is not complete, but those of some folders of it; one that is complete stays."""
    folder = storage.join(output, "runs", run)
    if storage.exists(storage.join(folder, MANIFEST)):
        return
    known = [file for file in list_files(folder) if _WRITTEN.fullmatch(file.name) or _TEMPORARY.fullmatch(file.name)]
    kept = tuple(f"{name}/" for name in but)
    _remove_files(folder, [file.name for file in known if file.name != LEASE and not file.name.startswith(kept)])


def remove_temporaries(output: str, run: str) -> None:
    """Remove what workers that were killed left next to a complete run's files; object stores know no temporaries."""
    folder = storage.join(output, "runs", run)
    if storage.is_local(folder):
        _remove_files(folder, [file.name for file in list_files(folder) if _HALF_WRITTEN.fullmatch(file.name)])


def _remove_files(folder: str, names: Sequence[str]) -> None:
    """Remove files of a run, and those of its folders that are empty then."""
    remove_files(folder, names)
    remove_empty(folder, lambda name: _FOLDER.fullmatch(name) is not None)


def _clean_run(output: str, run: str, files: list[StoredFile], before: float, dry_run: bool) -> Removed | None:
    complete = any(file.name == MANIFEST for file in files)
    known = [f for f in files if _TEMPORARY.fullmatch(f.name) or (not complete and _WRITTEN.fullmatch(f.name))]
    if not known:
        return None
    with probe_lease(storage.join(output, "runs", run)) as writer:
        old = max(file.modified for file in files) <= before
        if writer is Writer.ALIVE or (writer is not Writer.DEAD and not old):
            return None
        known.sort(key=lambda file: file.name == LEASE)  # last: without it a run looks like one that failed long ago
        return _remove(output, run, known, "temporary" if complete else "dead", dry_run)


def _remove(output: str, run: str, files: Sequence[StoredFile], reason: str, dry_run: bool) -> Removed:
    folder = storage.join(output, "runs", run) if run else output
    if not dry_run:
        (_remove_files if run else remove_files)(folder, [file.name for file in files])
    dead_letters = sum(file.name.startswith("dead-letters/") for file in files)
    return Removed(run, reason, len(files), sum(file.bytes for file in files), dead_letters)


def _list_runs(output: str) -> dict[str, list[StoredFile]]:
    runs: dict[str, list[StoredFile]] = {}
    for file in list_files(storage.join(output, "runs")):
        run, slash, name = file.name.partition("/")
        if slash:
            runs.setdefault(run, []).append(file._replace(name=name))
    return runs


def _list_top(output: str) -> list[StoredFile]:
    """List the files in the output's own folder; object stores know no temporaries there."""
    if not storage.is_local(output):
        return []
    with os.scandir(storage.local_path(output)) as entries:
        files = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries if not entry.is_dir()]
    return [StoredFile(name, info.st_size, info.st_mtime) for name, info in files]


def _published(output: str) -> str | None:
    uri = storage.join(output, LATEST)
    data = storage.read_pointer(uri)
    return None if data is None else parse_pointer(data, storage.redact(uri)).run


def _started(output: str, run: str, files: Iterable[StoredFile]) -> float:
    """Return when a complete run began, in seconds since 1970; when it was done, where nothing says more."""
    uri = storage.join(output, "runs", run, "run.json")
    with contextlib.suppress(FormatError, FileNotFoundError, ValueError, TypeError):
        started = parse_json_object(storage.read_bytes(uri), uri).get("started")
        return datetime.datetime.fromisoformat(started).timestamp()  # type: ignore[arg-type]
    return next(file.modified for file in files if file.name == MANIFEST)
