"""What a retraining has done so far, so that it can go on after any kind of stop: MODEL/retrain/state.json.

MODEL/retrain/state.json          the night that is under way or was the last one; what was made of which text
MODEL/retrain/NIGHT/              its lists of files (listed, read: Parquet), and its training, until it is over
MODEL/retrain/lock, lease.json    who is running
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from pipeline.dataset.schema import FORMAT_VERSION, FormatError, canonical_json, parse_json_object, require_version
from pipeline.storage import storage
from trainer.models.pointer import require_plain

FOLDER, STATE = "retrain", "state.json"
PUBLISHED, REFUSED = "published", "refused"
REMEMBERED = 200


@dataclass(frozen=True)
class Night:
    """One retraining.

    Attributes:
        name: also the run's in the dataset.
        started: UTC.
        text: digest of the list of files that it reads.
        settings: digest of all settings that shape the model.
        only_new: whether it reads new files alone.
        parent: the version that was live when it began, "" for none.
        pointer_sha256: of LATEST.json as it was then: it is replaced only if it still is.
        data_sha256: of the dataset's LATEST.json as it was then.
        globs: of the corpus.
        files: files to read, of
        listed: files of the corpus.
        dataset_id: the dataset, once the pipeline has made it.
        version: the version, once it is staged.
        content: digest of the texts in the dataset, whatever their files are called.
        passed: how many listed files are not read, by reason; with --only-new alone.
    """

    name: str
    started: str
    text: str
    settings: str
    only_new: bool
    parent: str
    pointer_sha256: str
    data_sha256: str
    globs: tuple[str, ...]
    files: int
    listed: int
    dataset_id: str = ""
    version: str = ""
    content: str = ""
    passed: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of a night.

    Attributes:
        text: as the night's, and so the next two.
        version: the version that it made, "" for none.
        kind: published or refused.
        gate: digest of the gate's settings and files.
        reasons: what the gate said.
        at: UTC.
        content: as the night's.
    """

    text: str
    settings: str
    dataset_id: str
    version: str
    kind: str
    gate: str
    reasons: tuple[str, ...]
    at: str
    content: str = ""


@dataclass(frozen=True)
class State:
    """The content of state.json.

    Attributes:
        night: the one under way.
        outcomes: of earlier ones, newest first; one for each version.
        doomed: versions whose files are to be removed.
        over: nights whose folders are to be removed.
    """

    night: Night | None = None
    outcomes: tuple[Outcome, ...] = ()
    doomed: tuple[str, ...] = ()
    over: tuple[str, ...] = field(default=())

    def refused(self) -> tuple[Outcome, ...]:
        """Outcomes of refused versions, newest first."""
        return tuple(outcome for outcome in self.outcomes if outcome.kind == REFUSED)

    def with_outcome(self, outcome: Outcome) -> State:
        """Remember one, in the place of an earlier one of the same version."""
        others = (one for one in self.outcomes if one.version != outcome.version)
        return dataclasses.replace(self, outcomes=(outcome, *others)[:REMEMBERED])


def folder_of(model_uri: str, *parts: str) -> str:
    """URI of what retraining keeps in a model's folder."""
    return storage.join(model_uri, FOLDER, *parts)


def load_state(model_uri: str) -> State:
    """Read state.json; an empty state where there is none.

    Raises:
        FormatError: it is damaged, or of another format version.
    """
    uri = folder_of(model_uri, STATE)
    path = storage.redact(uri)
    data = storage.read_pointer(uri)
    if data is None:
        return State()
    fields = parse_json_object(data, path)
    require_version(fields.pop("format_version", None), path)
    try:
        night = fields["night"] and Night(**{**fields["night"], "globs": tuple(fields["night"]["globs"])})
        outcomes = tuple(Outcome(**{**one, "reasons": tuple(one["reasons"])}) for one in fields["outcomes"])
        doomed, over = ([require_plain(name, uri) for name in fields[key]] for key in ("doomed", "over"))
    except (KeyError, TypeError) as error:
        raise FormatError(f"{path}: found no valid state of a retraining ({error}), expected one") from None
    return State(night, outcomes, tuple(doomed), tuple(over))


def save_state(model_uri: str, state: State) -> None:
    """Replace state.json in one step."""
    fields: dict[str, Any] = {"format_version": FORMAT_VERSION, **dataclasses.asdict(state)}
    storage.write_bytes(folder_of(model_uri, STATE), canonical_json(fields))
