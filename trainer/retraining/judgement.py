"""The last steps of a night: its version is measured, and becomes the live one or is refused."""

from __future__ import annotations

import datetime

from pipeline.common.outputs import write_output
from pipeline.dataset.schema import FormatError
from pipeline.storage import storage
from pipeline.storage.storage import PointerMovedError
from trainer.evaluation.eval_sets import EvalSets
from trainer.models.pointer import advance, read_pointer, swap
from trainer.models.staging import staged_version
from trainer.models.store import load_model
from trainer.retraining.config import RetrainConfig, Settings
from trainer.retraining.gate import check_corpus, check_scores, check_space, gate_digest, score, values_of
from trainer.retraining.lineage import Lineage, Verdict, load_lineage, write_lineage
from trainer.retraining.pipeline_process import say_step
from trainer.retraining.state import PUBLISHED, REFUSED, Night, digest_of


def measure(settings: Settings, night: Night, sets: EvalSets) -> tuple[Lineage, Verdict]:
    """Measure the night's version, unless its lineage says what this gate found.

    Raises:
        FormatError: its files are not what was written.
    """
    own, version = settings.own, night.version
    made, live, digest = load_lineage(own.model, version), read_pointer(own.model), gate_digest(own, sets, night.parent)
    if made is None:
        raise FormatError(f"{storage.redact(own.model)}: found no lineage of version {version}, expected one")
    if made.gate and (made.gate.digest == digest or (live and live.version == version)):
        return made, made.gate
    say_step("measuring the new version", own.quiet)
    new, old = load_model(own.model, version), load_model(own.model, night.parent) if night.parent else None
    scores = {"new": score(new, sets)} | ({"live": score(old, sets)} if old else {})
    parent = load_lineage(own.model, night.parent) if night.parent else None
    comparable = parent is not None and not (night.only_new or parent.night.only_new)
    checks = check_corpus(made.dataset.corpus, parent.dataset.corpus.tokens if parent and comparable else None, own)
    checks += check_space(old, new, own) if old else []
    checks += check_scores(scores["new"], scores.get("live", {}), own)
    failed = [str(check) for check in checks if not check.passed]
    made.gate = Verdict(
        REFUSED if failed else PUBLISHED, _now(), checks, failed,
        {whose: values_of(found) for whose, found in scores.items()}, digest,
    )  # fmt: skip
    write_lineage(own.model, made)
    return made, made.gate


def write_report(own: RetrainConfig, night: Night, verdict: Verdict, sets: EvalSets) -> None:
    """Write the page of --report: the verdict, then the version compared with the one that was live before."""
    if own.report:
        from trainer.reports.page import make_report
        from trainer.retraining.report_gate import gate_section

        opening = gate_section(verdict.decision, verdict.checks, night.parent)
        page = make_report(own.model, night.version, compare=night.parent, sets=sets, opening=[opening]).page
        write_output(own.report, page)


def publish(own: RetrainConfig, night: Night) -> None:
    """Make the night's version the live one, unless it is.

    Raises:
        PointerMovedError: another version was published, or a rollback made, since the night began.
    """
    live = read_pointer(own.model)
    if live is not None and live.version == night.version:
        return
    staged = staged_version(own.model, night.version)
    if digest_of(live) != night.pointer_sha256 or staged is None:
        raise PointerMovedError(
            f"{storage.redact(own.model)}: another version became live since the night began; "
            "the same command starts again"
        )
    swap(own.model, live, advance(live, night.version, staged[1]).cut(own.keep))


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
