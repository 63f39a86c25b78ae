"""What nights leave in a model's folder, so that the same command goes on wherever it was killed.

MODEL/retrain/state.json          what became of which text, newest first
MODEL/retrain/NIGHT/              the outputs of a night that is not over; NIGHT is a digest of its settings and globs
    read.parquet, night.json      the files that it reads; what it began with, and the version once it is made
    training/                     checkpoints, then the trained model
MODEL/retrain/seen.parquet        texts of files that --only-new looked at
MODEL/retrain/lock, lease.json    who is running
"""

from __future__ import annotations

import contextlib

import msgspec

from pipeline.dataset.schema import FORMAT_VERSION, FormatError, canonical_json, parse_struct, sha256_hex
from pipeline.storage import folders, storage
from trainer.models.pointer import VERSIONS, Pointer, read_pointer
from trainer.models.publication import LINEAGE, remove_version
from trainer.models.staging import staged_version

FOLDER, STATE, NIGHT = "retrain", "state.json", "night.json"
READ, TRAINING = "read.parquet", "training"
PUBLISHED, REFUSED = "published", "refused"
REMEMBERED = 200


class Night(msgspec.Struct, frozen=True):
    """What a night began with.

    Attributes:
        name: digest of its settings and globs: its folder's.
        run: the name of the dataset's run.
        started: UTC.
        text: digest of the list of files that it reads.
        settings: digest of all settings that shape the model.
        parent: the version that was live when it began, "" for none.
        pointer_sha256: of LATEST.json as it was then: it is replaced only if it still is.
        data_sha256: of the dataset's LATEST.json as it was then.
        files: files to read, of
        listed: files of the corpus.
        passed: how many listed files are not read, by reason; with --only-new alone.
        version: what was made of it, "" for nothing yet; no one reads it before it is published.
    """

    name: str
    run: str
    started: str
    text: str
    settings: str
    only_new: bool
    parent: str
    pointer_sha256: str
    data_sha256: str
    files: int
    listed: int
    passed: dict[str, int]
    version: str = ""
    format_version: int = FORMAT_VERSION


class Outcome(msgspec.Struct, frozen=True):
    """What became of a text.

    Attributes:
        text: as the night's, and so the next one.
        version: the version that was made of it.
        kind: published or refused.
        content: digest of the texts in the dataset, whatever their files are called.
    """

    text: str
    settings: str
    dataset_id: str
    version: str
    kind: str
    content: str = ""


class _State(msgspec.Struct):
    outcomes: tuple[Outcome, ...]
    format_version: int = FORMAT_VERSION


def folder_of(model_uri: str, *parts: str) -> str:
    """URI of what retraining keeps in a model's folder."""
    return storage.join(model_uri, FOLDER, *parts)


def load_outcomes(model_uri: str) -> tuple[Outcome, ...]:
    """What became of earlier nights, newest first, one for each version.

    Raises:
        FormatError: state.json is damaged, or of another format version.
    """
    uri = folder_of(model_uri, STATE)
    data = storage.read_pointer(uri)
    if data is None:
        return ()
    return parse_struct(data, _State, storage.redact(uri)).outcomes


def remember(model_uri: str, outcome: Outcome, keep: int) -> None:
    """Add an outcome, in the place of an earlier one of the same version; no more than ``keep`` refused ones stay."""
    outcomes = [outcome, *(one for one in load_outcomes(model_uri) if one.version != outcome.version)]
    refused = [one for one in outcomes if one.kind == REFUSED]
    kept = [one for one in outcomes if one not in refused[keep:]][:REMEMBERED]
    state = _State(tuple(kept))
    storage.write_bytes(folder_of(model_uri, STATE), canonical_json(msgspec.to_builtins(state)))


def find_outcome(model_uri: str, live: Pointer | None, settings: str, *digests: str) -> Outcome | None:
    """What settles a text: a version of it is live, was rolled back or refused; not one that newer ones replaced.

    Args:
        model_uri: the model's folder.
        live: its pointer.
        settings: digest of those that shape the model.
        digests: of the text, its content or its dataset: one of them is enough.
    """
    for one in load_outcomes(model_uri):
        same = {one.text, one.content, one.dataset_id} & set(filter(None, digests))
        if same and one.settings == settings and _counts(model_uri, one, live):
            return one
    return None


def is_refused(outcome: Outcome, live: Pointer | None) -> bool:
    """Whether a version was refused, and not made the live one by hand since."""
    return outcome.kind == REFUSED and (live is None or outcome.version not in (live.version, *live.withdrawn))


def _counts(model_uri: str, outcome: Outcome, live: Pointer | None) -> bool:
    if live is not None and outcome.version in live.previous:
        return False
    if is_refused(outcome, live):
        return staged_version(model_uri, outcome.version) is not None
    return live is not None and outcome.version in (live.version, *live.withdrawn)


def digest_of(pointer: Pointer | None) -> str:
    """SHA-256 of a pointer's file, "" for none."""
    return sha256_hex(pointer.data) if pointer else ""


def load_night(model_uri: str, name: str) -> Night | None:
    """Read what is known of a night; None where it did not come so far, or another release began it."""
    data = storage.read_pointer(folder_of(model_uri, name, NIGHT))
    with contextlib.suppress(FormatError):
        return None if data is None else parse_struct(data, Night, NIGHT)
    return None


def save_night(model_uri: str, night: Night) -> None:
    """Let a night begin: from here on the same command goes on with it."""
    storage.write_bytes(folder_of(model_uri, night.name, NIGHT), canonical_json(msgspec.to_builtins(night)))


def clear(model_uri: str) -> None:
    """Remove what nights left that are over or were given up, and versions that are no longer kept."""
    live, outcomes, root = read_pointer(model_uri), load_outcomes(model_uri), folder_of(model_uri)
    names = [file.name for file in folders.list_files(root) if "/" in file.name]
    folders.remove_files(
        root, sorted(names, key=lambda name: not name.endswith(f"/{NIGHT}"))
    )  # without it there is none
    if storage.is_local(root):
        for folder in {name.partition("/")[0] for name in names}:
            storage.remove_tree(storage.join(root, folder))
    dropped = set(live.dropped if live else ())
    kept = {one.version for one in outcomes if live is None or one.kind == REFUSED} - dropped
    files = [file.name.partition("/") for file in folders.list_files(storage.join(model_uri, VERSIONS))]
    ours = {version for version, _, name in files if name == LINEAGE or version in dropped}
    for version in ours - kept - set(live.kept if live else ()):
        remove_version(model_uri, version)
