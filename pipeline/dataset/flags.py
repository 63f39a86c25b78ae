"""What the two command lines share: flags made from a dataclass, and errors of one line."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

_SIZE = re.compile(r"(\d+)(Ki|Mi|Gi)?")


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line; the usage is what --help is for."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with status 2."""
        self.exit(2, f"error: {message} (--help lists the flags)\n")


def parse_size(text: str) -> int:
    """Read a whole number with an optional binary unit: 4096, 64Ki, 16Mi, 1Gi."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number such as 4096, 64Ki or 16Mi")
    return int(match[1]) << {None: 0, "Ki": 10, "Mi": 20, "Gi": 30}[match[2]]


def parse_named(text: str) -> str:
    """Read a name of something that must be there: an empty one is what an unset variable leaves of a command line."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a name")
    return text


def parse_flag(text: str) -> bool:
    """Read true or false, as job templates pass them."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected true or false")
    return text.lower() == "true"


def add_flags(parser: argparse._ActionsContainer, kind: type[Any], but: Collection[str] = ()) -> None:
    """Add one flag for each field of a dataclass ``but`` some, with the string below the field as its help.

    A field's metadata may hold ``choices``, ``parse`` (a function of the text), ``shown`` (the default as such a text)
    and ``many`` (the flag repeats).
    A field without a default is required. A boolean flag takes =true or =false and has a --no- twin.
    """
    texts = field_docs(kind)
    for field in dataclasses.fields(kind):
        if field.name in but:
            continue
        flag, text = flag_of(field.name), texts[field.name].replace("%", "%%")
        if field.default is dataclasses.MISSING:
            action = "append" if field.metadata.get("many") else "store"
            parser.add_argument(flag, required=True, action=action, type=parse_named, help=text,
                                metavar=field.metadata["metavar"])  # fmt: skip
        elif field.metadata.get("many"):
            parser.add_argument(flag, action="append", default=[], type=parse_named, help=text,
                                metavar=field.metadata["metavar"])  # fmt: skip
        elif isinstance(field.default, bool):
            shown = f" Default: true; --no-{flag[2:]} turns it off." if field.default else ""
            parser.add_argument(flag, nargs="?", const=True, default=field.default, type=parse_flag, help=text + shown,
                                metavar="true|false")  # fmt: skip
            parser.add_argument("--no-" + flag[2:], dest=field.name, action="store_const", const=False,
                                help=argparse.SUPPRESS)  # fmt: skip
        else:
            shown = "" if field.default in ("", None) else " Default: %(default)s."
            parser.add_argument(
                flag, default=field.metadata.get("shown", field.default),
                type=field.metadata.get("parse", type(field.default)),
                choices=field.metadata.get("choices"), metavar=field.metadata.get("metavar"), help=text + shown,
            )  # fmt: skip


def flag_of(field: str) -> str:
    """Return the flag that sets a field."""
    return "--" + field.replace("_", "-")


def with_dashes(words: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """Let underscores in a parser's own flags stand for dashes: job templates cannot name parameters with dashes."""
    known = parser._option_string_actions
    result = []
    for word in words:
        name, equals, value = word.partition("=")
        dashed = name.replace("_", "-")
        result.append(dashed + equals + value if name.startswith("--") and dashed in known else word)
    return result


def field_docs(kind: type[Any]) -> dict[str, str]:
    """Read the strings below a dataclass's fields, so that its help and its source say one thing."""
    [node] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(node, ast.ClassDef)
    texts = {}
    for field, text in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            assert isinstance(text.value, ast.Constant)
            texts[field.target.id] = str(text.value.value)
    return texts
