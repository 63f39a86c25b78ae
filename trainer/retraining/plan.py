"""Whether there is anything to do: a night to go on with, new text, or nothing."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import secrets
import sys
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipeline.dataset.schema import canonical_json
from pipeline.storage import storage
from trainer.errors import UserError
from trainer.evaluation.eval_sets import EvalSets
from trainer.models.lease import Lease
from trainer.models.pointer import Pointer, read_pointer
from trainer.models.staging import staged_version
from trainer.retraining import judgement, steps
from trainer.retraining.config import RetrainConfig, Settings
from trainer.retraining.corpus import (
    Corpus,
    all_of,
    as_seen,
    describe_passed,
    load_files,
    merge_seen,
    new_of,
    save_files,
)
from trainer.retraining.gate import load_check
from trainer.retraining.lineage import known_files
from trainer.retraining.pipeline_process import run_pipeline
from trainer.retraining.state import REFUSED, Night, Outcome, State, folder_of, save_state
from trainer.retraining.uses import record_uses

LISTED, READ, KNOWN = "listed.parquet", "read.parquet", "known.parquet"
SEEN_FILES = "seen.parquet"
MOST_NOTES = 20


def find_night(
    settings: Settings, state: State, lease: Lease
) -> tuple[State, Night | None, Outcome | None, dict[str, int]]:
    """Go on with the night that is under way, or begin one if anything is new.

    Returns:
        The state, the night, and where there is none what became of the same text before, None if there is no text; how
        many files were passed over, by reason.

    Raises:
        PipelineFailed: the corpus cannot be listed.
        UserError: a file was changed, with --only-new; no list of files that the live model was trained on.
    """
    own, live = settings.own, read_pointer(settings.own.model)
    digest = settings_digest(settings)
    if state.night is not None:
        if (state.night.settings, state.night.globs) == (digest, own.input) and _is_base(state.night, live):
            return state, state.night, None, state.night.passed
        state = steps.drop(own.model, state)
    name = f"retrain-{datetime.datetime.now(datetime.timezone.utc):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    state = dataclasses.replace(state, over=(*state.over, name))  # whatever happens, its folder is not forgotten
    save_state(own.model, state)
    corpus = _list_corpus(own, name, live, lease)
    known = _known_outcome(state, corpus.digest, digest, live)
    if corpus.passed:
        print(f"{len(corpus.read):,} files to read; {describe_passed(corpus.passed)}", file=sys.stderr)
    if not len(corpus.read) or (known is not None and not own.force):
        return steps.tidy(own.model, state), None, known, corpus.passed
    steps.require_warm_start(settings, live)
    save_files(folder_of(own.model, name, READ), corpus.read)
    night = Night(
        name, _now(), corpus.digest, digest, own.only_new, live.version if live else "",
        judgement.digest_of(live), steps.data_digest(own.data), own.input, len(corpus.read), len(corpus.listed),
        passed=corpus.passed,
    )  # fmt: skip
    state = dataclasses.replace(state, night=night, over=tuple(one for one in state.over if one != name))
    save_state(own.model, state)
    record_uses(own, state)  # before the pipeline, which may be told to remove old runs
    return state, night, None, corpus.passed


def settle_same_text(settings: Settings, state: State) -> tuple[State, Outcome] | None:
    """End a night whose texts are those of one before, if files were only touched or renamed; None for new text."""
    night = steps.night_of(state)
    if settings.own.force or night.version:
        return None
    live = read_pointer(settings.own.model)
    for outcome in state.outcomes:
        same = night.dataset_id == outcome.dataset_id or (night.content and night.content == outcome.content)
        if same and outcome.settings == night.settings and _counts(outcome, live):
            outcome = dataclasses.replace(outcome, text=night.text)  # which the next night will know at once
            return steps.drop(settings.own.model, state.with_outcome(outcome)), outcome
    return None


def report(settings: Settings, state: State, known: Outcome | None, sets: EvalSets, lease: Lease) -> dict[str, Any]:
    """Say that there is nothing to train on; text that was refused is refused again, or meets a changed gate."""
    own, live = settings.own, read_pointer(settings.own.model)
    version = live.version if live else ""
    published = (live.version, *live.withdrawn) if live else ()
    if known is not None and known.kind == REFUSED and known.version not in published:
        there = staged_version(own.model, known.version) is not None
        if there and known.gate != judgement.gate_digest(own, sets):
            return judgement.decide_again(settings, state, known, sets, lease)
        if there and own.report:
            checks = [load_check(check) for check in judgement.recorded(own, known.version)]
            judgement.write_report(own, known.version, version, REFUSED, checks, sets)
        about = f"version {known.version} of the same text, at {known.at}: {'; '.join(known.reasons)}; live: {version}"
        return {"status": REFUSED, "version": known.version, "live": version, "reasons": known.reasons, "about": about}
    about = f"live: version {version} in {storage.redact(own.model)}" if version else "no model yet, and no text"
    if known is not None and live is not None and known.version in live.withdrawn:
        about += f"; version {known.version} of this text was rolled back, --force trains on it again"
    return {"status": "nothing new", "version": version, "live": version, "about": about}


def settings_digest(settings: Settings) -> str:
    """What shapes a model besides the text: settings of training and pipeline, and what is done with them."""
    own = settings.own
    shaping = {
        "training": settings.train_config(data="-", model="-").shaping(), "pipeline": own.pipeline_flags,
        "init_from": own.init_from, "align": own.align_words if own.align else 0, "only_new": own.only_new,
    }  # fmt: skip
    return hashlib.sha256(canonical_json(shaping)).hexdigest()


def _is_base(night: Night, live: Pointer | None) -> bool:
    """Whether the live version is what the night began with, or what it has just published."""
    if live is not None and night.version == live.version:
        return True
    return night.pointer_sha256 == judgement.digest_of(live)


def _list_corpus(own: RetrainConfig, name: str, live: Pointer | None, lease: Lease) -> Corpus:
    to = folder_of(own.model, name, LISTED)
    words = ["list", *(part for pattern in own.input for part in ("--input", pattern)), "--output", own.data]
    words += ["--to", to, *own.pipeline_flags]
    if not own.only_new:
        run_pipeline(words, lease.fds, own.quiet)
        return all_of(_load(to))
    known, seen = _load_known(own, live), as_seen(load_files(folder_of(own.model, SEEN_FILES)))
    save_files(folder_of(own.model, name, KNOWN), pa.concat_tables([seen, known]))
    found = run_pipeline([*words, "--known", folder_of(own.model, name, KNOWN)], lease.fds, own.quiet)
    listed = _load(to)
    merged = merge_seen(seen, listed, known)
    if not merged.equals(seen):
        save_files(folder_of(own.model, SEEN_FILES), merged)
    corpus = new_of(listed, known, seen, own.changed, found.get("twice", ()))
    _say(corpus.notes)
    return corpus


def _say(notes: Sequence[str]) -> None:
    """Print a line about each file, but no flood of them."""
    for line in notes[:MOST_NOTES]:
        print(f"note: {line}", file=sys.stderr)
    if len(notes) > MOST_NOTES:
        print(f"note: {len(notes) - MOST_NOTES:,} more files like these", file=sys.stderr)


def _load(uri: str) -> pa.Table:
    listed = load_files(uri)
    assert listed is not None
    return listed


def _load_known(own: RetrainConfig, live: Pointer | None) -> pa.Table:
    known = known_files(own.model, live.version) if live else as_seen(None)
    if known is None:
        assert live is not None
        raise UserError(
            f"--only-new: found no list of the files that version {live.version} in {storage.redact(own.model)} was "
            "trained on, expected one that retrain made; retrain once without it"
        )
    return as_seen(known)


def _known_outcome(state: State, text: str, settings: str, live: Pointer | None) -> Outcome | None:
    for outcome in state.outcomes:
        if outcome.text == text and outcome.settings == settings and _counts(outcome, live):
            return outcome
    return None


def _counts(outcome: Outcome, live: Pointer | None) -> bool:
    """Whether a version of the same text settles it: live, rolled back or refused; not one that newer ones replaced."""
    if live is None or outcome.version in live.previous:
        return live is None and outcome.kind == REFUSED
    return outcome.kind == REFUSED or outcome.version in (live.version, *live.withdrawn)


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
