"""One query a line, from a person at a prompt or from a pipe."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator

from pipeline.dataset.schema import FormatError
from trainer.errors import UserError

PROMPT = "> "
GREETING = "a word, or an expression such as  king - man + woman ; Ctrl-D ends"


def at_terminal() -> bool:
    """Tell whether a person sits at both ends."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def converse(answer: Callable[[str], str], explain_failure: Callable[[str, str], str | None]) -> int:
    """Answer line by line until the input ends; a query that fails does not end it.

    Args:
        answer: what to print for a query.
        explain_failure: given a query and what is wrong, what to print on stdout in place of an answer; None lets the
            reason go to stderr.

    Returns:
        0, or 1 where queries from a pipe failed.
    """
    person, failed = at_terminal(), False
    for query in _typed() if person else _piped():
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


def _typed() -> Iterator[str]:
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
        if line.strip():
            yield line.strip()
