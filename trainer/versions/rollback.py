"""Make another version of a model the live one, at once; without --to, the one before.

Versions that were newer count as rolled back: retraining does not make them again from the same text. With --to one of
them is live again, or a version that the gate refused.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from pipeline.common.exit import emit
from pipeline.storage import storage
from trainer.errors import UserError
from trainer.models.pointer import Pointer, advance, read_pointer, retreat, swap
from trainer.models.staging import staged_version
from trainer.models.store import load_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--model", required=True, metavar="URI", help="the model's folder: a path or a URI")
    parser.add_argument("--to", metavar="VERSION", help="the version; by default the one that was live before")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Roll back, and say so."""
    result = roll_back(args.model, args.to)
    same = result["version"] == result["before"]
    how = " already" if same else f", in the place of {result['before']}"
    done = f"version {result['version']} in {result['model']} is live{how}"
    emit(json.dumps(result) if args.json else done, done)
    return 0


def roll_back(model_uri: str, version: str | None = None) -> dict[str, Any]:
    """Swap the pointer to another version, every byte of which is read first.

    Raises:
        UserError: there is no such version, or none before.
        FormatError: it is damaged.
        PointerMovedError: another version was published meanwhile.
    """
    path = storage.redact(model_uri)
    before = read_pointer(model_uri)
    if before is None:
        raise UserError(f"{path}: no live version: its training has not finished, or this is not a model")
    if version is None and not before.previous:
        raise UserError(f"{path}: no version before {before.version}")
    target = version or before.previous[0]
    staged = staged_version(model_uri, target)
    if staged is None:
        raise UserError(f"{path}: no version {target!r}; `versions` lists them")
    model = load_model(model_uri, target)
    if model.subwords is not None:
        model.subwords.rows_RD  # noqa: B018  (opened, so checked)
    if target != before.version:
        swap(model_uri, before, _after(before, target, staged[1]))
    return {"model": path, "version": target, "before": before.version}


def _after(before: Pointer, version: str, model_sha256: str) -> Pointer:
    return (retreat if version in before.previous else advance)(before, version, model_sha256)
