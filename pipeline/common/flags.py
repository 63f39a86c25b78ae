"""What the two command lines share: flags made from a dataclass, and errors of one line."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import difflib
import inspect
import os
import re
import sys
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline.common.exit import say_error
from pipeline.dataset import __version__
from pipeline.dataset.schema import FORMAT_VERSION

if TYPE_CHECKING:
    from _typeshed import DataclassInstance, SupportsWrite

_SIZE = re.compile(r"(\d+)(Ki|Mi|Gi)?")
_PATHS = frozenset({"URI", "PATH", "GLOB", "DIR", "FILE", "MODEL"})  # metavars of flags that take a path


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line; the usage is what --help is for."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with status 2."""
        say_error(f"{message} (--help lists the flags)")
        self.exit(2)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; what is no flag is an error that names the nearest one."""
        namespace, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint(unknown, self)}")
        return namespace

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        """Print; argparse's own hides the error where standard output is full or closed."""
        (file or sys.stderr).write(message or "")

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """Read what was given for a flag; a text without a type of its own is a path by its metavar, or a name."""
        if action.option_strings and action.type is None and action.choices is None:
            parse = parse_path if action.metavar in _PATHS else parse_named
            try:
                arg_strings = [parse(text) for text in arg_strings]
            except argparse.ArgumentTypeError as error:
                raise argparse.ArgumentError(action, str(error)) from None
        return super()._get_values(action, arg_strings)


def hint(unknown: Sequence[str], parser: argparse.ArgumentParser, others: Iterable[str] = ()) -> str:
    """Say what was probably meant by arguments that neither a parser nor ``others``, more flags, know."""
    takes_globs = "--input" in parser._option_string_actions
    if takes_globs and any(not word.startswith("-") and os.path.exists(word) for word in unknown):
        return "; for several files, quote the glob (--input 'text/*.txt') or repeat --input for each"
    near = [near_flag(word, parser, others) for word in unknown if word.startswith("--")]
    names = " or ".join(dict.fromkeys(name for name in near if name))
    return f"; did you mean {names}?" if names else ""


def near_flag(word: str, parser: argparse.ArgumentParser, others: Iterable[str] = ()) -> str | None:
    """Return the flag of a parser, or of others, that is spelled most like a mistyped one; None where none is near."""
    name = word.partition("=")[0].replace("_", "-")
    ours = [flag for flag in parser._option_string_actions if flag.startswith("--")]
    known = {flag.replace("_", "-"): flag for flag in (*others, *ours)}
    starting = [flag for flag in ours if flag.startswith(name) and len(name) > 4]
    return next(iter([*starting, *map(known.__getitem__, difflib.get_close_matches(name, known, 1, 0.75))]), None)


def command_name(package: str) -> str:
    """Return what was typed to start a package's command: an installed one's name, or ``python -m`` and the package."""
    typed = os.path.basename(sys.argv[0]).removesuffix(".exe").removesuffix(".py")
    if typed == "pairstream":
        return "pairstream pipeline" if package == "pipeline" else typed
    return typed if typed.startswith("pairstream") else f"python -m {package}"


def add_version(parser: argparse.ArgumentParser) -> None:
    text = f"pairstream {__version__} (dataset and model format {FORMAT_VERSION})"
    parser.add_argument("--version", action="version", version=text, help="Print the package and format versions.")


def parse_size(text: str) -> int:
    """Read a whole number with an optional binary unit: 4096, 64Ki, 16Mi, 1Gi."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number such as 4096, 64Ki or 16Mi")
    return int(match[1]) << {None: 0, "Ki": 10, "Mi": 20, "Gi": 30}[match[2]]


def parse_named(text: str, what: str = "a value") -> str:
    """Read a text that must not be empty: that is what an unset variable leaves of a command line."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"found {text!r}, expected {what}")
    return text


def expand_home(path: str) -> str:
    """Replace ``~`` and ``~user`` at the start of a path, as a shell does where no ``--flag=`` comes before it.

    Raises:
        ValueError: there is no such user.
    """
    if not path.startswith("~"):
        return path
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        user = path.partition("/")[0]
        raise ValueError(f"no user {user[1:]!r}; for a file of that name write ./{path}")
    return expanded


def parse_path(text: str) -> str:
    """Read a path, URI or glob that must not be empty; see `expand_home`."""
    try:
        return expand_home(parse_named(text, "a name"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def expand_paths(values: Mapping[str, Any], kind: type[DataclassInstance]) -> dict[str, Any]:
    """Apply `expand_home` to those values that are paths by a dataclass's fields, whatever they were read from.

    Raises:
        ValueError: a path names a user that there is not; the message begins with the flag.
    """
    paths = {field.name for field in dataclasses.fields(kind) if field.metadata.get("metavar") in _PATHS}
    expanded = dict(values)
    for name in paths & values.keys():
        try:
            value = values[name]
            expanded[name] = expand_home(value) if isinstance(value, str) else tuple(map(expand_home, value))
        except ValueError as error:
            raise ValueError(f"{flag_of(name)}: {error}") from None
    return expanded


def parse_flag(text: str) -> bool:
    """Read true or false, as job templates pass them."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected true or false")
    return text.lower() == "true"


def add_flags(parser: argparse._ActionsContainer, kind: type[DataclassInstance], but: Collection[str] = ()) -> None:
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
            parser.add_argument(flag, required=True, action=action, help=text, metavar=field.metadata["metavar"])
        elif field.metadata.get("many"):
            parser.add_argument(flag, action="append", default=[], help=text, metavar=field.metadata["metavar"])
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
                type=field.metadata.get("parse", None if isinstance(field.default, str) else type(field.default)),
                choices=field.metadata.get("choices"), metavar=field.metadata.get("metavar"), help=text + shown,
            )  # fmt: skip


def flag_of(field: str) -> str:
    return "--" + field.replace("_", "-")


def with_dashes(words: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """Let underscores in a parser's own flags mean dashes: job templates cannot name parameters with dashes."""
    known = parser._option_string_actions
    result = []
    for word in words:
        name, equals, value = word.partition("=")
        dashed = name.replace("_", "-")
        result.append(dashed + equals + value if name.startswith("--") and dashed in known else word)
    return result


def field_docs(kind: type[DataclassInstance]) -> dict[str, str]:
    """Read the strings below a dataclass's fields, so that its help and its source say one thing."""
    [node] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(node, ast.ClassDef)
    texts = {}
    for field, text in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            assert isinstance(text.value, ast.Constant)
            texts[field.target.id] = str(text.value.value)
    return texts
