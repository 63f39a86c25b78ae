"""Retrain a model on what its corpus has become, and publish the new version if it passes the gate.

One run: list the corpus; if anything is new, make a dataset of it (the pipeline, as a process of its own), train on it
from the live version's vectors, turn the result into the live version's space, write it as a version that no one reads
yet, measure it, and make it the live one or refuse it. The same command again goes on where a killed one stopped. Exit
status 0: published, or nothing new; 3: the gate refused; 4: another one is running; 1: failed; 2: wrong usage. Whatever
happens, the live version stays readable.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from typing import Any

from pipeline.common.outputs import emit_result
from pipeline.storage import storage
from trainer.errors import Stopped
from trainer.evaluation.eval_sets import read_evalsets
from trainer.models.lease import Busy, hold
from trainer.progress.meter import warn
from trainer.reports.page import reads_of, require_page
from trainer.retraining import judgement, plan, steps
from trainer.retraining.config import Settings, add_arguments, read_settings
from trainer.retraining.gate import load_check, require_measurable
from trainer.retraining.pipeline_process import PipelineFailed
from trainer.retraining.state import REFUSED, folder_of, load_state

__all__ = ["add_arguments", "retrain", "run"]

GATE_REFUSED, BUSY = 3, 4


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
    result = {"model": storage.redact(settings.own.model), **result}
    text = describe(result)
    emit_result(json.dumps(result) if settings.own.json else text, text.partition("\n")[0], settings.own.report)
    return GATE_REFUSED if result["status"] == REFUSED else 0


def retrain(settings: Settings) -> dict[str, Any]:
    """Do all of it, or what is left of it; returns what --json prints.

    Raises:
        Busy: another retraining of the model is running.
        PipelineFailed: the pipeline did not make a dataset.
        UserError, FormatError: something to mend; a training that cannot work is not gone on with.
        PointerMovedError: another version was published, or a rollback made, meanwhile.
        Stopped: a signal asked for it.
    """
    own = settings.own
    sets = read_evalsets(own.similarity, own.analogies)
    require_measurable(sets)
    if own.report:
        reads = [*reads_of(own.similarity, own.analogies), *(("--input", pattern) for pattern in own.input)]
        require_page(own.report, "--report", model=own.model, data=own.data, reads=reads)
    with hold(own.model, folder_of(own.model), own.lease_minutes * 60) as lease:
        state = steps.tidy(own.model, load_state(own.model))
        state, night, known, passed = plan.find_night(settings, state, lease)
        if night is None:
            return {"files_passed": passed, **plan.report(settings, state, known, sets, lease)}
        dataset, state = steps.make_dataset(settings, state, lease)
        if (settled := plan.settle_same_text(settings, state)) is not None:
            return {"files_passed": passed, **plan.report(settings, *settled, sets, lease)}
        if not (state.night and state.night.version):
            steps.train_candidate(settings, state, dataset)
            state = steps.stage(settings, state, dataset)
        return judgement.decide(settings, state, sets, lease)


def describe(result: dict[str, Any]) -> str:
    """Format the result for people."""
    lines = [f"{result['status']}: {result['about']}"]
    for check in result.get("checks", []):
        one = load_check(check)
        lines.append(f"  {'ok' if check['passed'] else 'NO'}  {one.name:<28} {one.shown:>8}  {one.bound}")
    return "\n".join(lines)
