"""The last step of a night: the staged version is measured, and becomes the live one or is refused."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
from collections.abc import Sequence
from typing import Any

from pipeline.common.outputs import write_output
from pipeline.dataset.manifest import CorpusTotals
from pipeline.dataset.schema import FormatError, canonical_json, sha256_hex
from pipeline.storage import storage
from pipeline.storage.storage import PointerMovedError
from trainer.evaluation.eval_sets import EvalSets
from trainer.models.lease import Lease
from trainer.models.pointer import Pointer, advance, read_pointer, swap
from trainer.models.staging import staged_version
from trainer.models.store import load_model
from trainer.reports.page import make_report
from trainer.retraining import lineage, steps
from trainer.retraining.config import RetrainConfig, Settings
from trainer.retraining.gate import Check, check_corpus, check_scores, check_space, load_check, score, values_of
from trainer.retraining.pipeline_process import say_step
from trainer.retraining.report_gate import gate_section
from trainer.retraining.state import PUBLISHED, REFUSED, Night, Outcome, State, save_state
from trainer.retraining.uses import record_uses

_GATE = (
    "min_similarity", "min_analogies", "max_score_drop", "gate_words", "min_known_words", "min_overlap", "min_cosine",
    "min_token_ratio", "max_dead_letters",
)  # fmt: skip


def gate_digest(own: RetrainConfig, sets: EvalSets) -> str:
    """What the gate's verdict follows from, besides the two versions."""
    limits = {name: getattr(own, name) for name in _GATE}
    return hashlib.sha256(canonical_json({"limits": limits, "files": sets.sha256})).hexdigest()


def decide(settings: Settings, state: State, sets: EvalSets, lease: Lease) -> dict[str, Any]:
    """Measure the night's staged version; publish it or refuse it.

    Raises:
        FormatError: its files are not what was written.
        PointerMovedError: another version was published, or a rollback made, since the night began.
        Busy: another retraining took over.
    """
    own, night = settings.own, steps.night_of(state)
    live, gate = read_pointer(own.model), gate_digest(own, sets)
    if live is not None and live.version == night.version:  # the process died after the swap
        return _finish(settings, state, PUBLISHED, gate, recorded(own, night.version))
    say_step("measuring the new version", own.quiet)
    checks, scores = _measure(settings, night, sets)
    kind = PUBLISHED if all(check.passed for check in checks) else REFUSED
    lineage.add_verdict(own.model, night.version, kind, checks, scores, _now())
    if own.report:
        write_report(own, night.version, night.parent, kind, checks, sets)
    lease.require()
    if kind == PUBLISHED:
        state = _publish(own, state, live)
    return _finish(settings, state, kind, gate, [check.to_dict() for check in checks])


def decide_again(settings: Settings, state: State, refused: Outcome, sets: EvalSets, lease: Lease) -> dict[str, Any]:
    """Check a refused version against a gate that was changed since."""
    live = read_pointer(settings.own.model)
    made = lineage.load_lineage(settings.own.model, refused.version) or {}
    night = Night(
        name=made["night"]["name"], started=made["night"]["started"], text=refused.text, settings=refused.settings,
        only_new=made["night"]["only_new"], parent=live.version if live else "", pointer_sha256=digest_of(live),
        data_sha256="", globs=settings.own.input,
        files=made["inputs"]["read"], listed=made["inputs"]["files"], dataset_id=refused.dataset_id,
        version=refused.version, content=refused.content,
    )  # fmt: skip
    state = dataclasses.replace(state, night=night)
    save_state(settings.own.model, state)
    return decide(settings, state, sets, lease)


def digest_of(pointer: Pointer | None) -> str:
    """SHA-256 of a pointer's file, "" for none."""
    return sha256_hex(pointer.data) if pointer else ""


