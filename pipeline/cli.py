"""The command ``pairstream pipeline``: parse, run, report; one line on stderr for what went wrong."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.compiling import compiling
from pipeline.common.exit import LostOutput, report_lost, say_error
from pipeline.common.outputs import emit_result
from pipeline.dataset.schema import FormatError
from pipeline.errors import PipelineError
from pipeline.inputs.discover import refuse_targets
from pipeline.publishing.commands import COMMANDS, parse_command, run_command
from pipeline.storage.redact import redact
from pipeline.storage.storage import PointerMovedError

if TYPE_CHECKING:
    from pipeline.publishing.publish import Run

_OURS = (PipelineError, FormatError, PointerMovedError)
Result = dict[str, Any]  # as --json prints it
#: The name of a worker's error in the text that a runner passes on; the names of wrappers may come before it.
_RAISED = re.compile(r"^(?:RuntimeError: )*([A-Za-z_][\w.]*(?:Error|Exception|Moved)): (.*)$", re.MULTILINE)
_KNOWN = re.compile(
    r"pipeline\.\S+\.(?:InputError|ConfigError|FormatError|PointerMovedError|StoreError|LostJobError)"
    r"|PermissionError|OSError|FileNotFoundError|NotADirectoryError|IsADirectoryError"
)
_JAVAS = ("java.", "org.", "com.", "io.")
#: "root" is what a portable runner tells the launcher; the others are a local Prism's and its workers'.
_BEAMS_LOGGERS = ("apache_beam", "root", "PrismJobServer", "PrismRunner", "SdkWorker")
_COMPILE_LATER_ONES = "from pipeline.stages.chunks import load_later_kernels; load_later_kernels()"
_STEP = re.compile(r"\s*\[while running .*", re.DOTALL)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0 done, 1 failed (2, wrong usage, exits in argparse)."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words and words[0] in COMMANDS:
            return _maintain(words)
        return _run(words[1:] if words[:1] == ["run"] else words)
    except LostOutput as lost:
        return report_lost(lost)


def _quieten_beam() -> None:
    """Beam warns at import and logs every failing bundle with its traceback; what matters is the error itself."""
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: not record.name.startswith(_BEAMS_LOGGERS))
    logging.basicConfig(level=logging.ERROR, handlers=[handler])
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)


def _quieten_workers() -> None:
    """Workers that are threads of this process print the traceback of every error, which they also report."""
    from apache_beam.runners.worker import sdk_worker

    vars(sdk_worker)["print"] = lambda *_, **__: None


def _maintain(words: Sequence[str]) -> int:
    _quieten_beam()
    args = parse_command(words)
    try:
        result, text = run_command(args)
    except (*_OURS, OSError) as error:
        say_error(str(error_line(error)))
        return 1
    _say(json.dumps(result) if args.json else text, text.partition("\n")[0], getattr(args, "to", ""))
    return 0


def _run(words: Sequence[str]) -> int:
    _quieten_beam()
    from pipeline.config import parse_arguments

    config, beam_flags = parse_arguments(words)
    started = time.perf_counter()
    try:
        refuse_targets(config)
        here = not any(flag.startswith("--runner") for flag in beam_flags)  # elsewhere, workers compile
        if here:
            compiling.expect(Path(__file__).parent / "text", _COMPILE_LATER_ONES)
        from pipeline.job import run_job
        from pipeline.runners import IN_PROCESS, quieten_processes, quieten_threads

        if here:
            compiling.listen()
        _quieten_workers()
        quieten_processes()
        quieten_threads()
        run = run_job(config, beam_flags)
        if not config.wait and run.runner != IN_PROCESS:
            print(f"submitted run {run.run_id}", file=sys.stderr)
            return 0
        result = {**summary(run), "seconds": round(time.perf_counter() - started, 2)}
        result["stage_seconds"] = account(result["stage_seconds"], result["seconds"], compiling.seconds)
        if config.report:
            from pipeline.publishing.report import write_report

            write_report(run, config.report)
            result["report"] = redact(config.report)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from pipeline.progress import is_stopped

        if is_stopped():
            return 130
        message = error_line(error)
        if message is None:
            raise
        say_error(message)
        return 1
    finally:
        compiling.close()
    text = describe(result)
    _say(json.dumps(result) if config.json else text, text.partition("\n")[0], config.report)
    return 0


def summary(run: Run) -> Result:
    """Read back what a finished run published, for the user."""
    from pipeline.dataset.phrases import load_phrases, phrase_files
    from pipeline.dataset.reader import open_manifest, read_run
    from pipeline.publishing.publish import place_of

    dataset = open_manifest(run.config.output, run.run_id)
    described, corpus, passes = read_run(dataset), dataset.manifest.corpus, dataset.manifest.passes
    passed_over = described["passed_over"]
    totals = ("files", "bytes", "lines", "sentences", "tokens", "in_vocabulary", "dead_letters")
    return {
        "output": redact(run.config.output),
        "run": run.run_id,
        "dataset_id": dataset.dataset_id,
        **{name: getattr(corpus, name) for name in totals},
        "kept_dead_letters": {
            "letters": sum((corpus.kept_dead_letters or corpus.dead_letters).values()),
            "bytes": corpus.dead_letter_bytes if corpus.kept_dead_letters is None else corpus.kept_dead_letter_bytes,
        },
        "first_dead_letters": {
            reason: place_of(file, offset, reason, run.config)
            for reason, (file, offset) in described["first_dead_letters"].items()
        },
        "dead_letters_folder": redact(f"{run.folder}/dead-letters") if corpus.dead_letters else "",
        "passed_over": passed_over | {"example": redact(passed_over["example"])},
        "vocabulary": dataset.manifest.vocabulary.rows,
        "phrases": [len(load_phrases(*file)) for file in phrase_files(dataset)],
        **{name: [getattr(one, name) for one in passes] for name in ("kept", "pairs", "shards")},
        "stage_seconds": run.stage_seconds,
    }


def account(stages: Mapping[str, float], total: float, compile_s: float) -> dict[str, float]:
    """Name what a run spent outside its stages, so that all parts add up to the total; nothing where none is known."""
    if not stages:
        return {}
    known = {**({"compiling": round(compile_s, 3)} if compile_s else {}), **stages}
    return {"start-up and publishing": round(max(0.0, total - sum(known.values())), 3), **known}


def _say(text: str, done: str, target: str) -> None:
    """Print a result, also where a name in it is none in the terminal's encoding: all is done by now."""
    encoding = sys.stdout.encoding or "utf-8"
    emit_result(text.encode(encoding, "backslashreplace").decode(encoding), done, target)


