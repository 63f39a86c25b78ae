"""The commands besides ``run``: ``list`` the input, ``verify`` a run, ``publish`` it as the current one, ``clean``."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Sequence

import pyarrow as pa

from pipeline.common.flags import OneLineParser, command_name, with_dashes
from pipeline.common.outputs import refuse_inputs, write_output
from pipeline.config import parse_arguments, unknown_to_beam
from pipeline.dataset.manifest import LATEST
from pipeline.dataset.publish import point_to
from pipeline.dataset.reader import open_dataset
from pipeline.dataset.schema import FormatError
from pipeline.dataset.verify import require_whole, verify_run
from pipeline.inputs.discover import list_inputs, refuse_output, refuse_place
from pipeline.inputs.listing import read_table, save_listing, save_texts
from pipeline.inputs.text_digests import find_texts, load_known
from pipeline.progress import Meter, begin, show
from pipeline.publishing import clean
from pipeline.storage import storage

_ABOUT = {
    "list": "Write the list of the files that a run would read, for `run --input-list`. All other flags are those of "
    "`run`.",
    "verify": "Read every file of a run and check it against the manifest.",
    "publish": "Make a complete run the one that readers follow.",
    "clean": "Remove what dead runs left, their dead letters too, and with --keep old complete runs, but none that a "
    "version of a model that retrain made was trained on. Files that the "
    "pipeline did not write stay. A reader of a run that is removed fails: keep as many as are read. Other flags are "
    "Beam's, for its file systems.",
}

COMMANDS = tuple(_ABOUT)

_DURATION = re.compile(r"(\d+)([smhd])")


def make_command_parser(command: str) -> OneLineParser:
    parser = OneLineParser(
        prog=f"{command_name('pipeline')} {command}", description=_ABOUT[command], allow_abbrev=False
    )
    if command == "list":
        parser.add_argument("--to", required=True, metavar="URI", help="the list's file, in Parquet")
        parser.add_argument(
            "--known", metavar="URI",
            help="a Parquet table of files that were read before (uri, bytes, modified, digest, text_bytes), to tell "
            "which texts are new: `retrain --only-new` makes it. The list then has the columns place, digest and "
            "text_bytes, too, and a file that is matched twice only once.",
        )  # fmt: skip
        return parser
    parser.add_argument("--output", required=True, metavar="URI", help="the dataset's folder: a path or a URI")
    if command == "clean":
        _add_clean_flags(parser)
    else:
        parser.add_argument(
            "--run", required=command == "publish", metavar="ID", help="the run; by default the published one"
        )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return parser


def parse_command(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line; exits with status 2 on wrong usage."""
    command = words[0]
    parser = make_command_parser(command)
    if command == "list":
        return _parse_list(words[1:], parser)
    args, beam_flags = parser.parse_known_args(with_dashes(words[1:], parser))
    unknown = unknown_to_beam(beam_flags, parser) if command == "clean" else beam_flags
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    args.command, args.beam_flags = command, beam_flags
    return args


def _parse_list(words: Sequence[str], parser: OneLineParser) -> argparse.Namespace:
    args, rest = parser.parse_known_args(words)
    args.config, args.beam_flags = parse_arguments(rest)
    args.command, args.json = "list", args.config.json
    return args


