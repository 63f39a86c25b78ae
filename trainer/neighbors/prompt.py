"""One query a line, from a person at a prompt or from a pipe."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator

from pipeline.dataset.schema import FormatError
from trainer.errors import UserError

PROMPT = "> "
GREETING = "A word, or an expression such as  king - man + woman . :help explains; :quit or Ctrl-D ends."
HELP = """\
word                  the words nearest to it
king - man + woman    those nearest to a sum; put spaces around + and -
:help, :quit          this text; the end. So do help, quit and exit, unless the vocabulary has them as words
+ :quit               looks for :quit itself, as for any word after a sign"""

_COMMANDS = {":help": "help", ":quit": "quit"}
_PLAIN_COMMANDS = {"help": "help", "quit": "quit", "exit": "quit"}


def at_terminal() -> bool:
    """Tell whether a person sits at both ends."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def converse(
    answer: Callable[[str], str], explain_failure: Callable[[str, str], str | None], is_word: Callable[[str], bool]
) -> int:
    """Answer line by line until the input ends; a query that fails does not end it.

    A person may type commands too. From a pipe every line is a query, whatever it says.

    Args:
        answer: what to print for a query.
        explain_failure: given a query and what is wrong, what to print on stdout in place of an answer; None lets the
            reason go to stderr.
        is_word: tells whether the vocabulary has a word, which then is no command.

    Returns:
        0, or 1 where queries from a pipe failed.
    """
    person, failed = at_terminal(), False
    for query in _typed(is_word) if person else _piped():
        try:
            text = answer(query)
        except (UserError, FormatError) as error:
            failed = True
            told = explain_failure(query, str(error))
            if told is None:
                print(f"error: {error}", file=sys.stderr, flush=True)
                continue
            text = told
        print(text, flush=True)
    return int(failed and not person)


def _piped() -> Iterator[str]:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # bytes that are no UTF-8 make an unknown word, as in arguments
    for line in sys.stdin:
        if line.strip():
            yield line.strip()


def parse_command(line: str, is_word: Callable[[str], bool]) -> str | None:
    """Return `help` or `quit` where a typed line asks for that, None for a query."""
    name = line.lower()
    if name in _PLAIN_COMMANDS and not is_word(line):
        return _PLAIN_COMMANDS[name]
    return _COMMANDS.get(name)


def _typed(is_word: Callable[[str], bool]) -> Iterator[str]:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (from then on, input() has a history and can be edited)
    print(GREETING, file=sys.stderr)
    while True:
        try:
            line = input(PROMPT)
        except EOFError:
            print()
            return
        except KeyboardInterrupt:  # drops the line, as in a shell
            print()
            continue
        command = parse_command(line.strip(), is_word)
        if command == "quit":
            return
        if command == "help":
            print(HELP, file=sys.stderr)
        elif line.strip():
            yield line.strip()
            if line.strip().lower() in _PLAIN_COMMANDS:
                print(f"({line.strip()} is a word here; :help explains, :quit ends)", file=sys.stderr)