def error_line(error: BaseException) -> str | None:
    """Find the one line that tells a user what to mend, None if the error is none of those a user can mend.

    A runner wraps what a stage raises, some of them as text: it is looked for there too.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.filename is not None:
            return _one_line(f"{cause.filename}: {cause.strerror}")
        if isinstance(cause, (*_OURS, OSError)):
            return _one_line(str(cause))
        if not isinstance(cause, RuntimeError):  # as runners wrap errors: all else is what went wrong itself
            break
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    raised = [(name, text) for name, text in _RAISED.findall(str(error)) if not name.startswith(_JAVAS)]
    return _one_line(raised[-1][1]) if raised and _KNOWN.fullmatch(raised[-1][0]) else None


def _one_line(text: str) -> str:
    return redact(" ".join(_STEP.sub("", text).split("\n")).strip())


def _describe_phrases(rounds: Sequence[int]) -> str:
    return ", ".join(f"{count:,} in round {number}" for number, count in enumerate(rounds, 1))


def describe_left_out(result: Result) -> list[str]:
    """Say what of the input is not in the dataset, and where to look at it."""
    lines = [
        f"  set aside   {count:,} {reason}, first in {result['first_dead_letters'].get(reason, '?')}"
        for reason, count in sorted(result["dead_letters"].items())
    ]
    if lines:
        kept, all_letters = result["kept_dead_letters"]["letters"], sum(result["dead_letters"].values())
        some = f", {kept:,} of them (--max-dead-letter-bytes)" if kept < all_letters else ""
        lines.append(f"              in {result['dead_letters_folder']}{some}")
    files, example = result["passed_over"]["files"], result["passed_over"]["example"]
    return lines + ([f"  not read    {files:,} files that are not data, such as {example}"] if files else [])


def describe(result: Result) -> str:
    """Format a run's summary for people."""
    coverage = result["in_vocabulary"] / max(1, result["tokens"])
    rate = result["tokens"] / result["seconds"]
    stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in result["stage_seconds"].items())
    return "\n".join(
        [
            f"published run {result['run']} to {result['output']}",
            (
                f"  corpus      {result['files']:,} files, {result['lines']:,} lines, {result['tokens']:,} tokens, "
                f"{sum(result['dead_letters'].values()):,} dead letters"
            ),
            *describe_left_out(result),
            *([f"  phrases     {found}"] if (found := _describe_phrases(result["phrases"])) else []),
            f"  vocabulary  {result['vocabulary']:,} tokens, which cover {coverage:.2%} of the text",
            (
                f"  pairs       {sum(result['pairs']):,} in {sum(result['shards']):,} shards, "
                f"{len(result['pairs'])} pass{'es' * (len(result['pairs']) > 1)}"
            ),
            f"  time        {result['seconds']:.1f} s, {rate:,.0f} tokens/s ({stages})",
            *([f"  report      {result['report']}"] if "report" in result else []),
        ]
    )