def _add_clean_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--older-than", type=parse_duration, default="24h", metavar="TIME",
        help="a run that may still be written, on a cluster or another machine, is taken for dead once none of its "
        "files was written for so long, as 90m, 24h or 7d; choose more than a reading of the text takes. A run that "
        "is alive on this machine always stays. Default: %(default)s.",
    )  # fmt: skip
    parser.add_argument(
        "--keep", type=parse_keep, default=0, metavar="N",
        help="complete runs to keep: the published one and those before it; 0 keeps all. Newer ones stay. "
        "Default: %(default)s.",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def parse_duration(text: str) -> float:
    """Read seconds, minutes, hours or days, as 30s, 90m, 24h, 7d."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a time such as 90m, 24h or 7d")
    return float(int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]])


def parse_keep(text: str) -> int:
    """Read a number of runs."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"found {text!r}, expected 0 or more")
    return int(text)


def run_command(args: argparse.Namespace) -> tuple[dict[str, object], str]:
    """Run a command; return its result, for --json and for people.

    Raises:
        FormatError: a file is missing or not what names it.
        PointerMovedError: another run was published meanwhile.
    """
    if args.command == "verify":
        found = verify_run(args.output, args.run)
        text = f"verified run {found.run_id}: {found.files:,} files, {found.bytes:,} bytes, {found.pairs:,} pairs"
        return dataclasses.asdict(found), text
    if args.command == "clean":
        return _clean(args)
    if args.command == "list":
        return _list(args)
    return _publish(args.output, args.run)


def _list(args: argparse.Namespace) -> tuple[dict[str, object], str]:
    refuse_place("--to", args.to, args.config)
    refuse_inputs("--to", args.to, [("--known", args.known or "")])
    _set_file_systems(args.beam_flags)
    if args.known:
        return _list_texts(args)
    sink = pa.BufferOutputStream()
    files, size = save_listing(refuse_output(list_inputs(args.config.input), args.config.output), sink)
    write_output(args.to, memoryview(sink.getvalue()))
    return _describe_list(args, files, size)


def _list_texts(args: argparse.Namespace) -> tuple[dict[str, object], str]:
    """List with the texts' digests, as far as they are needed."""
    known = load_known(read_table(args.known))
    twice, real = list[list[str]](), storage.RealPaths()
    found = list_inputs(args.config.input, repeated=lambda uri, place: twice.append([uri, place]))
    files = list(refuse_output(found, args.config.output))
    places = [real.of(file.uri) for file in files]
    size = sum(file.bytes for file in files)
    meter = Meter(size)
    show(meter)
    begin("comparing")
    try:
        texts = find_texts(files, places, known, args.config)
    finally:
        meter.close()
        show(None)
    write_output(args.to, memoryview(save_texts(files, places, texts)))
    result, text = _describe_list(args, len(files), size)
    return result | {"twice": twice}, text


def _describe_list(args: argparse.Namespace, files: int, size: int) -> tuple[dict[str, object], str]:
    text = f"listed {files:,} files, {size:,} bytes in {storage.redact(args.to)}"
    return {"to": storage.redact(args.to), "files": files, "bytes": size}, text


def _set_file_systems(beam_flags: Sequence[str]) -> None:
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    FileSystems.set_options(PipelineOptions(list(beam_flags)))


def _clean(args: argparse.Namespace) -> tuple[dict[str, object], str]:
    _set_file_systems(args.beam_flags)
    removed = clean.clean(args.output, args.older_than, args.keep, args.dry_run)
    verb = "would remove" if args.dry_run else "removed"
    lines = [f"{verb} {_describe(item)}" for item in removed] or ["found nothing to remove"]
    result = {"output": storage.redact(args.output), "dry_run": args.dry_run}
    return result | {"removed": [dataclasses.asdict(item) for item in removed]}, "\n".join(lines)


def _describe(item: clean.Removed) -> str:
    what = {"dead": f"run {item.run}, which died", "old": f"run {item.run}, which newer ones replaced"}.get(
        item.reason, f"temporary files of run {item.run}" if item.run else "temporary files"
    )
    letters = f", {item.dead_letters} of them dead letters" if item.dead_letters else ""
    return f"{what}: {item.files:,} files, {item.bytes:,} bytes{letters}"


def _publish(uri: str, run_id: str) -> tuple[dict[str, object], str]:
    expected = storage.read_pointer(storage.join(uri, LATEST))
    dataset = open_dataset(uri, run_id)
    result: dict[str, object] = {"run": run_id, "dataset_id": dataset.dataset_id}
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
