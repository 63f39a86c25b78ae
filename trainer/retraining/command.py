"""Retrain a model on what its corpus has become, and publish the new version if it passes the gate.

A night is a list of steps: list the corpus; make a dataset of it (the pipeline, as a process of its own); train on it
from the live version's vectors; write a version, in the live version's space, that no one reads yet; measure it; make
it the live one or refuse it. Each step asks whether its output is there, and is done if it is not: so the same command
again goes on where a killed one stopped. Exit status 0: published, or nothing new; 3: the gate refused; 4: another one
is running; 1: failed; 2: wrong usage. Whatever happens, the live version stays readable.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import signal
import sys
from collections.abc import Iterator
from typing import TypedDict

import msgspec

from pipeline.common.outputs import emit_result
from pipeline.common.page.document import missing_extra
from pipeline.dataset.schema import FormatError
from pipeline.storage import storage
from trainer.errors import Stopped, UserError
from trainer.evaluation.eval_sets import EvalSets, read_evalsets
from trainer.models.lease import Busy, Lease, hold
from trainer.models.pointer import read_pointer
from trainer.progress.meter import warn
from trainer.reports.command import reads_of, require_page
from trainer.retraining import judgement, plan, state, steps
from trainer.retraining.config import RetrainConfig, Settings, add_arguments, read_settings
from trainer.retraining.gate import Check, require_measurable
from trainer.retraining.lineage import Lineage, Verdict, content_of
from trainer.retraining.pipeline_process import PipelineFailed
from trainer.retraining.state import PUBLISHED, REFUSED, Night, Outcome
from trainer.retraining.uses import record_uses

__all__ = ["add_arguments", "retrain", "run"]

GATE_REFUSED, BUSY = 3, 4


class Result(TypedDict, total=False):
    """What --json prints; of a night without new text, the first five."""

    status: str
    version: str
    live: str
    files_passed: dict[str, int]
    about: str
    parent: str
    dataset_id: str
    run: str
    files_read: int
    files_listed: int
    checks: list[dict[str, str | float | bool | None]]
    reasons: list[str]


def run(args: argparse.Namespace) -> int:
    """Retrain as the flags say, and print the result; return the exit status."""
    settings = read_settings(args)
    try:
        result = retrain(settings)
    except Busy as busy:
        print(f"busy: {busy}", file=sys.stderr)
        return BUSY
    except PipelineFailed as failed:
        print(f"error: pipeline: {failed}", file=sys.stderr)
        return 2 if failed.status == 2 else 1
    except Stopped as stopped:
        warn(f"stopped by {signal.Signals(stopped.number).name}; the same command goes on from here")
        return 128 + stopped.number
    text = describe(result)
    printed = json.dumps({"model": storage.redact(settings.own.model), **result}) if settings.own.json else text
    emit_result(printed, text.partition("\n")[0], settings.own.report)
    return GATE_REFUSED if result["status"] == REFUSED else 0


def retrain(settings: Settings) -> Result:
    """Do all of it, or what is left of it.

    Raises:
        Busy: another retraining of the model is running.
        PipelineFailed: the pipeline did not make a dataset.
        UserError, FormatError: bad settings or files.
        PointerMovedError: another version was published, or a rollback made, meanwhile.
        Stopped: a signal asked for it.
    """
    if settings.own.report and (missing := missing_extra()):
        warn(f"--report: {missing}; going on without it")
        settings = dataclasses.replace(settings, own=dataclasses.replace(settings.own, report=""))
    own = settings.own
    sets = read_evalsets(own.similarity, own.analogies)
    require_measurable(sets)
    if own.report:
        reads = [*reads_of(own.similarity, own.analogies), *(("--input", pattern) for pattern in own.input)]
        require_page(own.report, "--report", model=own.model, data=own.data, reads=reads)
    with hold(own.model, state.folder_of(own.model), own.lease_minutes * 60) as lease, _giving_up(own.model):
        return _do_night(settings, sets, lease)


@contextlib.contextmanager
def _giving_up(model_uri: str) -> Iterator[None]:
    """Start again the next time where a step failed for a reason that the same step would meet again."""
    try:
        yield
    except Busy:  # what is there is another one's
        raise
    except (UserError, FormatError):
        with contextlib.suppress(OSError, FormatError):
            state.clear(model_uri)
        raise


def _do_night(settings: Settings, sets: EvalSets, lease: Lease) -> Result:
    own, live = settings.own, read_pointer(settings.own.model)
    night = plan.find_night(settings, live)
    if night is None:
        night = plan.plan_night(settings, live, lease)
        known = None if own.force else state.find_outcome(own.model, live, night.settings, night.text)
        if not night.files or (known and not state.is_refused(known, live)):
            return _nothing_new(own, night, known)
        if known:  # refused; the gate may have been changed since
            night = msgspec.structs.replace(night, version=known.version)
        else:
            steps.require_warm_start(settings, live)
        _save(own, night)  # before the pipeline, which may be told to remove old runs
    if not night.version:
        dataset = steps.make_dataset(settings, night, lease)
        digests = dataset.dataset_id, content_of(dataset)
        known = None if own.force else state.find_outcome(own.model, live, night.settings, *digests)
        if known and not state.is_refused(known, live):
            state.remember(own.model, msgspec.structs.replace(known, text=night.text), own.keep)
            return _nothing_new(own, night, known)
        if known is None:
            steps.train_candidate(settings, night, dataset)
        version = known.version if known else steps.stage(settings, night, dataset)
        night = msgspec.structs.replace(night, version=version)
        _save(own, night)
    made, verdict = judgement.measure(settings, night, sets)
    judgement.write_report(own, night, verdict, sets)
    lease.require()
    if verdict.decision == PUBLISHED:
        judgement.publish(own, night)
    return _finish(own, night, made, verdict)


def _save(own: RetrainConfig, night: Night) -> None:
    state.save_night(own.model, night)
    record_uses(own, night)


def _nothing_new(own: RetrainConfig, night: Night, known: Outcome | None) -> Result:
    state.clear(own.model)
    live = read_pointer(own.model)
    version = live.version if live else ""
    about = f"live: version {version} in {storage.redact(own.model)}" if version else "no model yet, and no text"
    if known is not None and live is not None and known.version in live.withdrawn:
        about += f"; version {known.version} of this text was rolled back, --force trains on it again"
    return {
        "files_passed": night.passed, "status": "nothing new", "version": version, "live": version, "about": about
    }  # fmt: skip


def _finish(own: RetrainConfig, night: Night, made: Lineage, verdict: Verdict) -> Result:
    """Remember what became of the text, and remove what is no longer kept."""
    dataset, kind = made.dataset, verdict.decision
    outcome = Outcome(night.text, night.settings, dataset.dataset_id, made.version, kind, dataset.content)
    state.remember(own.model, outcome, own.keep)
    state.clear(own.model)
    record_uses(own)
    pointer = read_pointer(own.model)
    live = pointer.version if pointer else ""
    stays = f"version {live} stays live" if live else "no version is live"
    how = f", in the place of {night.parent or 'none'}" if kind == PUBLISHED else f"; {stays}"
    return {
        "status": kind, "version": made.version, "live": live, "parent": night.parent,
        "dataset_id": dataset.dataset_id, "run": dataset.run, "files_read": night.files, "files_listed": night.listed,
        "files_passed": night.passed, "checks": msgspec.to_builtins(verdict.checks), "reasons": verdict.failed,
        "about": f"version {made.version} in {storage.redact(own.model)}{how}",
    }  # fmt: skip


def describe(result: Result) -> str:
    """Format the result for people."""
    checks = msgspec.convert(result.get("checks", []), list[Check])
    rows = [f"  {'ok' if one.passed else 'NO'}  {one.name:<28} {one.shown:>8}  {one.bound}" for one in checks]
    return "\n".join([f"{result['status']}: {result['about']}", *rows])
