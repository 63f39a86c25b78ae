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
_FEED, _LF = 0xFE, 0x0A


def join_items(items: Sequence[str]) -> bytes:
    """Return the line of a list.

    Raises:
        UnicodeEncodeError: half of a surrogate pair.
        AttributeError: an item is not str.
    """
    return MARK + MARK.join([item.encode("utf-8") for item in items]).replace(b"\n", bytes([_FEED]))


def split_items(line: bytes) -> list[str]:
    """Return the list of a line, without empty items: what join_items does, undone."""
    items = line.replace(bytes([_FEED]), b"\n").split(MARK)
    return [item.decode("utf-8") for item in items if item]


def scan_items(data: bytes, max_token_bytes: int, max_sentence_tokens: int, torn: bool = False) -> Tokens:
    """Find the items of a chunk's lines (the twin of split_items); see tokenize.scan_tokens."""
    text = pad_text(data)
    body = text[: len(data)]
    edges = np.flatnonzero((body == MARK[0]) | (body == _LF))
    starts, stops = np.append(0, edges + 1).astype(np.int32), np.append(edges, len(data)).astype(np.int32)
    filled = stops > starts
    ends_line = np.append(body[edges] == _LF, True)
    ends_S = np.cumsum(filled)[ends_line]
    ends_S = ends_S[np.diff(ends_S, prepend=0) > 0].astype(np.int32)
    found = Tokens(text, starts[filled], (stops - starts)[filled], ends_S, [])
    large = found.lengths_T > max_token_bytes
    if torn:
        large[:1] |= found.starts_T[:1] == 0
    found = cut_sentences(set_aside(found, large), max_sentence_tokens)
    body[body == _FEED] = _LF  # after the lines were counted
    return found
