"""The versions of a model: the live one, those before it, those that were rolled back, those that the gate refused."""

from __future__ import annotations

import argparse
import contextlib
import json
from typing import Any

from pipeline.dataset.schema import FormatError
from pipeline.storage import storage
from trainer.errors import UserError
from trainer.models.pointer import read_pointer
from trainer.models.staging import staged_version
from trainer.models.store import read_run
from trainer.retraining.lineage import load_lineage
from trainer.retraining.state import REFUSED, load_outcomes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--model", required=True, metavar="URI", help="the model's folder: a path or a URI")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def run(args: argparse.Namespace) -> int:
    """List them."""
    versions = list_versions(args.model)
    if args.json:
        print(json.dumps({"model": storage.redact(args.model), "versions": versions}))
    else:
        print("\n".join(map(describe, versions)))
    return 0


def list_versions(model_uri: str) -> list[dict[str, Any]]:
    """Describe each version that is there: the live one first, then by state, newest first.

    Raises:
        UserError: there is no model.
        FormatError: the pointer or the state of retraining is damaged.
    """
    live = read_pointer(model_uri)
    refused = [outcome.version for outcome in load_outcomes(model_uri) if outcome.kind == REFUSED]
    if live is None and not refused:
        raise UserError(f"{storage.redact(model_uri)}: found no version, expected a trained model")
    states = {live.version: "live"} if live else {}
    if live:
        states |= dict.fromkeys(live.previous, "previous") | dict.fromkeys(live.withdrawn, "rolled back")
    states |= {version: "refused" for version in refused if version not in states}
    found = (_describe_version(model_uri, version, state) for version, state in states.items())
    return [entry for entry in found if entry is not None]


def _describe_version(model_uri: str, version: str, state: str) -> dict[str, Any] | None:
    staged = staged_version(model_uri, version)
    if staged is None:  # removed since, as one of more than --keep
        return None
    info, lineage, run = staged[0], load_lineage(model_uri, version), dict[str, Any]()
    gate = lineage.gate if lineage else None
    with contextlib.suppress(FormatError):
        run = read_run(model_uri, version)
    return {
        "version": version,
        "state": state,
        "live": state == "live",
        "at": run.get("published_at"),
        "dataset_id": info["lineage"].get("dataset_id"),
        "run": run.get("data_run"),
        "parent": info["lineage"].get("parent"),
        "loss": info["metrics"].get("loss"),
        "scores": gate.scores.get("new", {}) if gate else {},
        "checks": {check.name: check.found for check in gate.checks} if gate else {},
        "reasons": gate.failed if gate and state == "refused" else [],
    }


def describe(entry: dict[str, Any]) -> str:
    """Format a version for people."""
    mark = "*" if entry["live"] else " "
    scored = [one for scores in entry["scores"].values() for one in scores.items()]
    figures = [f"{path} {'no score' if found is None else f'{found:.4f}'}" for path, found in scored]
    figures += [f"{name} {found:.3f}" for name, found in entry["checks"].items()
                if found is not None and name in ("neighbour overlap", "mean cosine")]  # fmt: skip
    why = f"; {'; '.join(entry['reasons'])}" if entry["reasons"] else ""
    line = f"{mark} {entry['version']}  {entry['at'] or '?':<25}  {entry['state']:<11}  dataset {entry['run'] or '?'}"
    return f"{line}{'  ' if figures else ''}{', '.join(figures)}{why}"
