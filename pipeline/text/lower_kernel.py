"""Lower-casing UTF-8 by a table, for text whose characters change one by one and stay in normal form."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.native.jit import as_int, compiled, inlined
from pipeline.native.machine import BLOCK, foreign, lower_block, trailing_zeros

_LF, _SPACE = 10, 32
_CAPITAL_SIGMA, _SIGMA = 0x3A3, 0x3C3


@compiled
def copy_text(source: NDArray[np.uint8], lowercase: bool, target: NDArray[np.uint8]) -> None:
    """Copy ``source`` to the start of ``target``, A–Z in lower case if asked for, and fill up with zeros."""
    n, i = len(source), as_int(0)
    if not lowercase:
        target[:n] = source
        i = n
    while i + BLOCK <= n:
        lower_block(source, i, target, i)
        i += BLOCK
    while i < n:
        target[i] = source[i] | 0x20 if 65 <= source[i] <= 90 else source[i]
        i += 1
    target[n:] = 0


@inlined
def _put(target: NDArray[np.uint8], j: int, code: int) -> int:
    """Write a code point of two or three bytes; return where it ends."""
    if code < 0x80:
        target[j] = code
        return j + 1
    if code < 0x800:
        target[j], target[j + 1] = 0xC0 | code >> 6, 0x80 | code & 0x3F
        return j + 2
    target[j], target[j + 1], target[j + 2] = 0xE0 | code >> 12, 0x80 | code >> 6 & 0x3F, 0x80 | code & 0x3F
    return j + 3


@inlined
def _code_point(text: NDArray[np.uint8], i: int) -> tuple[int, int]:
    """The character of two or three bytes at ``i``, and its width; 0 for all others, and what is not valid UTF-8."""
    a, n = as_int(text[i]), len(text)
    if 0xC2 <= a <= 0xDF and i + 1 < n and text[i + 1] >> 6 == 2:
        return (a & 0x1F) << 6 | as_int(text[i + 1] & 0x3F), 2
    if 0xE0 <= a <= 0xEF and i + 2 < n and text[i + 1] >> 6 == 2 and text[i + 2] >> 6 == 2:
        code = (a & 0x0F) << 12 | as_int(text[i + 1] & 0x3F) << 6 | as_int(text[i + 2] & 0x3F)
        return (code if code >= 0x800 else 0), 3
    return 0, 1


@compiled
def map_lines(
    source: NDArray[np.uint8],
    table: NDArray[np.uint16],
    lowercase: bool,
    drop_invisible: bool,
    target: NDArray[np.uint8],
    hard: NDArray[np.int64],
) -> tuple[int, int]:
    """Map a text character by character; lines with a character that the table does not know are left out.

    Args:
        source: lines of UTF-8.
        table: by code point below 0x10000, what it becomes; 0 for characters that need more than a table.
        lowercase: A–Z too become a–z.
        drop_invisible: leave out normalize.INVISIBLE.
        target: output, of half as many bytes again as ``source`` and a block more.
        hard: output, a row (first byte, one past the last one, where it would be in ``target``) a line left out,
            of which the line feed after it is kept.

    Returns:
        Bytes written, and rows of ``hard``.
    """
    n, i, j, rows = len(source), as_int(0), as_int(0), as_int(0)
    while i < n:
        a = source[i]
        if a < 0x80:
            if lowercase and i + BLOCK <= n:
                # All of the block; what follows its ASCII part is overwritten.
                lower_block(source, i, target, j)
                run = trailing_zeros(foreign(source, i))
                i, j = i + run, j + run
            else:
                target[j] = a | 0x20 if lowercase and 65 <= a <= 90 else a
                i, j = i + 1, j + 1
            continue
        code, width = _code_point(source, i)
        if drop_invisible and (code == 0xAD or 0x200B <= code <= 0x200F or code == 0xFEFF):
            i += width
            continue
        mapped = as_int(table[code])
        if code == _CAPITAL_SIGMA and lowercase and (i == 0 or source[i - 1] == _LF or source[i - 1] == _SPACE):
            mapped = as_int(_SIGMA)  # at a word's start it is not a final sigma
        if mapped != 0:
            i, j = i + width, _put(target, j, mapped)
            continue
        begin = i
        while begin > 0 and source[begin - 1] != _LF:
            begin -= 1
        while j > 0 and target[j - 1] != _LF:
            j -= 1
        while i < n and source[i] != _LF:
            i += 1
        hard[rows, 0], hard[rows, 1], hard[rows, 2] = begin, i, j
        rows += 1
        if i < n:
            target[j] = _LF
            i, j = i + 1, j + 1
    return j, rows
