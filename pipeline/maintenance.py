"""The commands beside ``run``: ``verify`` reads a whole dataset, ``publish`` makes a complete run the current one."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from pipeline.dataset import storage
from pipeline.dataset.flags import OneLineParser, with_dashes
from pipeline.dataset.manifest import LATEST
from pipeline.dataset.publish import point_to
from pipeline.dataset.reader import open_dataset
from pipeline.dataset.schema import FormatError
from pipeline.dataset.verify import require_whole, verify_run

_ABOUT = {
    "verify": "Read every file of a run and hold it against the manifest.",
    "publish": "Make a complete run the one that readers follow.",
}

COMMANDS = tuple(_ABOUT)


def parse_command(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line; exits with status 2 on wrong usage."""
    command = words[0]
    parser = OneLineParser(prog=f"python -m pipeline {command}", description=_ABOUT[command], allow_abbrev=False)
    parser.add_argument("--output", required=True, metavar="URI", help="the dataset's folder: a path or a URI")
    parser.add_argument(
        "--run", required=command == "publish", metavar="ID", help="the run; by default the published one"
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    args = parser.parse_args(with_dashes(words[1:], parser))
    args.command = command
    return args


def run_command(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Run a command; return its result, for --json and for people.

    Raises:
        FormatError: a file is missing or not what names it.
        PointerMovedError: another run was published meanwhile.
    """
    if args.command == "verify":
        found = verify_run(args.output, args.run)
        text = f"verified run {found.run_id}: {found.files:,} files, {found.bytes:,} bytes, {found.pairs:,} pairs"
        return dataclasses.asdict(found), text
    return _publish(args.output, args.run)


def _publish(uri: str, run_id: str) -> tuple[dict[str, Any], str]:
    expected = storage.read_pointer(storage.join(uri, LATEST))
    dataset = open_dataset(uri, run_id)
    result: dict[str, Any] = {"run": run_id, "dataset_id": dataset.dataset_id}
    if expected is not None and _published_run(uri) == run_id:
        return result | {"status": "published before"}, f"run {run_id} is the published one already"
    require_whole(dataset)
    point_to(uri, run_id, dataset.dataset_id, expected)
    return result | {"status": "published"}, f"published run {run_id} to {storage.redact(uri)}"


def _published_run(uri: str) -> str | None:
    """Name the published run, None where the pointer names nothing that can be opened: then any run is better."""
    try:
        return open_dataset(uri).run_id
    except FormatError:
        return None