def _measure(settings: Settings, night: Night, sets: EvalSets) -> tuple[list[Check], dict[str, Any]]:
    own = settings.own
    made = lineage.load_lineage(own.model, night.version)
    if made is None:
        raise FormatError(f"{storage.redact(own.model)}: found no lineage of version {night.version}, expected one")
    new = load_model(own.model, night.version)
    scores = {"new": score(new, sets)}
    live_tokens = None
    checks = []
    if night.parent:
        old, parents = load_model(own.model, night.parent), lineage.load_lineage(own.model, night.parent)
        scores["live"] = score(old, sets)
        checks = check_space(old, new, own)
        if parents and not night.only_new and not parents["night"]["only_new"]:
            live_tokens = parents["dataset"]["corpus"]["tokens"]
    checks = check_corpus(CorpusTotals(**made["dataset"]["corpus"]), live_tokens, own) + checks
    checks += check_scores(scores["new"], scores.get("live", {}), own)
    return checks, {whose: values_of(found) for whose, found in scores.items()}


def write_report(
    own: RetrainConfig, version: str, parent: str, kind: str, checks: Sequence[Check], sets: EvalSets
) -> None:
    """Write the page of --report: the verdict, then the version compared with the one that was live before."""
    report = make_report(own.model, version, compare=parent, sets=sets, opening=[gate_section(kind, checks, parent)])
    write_output(own.report, report.page)


def _publish(own: RetrainConfig, state: State, live: Pointer | None) -> State:
    night = steps.night_of(state)
    staged = staged_version(own.model, night.version)
    if digest_of(live) != night.pointer_sha256 or staged is None:
        raise PointerMovedError(
            f"{storage.redact(own.model)}: another version became live since the night began; "
            "the same command starts again"
        )
    after = advance(live, night.version, staged[1]).cut(own.keep)
    named = {live.version, *live.previous, *live.withdrawn} if live else set()
    doomed = named - {after.version, *after.previous, *after.withdrawn}
    state = dataclasses.replace(state, doomed=(*state.doomed, *sorted(doomed)))
    save_state(own.model, state)  # first, so that they go even if this process dies after the swap
    swap(own.model, live, after)
    return state


def _finish(settings: Settings, state: State, kind: str, gate: str, checks: list[dict[str, Any]]) -> dict[str, Any]:
    """Remember what became of the night, and remove what is no longer kept."""
    own, night = settings.own, steps.night_of(state)
    reasons = [str(load_check(check)) for check in checks if not check["passed"]]
    outcome = Outcome(
        night.text, night.settings, night.dataset_id, night.version, kind, gate, tuple(reasons), _now(), night.content
    )  # fmt: skip
    state = state.with_outcome(outcome)
    too_many = {one.version for one in state.refused()[own.keep :]}
    state = dataclasses.replace(
        state, night=None, over=(*state.over, night.name), doomed=(*state.doomed, *sorted(too_many)),
        outcomes=tuple(one for one in state.outcomes if one.version not in too_many),
    )  # fmt: skip
    save_state(own.model, state)
    steps.tidy(own.model, state)
    record_uses(own, state)
    live = read_pointer(own.model)
    return {
        "status": kind, "version": night.version, "live": live.version if live else "", "parent": night.parent,
        "dataset_id": night.dataset_id, "run": night.name, "files_read": night.files, "files_listed": night.listed,
        "files_passed": night.passed,
        "checks": checks, "reasons": reasons, "about": _describe(own, night, kind, live),
    }  # fmt: skip


def _describe(own: RetrainConfig, night: Night, kind: str, live: Pointer | None) -> str:
    path = storage.redact(own.model)
    if kind == PUBLISHED:
        return f"version {night.version} in {path}, in the place of {night.parent or 'none'}"
    stays = f"version {live.version} stays live" if live else "no version is live"
    return f"version {night.version} in {path}; {stays}"


def recorded(own: RetrainConfig, version: str) -> list[dict[str, Any]]:
    """What the gate found when it measured a version."""
    made = lineage.load_lineage(own.model, version) or {}
    checks: list[dict[str, Any]] = (made.get("gate") or {}).get("checks", [])
    return checks


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
