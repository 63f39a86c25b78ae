"""Lower-casing UTF-8 by a table, for text whose characters change one by one and stay in normal form."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.native.jit import as_int, compiled, inlined
from pipeline.native.machine import BLOCK, WORD, continuations, foreign, load_word, lower_block, trailing_zeros

_LF, _SPACE = 10, 32
_BYTE, _LOW, _BITS = np.uint64(0xFF), np.uint64(0x3F), np.uint64(6)  # the payload of a continuing byte
_ONE, _TWO, _SIX, _ALL = np.uint64(1), np.uint64(2), np.uint64(6), np.uint64(0xFFFFFFFFFFFFFFFF)
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
def _map_block(
    source: NDArray[np.uint8], i: int, table: NDArray[np.uint16], lowercase: bool, target: NDArray[np.uint8], j: int
) -> int:
    """Map a block as far as each character becomes one of its own width; return how many bytes that is.

    All of the block is copied first, so that what follows those bytes in ``target`` is overwritten later.
    """
    if lowercase:
        lower_block(source, i, target, j)
    else:
        for k in range(BLOCK):
            target[j + k] = source[i + k]
    continued, done, expected = continuations(source, i), as_int(BLOCK), np.uint64(0)
    leads = foreign(source, i) & ~continued
    while leads != 0:
        k = trailing_zeros(leads)
        word, at = load_word(source, i + k), np.uint64(j + k)
        a, b = word & _BYTE, word >> np.uint64(8) & _LOW
        if a < 0xE0 and k < BLOCK - 1:
            mapped = np.uint64(table[(a & np.uint64(0x1F)) << _BITS | b])
            if mapped < 0x80 or mapped >= 0x800:
                done = k
                break
            target[at], target[at + _ONE] = np.uint64(0xC0) | mapped >> _BITS, np.uint64(0x80) | mapped & _LOW
            expected |= _TWO << np.uint64(k)
        elif 0xE0 <= a < 0xF0 and k < BLOCK - 2:
            code = (a & np.uint64(0x0F)) << np.uint64(12) | b << _BITS | word >> np.uint64(16) & _LOW
            mapped = np.uint64(table[code])
            if code < 0x800 or mapped < 0x800:
                done = k
                break
            target[at], target[at + _ONE] = (
                np.uint64(0xE0) | mapped >> np.uint64(12),
                np.uint64(0x80) | mapped >> _BITS & _LOW,
            )
            target[at + _TWO] = np.uint64(0x80) | mapped & _LOW
            expected |= _SIX << np.uint64(k)
        else:
            done = k
            break
        leads &= leads - _ONE
    kept = (_ONE << np.uint64(done)) - _ONE if done < BLOCK else _ALL
    return done if (continued & kept) == expected else 0


@inlined
def _is_inner_sigma(source: NDArray[np.uint8], i: int, cased: NDArray[np.bool_]) -> bool:
    """Tell whether the capital sigma at ``i`` is certainly no final one: it begins a word, or a letter follows."""
    if i == 0 or source[i - 1] == _LF or source[i - 1] == _SPACE:
        return True
    follows, _ = _code_point(source, i + 2) if i + 2 < len(source) else (0, 1)
    return follows < len(cased) and bool(cased[follows])


@compiled
def _valid_end(source: NDArray[np.uint8], i: int) -> int:
    """The end of the word that goes on at ``i``, a space, a line feed or the text's end; −1 if it is no valid UTF-8."""
    n = len(source)
    while i < n and source[i] != _LF and source[i] != _SPACE:
        a = as_int(source[i])
        if 0xF0 <= a <= 0xF4:
            if i + 3 >= n or source[i + 1] >> 6 != 2 or source[i + 2] >> 6 != 2 or source[i + 3] >> 6 != 2:
                return -1
            code = (a & 0x07) << 18 | as_int(source[i + 1] & 0x3F) << 12
            i += 4
            if code < 0x10000 or code >= 0x110000:
                return -1
            continue
        code, width = _code_point(source, i)
        if a >= 0x80 and (code == 0 or 0xD800 <= code < 0xE000):
            return -1
        i += width
    return i


@compiled
def _leave_out(
    source: NDArray[np.uint8], i: int, target: NDArray[np.uint8], j: int, hard: NDArray[np.int64], rows: int
) -> tuple[int, int, int]:
    """Note the word of the character at ``i``, or its line if that is not valid UTF-8, as one that is hard.

    Returns:
        Where to go on in ``source`` and ``target``, and rows of ``hard``.
    """
    end, begin = as_int(_valid_end(source, i)), as_int(i)
    whole_line = end < 0
    while begin > 0 and source[begin - 1] != _LF and (whole_line or source[begin - 1] != _SPACE):
        begin -= 1
    while j > 0 and target[j - 1] != _LF and (whole_line or target[j - 1] != _SPACE):
        j -= 1
    if whole_line:
        end = as_int(i)
        while end < len(source) and source[end] != _LF:
            end += 1
        while rows > 0 and hard[rows - 1, 0] >= begin:
            rows -= 1
            j = hard[rows, 2]
        # What came before the first of those words is in ``target`` yet.
        while j > 0 and target[j - 1] != _LF:
            j -= 1
    elif rows > 0 and hard[rows - 1, 1] == begin - 1 and source[begin - 1] == _SPACE:
        rows -= 1
        begin, j = hard[rows, 0], hard[rows, 2]
    hard[rows, 0], hard[rows, 1], hard[rows, 2] = begin, end, j
    return end, j, rows + 1


@compiled
def map_lines(
    source: NDArray[np.uint8],
    table: NDArray[np.uint16],
    lowercase: bool,
    drop_invisible: bool,
    cased: NDArray[np.bool_],
    target: NDArray[np.uint8],
    hard: NDArray[np.int64],
) -> tuple[int, int]:
    """Map a text character by character; words with a character that the table does not know are left out.

    So are whole lines that are not valid UTF-8.

    Args:
        source: lines of UTF-8.
        table: by code point below 0x10000, what it becomes; 0 for characters that need more than a table.
        lowercase: A–Z too become a–z.
        drop_invisible: leave out normalize.INVISIBLE, which the table then does not know.
        cased: by code point, before which characters a capital sigma is no final one.
        target: output, of half as many bytes again as ``source`` and a block more.
        hard: output, a row (first byte, one past the last one, where it would be in ``target``) for what is left out;
            neighbouring words are one, with the spaces between them. There are at most as many as spaces and line
            feeds, and one.

    Returns:
        Bytes written, and rows of ``hard``.
    """
    n, i, j, rows = len(source), as_int(0), as_int(0), as_int(0)
    while i < n:
        done = as_int(_map_block(source, i, table, lowercase, target, j)) if i + BLOCK + WORD <= n else 0
        if done > 0:
            i, j = i + done, j + done
            continue
        a = source[i]
        if a < 0x80:
            target[j] = a | 0x20 if lowercase and 65 <= a <= 90 else a
            i, j = i + 1, j + 1
            continue
        code, width = _code_point(source, i)
        if drop_invisible and (code == 0xAD or 0x200B <= code <= 0x200F or code == 0xFEFF):
            i += width
            continue
        mapped = as_int(table[code])
        if code == _CAPITAL_SIGMA and lowercase and _is_inner_sigma(source, i, cased):
            mapped = as_int(_SIGMA)
        if mapped != 0:
            i, j = i + width, _put(target, j, mapped)
            continue
        i, j, rows = _leave_out(source, i, target, j, hard, rows)
    return j, rows
