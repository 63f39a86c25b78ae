"""Sums and differences of words: `king - man + woman`.

Spaces separate words and operators, for words may contain both: `t-shirt`, `c++`. They alternate, so that a word may
even be a sign: `c - +` takes the word `+` from the word `c`. Where words themselves have spaces in them, all between
two signs is one: `red wine - beer`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from trainer.errors import UserError

_WEIGHTS = {"+": 1, "-": -1, "\u2212": -1}  # the last is the minus sign that word processors write
SIGNS = frozenset(_WEIGHTS)
_BETWEEN = re.compile(rf"\s([{re.escape(''.join(_WEIGHTS))}])\s")


@dataclass(frozen=True)
class Term:
    """A word with its sign."""

    word: str
    weight: int


def parse_expression(text: str, spaces: bool = False) -> tuple[Term, ...]:
    """Read one word, or several with + and - between them; a sign before the first is fine.

    Args:
        text: the expression.
        spaces: words may have spaces in them.

    Raises:
        UserError: words that no sign joins, a sign too many, or nothing at all.
    """
    parts = text.split()
    for first in (["+", *parts], parts):  # at first, the first part is taken for a word
        signs, words = first[::2], first[1::2]
        if words and len(signs) == len(words) and all(sign in _WEIGHTS for sign in signs):
            return tuple(Term(word, _WEIGHTS[sign]) for sign, word in zip(signs, words, strict=True))
    words, signs = _BETWEEN.split(text.strip())[::2], _BETWEEN.findall(text.strip())
    if spaces and all(map(str.strip, words)):
        return tuple(Term(word.strip(), _WEIGHTS[sign]) for sign, word in zip(["+", *signs], words, strict=True))
    raise UserError(f"found {text!r}, expected a word, or words with + or - between them, each between spaces")
