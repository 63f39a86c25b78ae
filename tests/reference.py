"""The reference of every flag, written from the parsers: python -m tests.reference > docs/reference.md."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pipeline.config
import pipeline.publishing.commands
import trainer.cli

HEAD = """# Every command and flag

Written from the parsers (`python -m tests.reference > docs/reference.md`); `--help` says the same. Results go to
standard output, with `--json` as one JSON object on the last line; progress and errors go to standard error. Exit
status 0 is done, 1 failed (one line says why), 2 wrong usage; others are named where they occur.
"""


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Each command, with its parser."""
    yield "pairstream pipeline [run]", pipeline.config.make_parser()
    for name in pipeline.publishing.commands.COMMANDS:
        yield f"pairstream pipeline {name}", pipeline.publishing.commands.make_command_parser(name)
    for name in trainer.cli.COMMANDS:
        yield f"pairstream {name}", trainer.cli.make_command_parser(name)


def describe(parser: argparse.ArgumentParser) -> str:
    """What a command is for, and a table of its flags."""
    formatter = parser._get_formatter()
    about = " ".join((parser.description or "").split())
    rows = ["| flag | what it does |", "|---|---|"]
    for action in parser._actions:
        if action.help in (None, argparse.SUPPRESS) or isinstance(action, argparse._HelpAction):
            continue
        names = ", ".join(action.option_strings) or str(action.metavar or action.dest)
        value = "" if action.nargs == 0 else formatter._format_args(action, _metavar(action))
        shown = f"{names} {value}".strip() if action.option_strings else value
        text = " ".join(formatter._expand_help(action).split())
        text += "" if text.endswith((".", ")")) else "."
        text += " Required." if action.required and action.option_strings else ""
        rows.append(f"| `{_cell(shown)}` | {_cell(text)} |")
    return "\n".join([about, "", *rows])


def render() -> str:
    """The whole page."""
    sections = [f"## `{_cell(name)}`\n\n{describe(parser)}" for name, parser in parsers()]
    return "\n\n".join([HEAD.rstrip(), *sections]) + "\n"


def _metavar(action: argparse.Action) -> str:
    return "|".join(map(str, action.choices)) if action.choices else action.dest.upper()


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(render(), end="")
