"""Tokens that come ready, as the items of a list: taken verbatim, with the spaces, capitals and line feeds they have.

On the way they are a line of text that begins with a byte FF and has one between items. A byte FE in it is an item's
own line feed. Neither byte occurs in UTF-8, so nothing needs to be escaped.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.text.normalize import pad_text
from pipeline.text.tokenize import Tokens, cut_sentences, set_aside

#: Before the first item and between items. At a file's start it leaves no byte-order mark to be dropped.
MARK = b"\xff"
_FEED = b"\xfe"
_UNIT = "\x1f"


def join_items(items: Sequence[str]) -> bytes:
    """Return the line of a list.

    Raises:
        UnicodeEncodeError: half of a surrogate pair.
        TypeError: an item is not str.
    """
    line = _UNIT.join(items)
    if line.count(_UNIT) == len(items) - 1:  # all are encoded at once: no item has one itself
        data = line.encode("utf-8").replace(_UNIT.encode(), MARK)
    else:
        data = MARK.join([item.encode("utf-8") for item in items])
    return MARK + data.replace(b"\n", _FEED)


def split_items(line: bytes) -> list[str]:
    """Return the list of a line, without empty items: what join_items does, undone."""
    return [item.decode("utf-8") for item in line.replace(_FEED, b"\n").split(MARK) if item]


def scan_items(data: bytes, max_token_bytes: int, max_sentence_tokens: int, torn: bool = False) -> Tokens:
    """Find the items of a chunk's lines (the twin of split_items); see tokenize.scan_tokens."""
    from pipeline.text.scan_kernel import scan_marked

    text, room = pad_text(data), len(data) // 2 + 1
    spans = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.int32)
    tokens, lines = scan_marked(text, len(data), MARK[0], spans)
    found = Tokens(text, spans[0][:tokens], spans[1][:tokens], spans[2][:lines], [])
    large = found.lengths_T > max_token_bytes
    if torn:
        large[:1] |= found.starts_T[:1] == 0
    if large.any():
        found = set_aside(found, large)
    if _FEED in data:  # after the lines were counted
        text[text == _FEED[0]] = ord("\n")
    return cut_sentences(found, max_sentence_tokens)
