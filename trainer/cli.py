"""The trainer's commands: find the subcommand, run it, one line on stderr for what went wrong."""

from __future__ import annotations

import argparse
import difflib
import importlib
import signal
import sys
from collections.abc import Sequence

from pipeline.common.exit import LostOutput, report_lost, say_error
from pipeline.common.flags import OneLineParser, add_version, command_name, with_dashes
from pipeline.dataset.schema import FormatError
from pipeline.storage.storage import PointerMovedError, redact
from trainer.errors import ToldError, UserError

# Each lives in a module with add_arguments(parser) and run(args) -> exit status, imported only when it is asked
# for: looking up neighbours must not wait for torch and numba.
COMMANDS = {
    "train": ("trainer.training.command", "train word vectors from a dataset of pairs"),
    "evaluate": ("trainer.evaluation.command", "score a model on word similarity and analogies"),
    "neighbors": ("trainer.neighbors.command", "print the words nearest to others"),
    "retrain": ("trainer.retraining.command", "retrain on new text, and publish what passes the gate"),
    "rollback": ("trainer.versions.rollback", "make an earlier version of a model the live one"),
    "versions": ("trainer.versions.command", "list the versions of a model"),
    "export": ("trainer.exporting.command", "write a model's vectors in another format"),
    "report": ("trainer.reports.command", "write a page about a model, with plots"),
}

FAILED, INTERRUPTED = 1, 128 + signal.SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0 done, 1 failed, 130 Ctrl-C (2, wrong usage, exits in argparse)."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] not in COMMANDS:
        parser = _make_top_parser()
        if not words or words[0].startswith("-"):
            parser.parse_args(words)
        near = difflib.get_close_matches(words[0], COMMANDS, 1)
        parser.error(f"{words[0]!r} is not a command" + (f"; did you mean {near[0]}?" if near else ""))
    name = words[0]
    try:
        module = importlib.import_module(COMMANDS[name][0])
        parser = make_command_parser(name)
        status = int(module.run(parser.parse_args(with_dashes(words[1:], parser))))
        sys.stdout.flush()
    except LostOutput as lost:
        return report_lost(lost)
    except KeyboardInterrupt:
        return INTERRUPTED
    except ModuleNotFoundError as error:
        if str(error.name).split(".")[0] in ("trainer", "pipeline"):
            raise
        say_error(error_line(error))
        return FAILED
    except ToldError:
        return FAILED
    except (FormatError, UserError, PointerMovedError, OSError) as error:
        say_error(error_line(error))
        return FAILED
    return status


def make_command_parser(name: str) -> OneLineParser:
    module = importlib.import_module(COMMANDS[name][0])
    about = (module.__doc__ or "").split("\n\n")[0]
    parser = OneLineParser(prog=f"{command_name('trainer')} {name}", description=about, allow_abbrev=False)
    module.add_arguments(parser)
    return parser


def error_line(error: BaseException) -> str:
    """Say on one line what to mend."""
    if isinstance(error, ModuleNotFoundError):
        return f"no module {error.name!r}; `pip install 'pairstream[trainer]'` brings it"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{redact(str(error.filename))}: {error.strerror or type(error).__name__}"
    return redact(" ".join(str(error).split("\n"))) or type(error).__name__


def _make_top_parser() -> argparse.ArgumentParser:
    about = {name: text for name, (_, text) in COMMANDS.items()}
    if command_name("trainer") == "pairstream":  # the one command for both sides
        about = {"pipeline": "make a dataset of pairs from text", **about}
    commands = "\n".join(f"  {name:<10} {text}" for name, text in about.items())
    parser = OneLineParser(
        prog=command_name("trainer"),
        description=f"Word vectors by skip-gram with negative sampling.\n\ncommands:\n{commands}",
        epilog="%(prog)s COMMAND --help lists the flags of one command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_version(parser)
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the above")
    return parser
