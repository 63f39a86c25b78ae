"""word2vec's files, text and binary: a line with V and D, then each word with its numbers.

Shapes: V words, D dimensions, R rows of a block.
"""

from __future__ import annotations

import re
import warnings

import numpy as np

from pipeline.dataset.schema import FormatError
from trainer.importing.scan import Scan
from trainer.models.store import Floats

_FIRST_LINE = re.compile(rb"[ \t]*(\d{1,10})[ \t]+(\d{1,5})[ \t]*\r?")
_WORD_BYTES = 1 << 16
_NUMBER_BYTES = 64  # of text
_BLOCK_ROWS = 1 << 10


def read_word2vec(scan: Scan) -> tuple[list[str], Floats]:
    """Read words and vectors, float32 [V, D]; of a word that comes twice the first one counts, as in gensim.

    Raises:
        FormatError: another format, a damaged file.
    """
    head = _FIRST_LINE.fullmatch(scan.peek(64).partition(b"\n")[0])
    if head is None or not int(head[2]):
        raise FormatError(
            f"{scan.path}: found no file of word2vec or fastText, expected one, or a model's folder "
            "(a text file begins with a line of two numbers: words and dimensions)"
        )
    scan.until(b"\n", 64, "the first line")
    rows, dim = int(head[1]), int(head[2])
    try:
        table_VD = np.empty((rows, dim), np.float32)
    except (MemoryError, ValueError):
        raise FormatError(f"{scan.path}: found {rows} words of {dim} dimensions, too many for this memory") from None
    words = _read_text(scan, table_VD) if _is_text(scan, dim) else _read_binary(scan, table_VD)
    if scan.peek(64).strip():
        raise FormatError(f"{scan.path}: found more after word {rows}, expected so many, as its first line says")
    first: dict[str, int] = {}
    for row, word in enumerate(words):
        first.setdefault(word, row)
    return [*first], table_VD if len(first) == rows else table_VD[[*first.values()]]


def _is_text(scan: Scan, dim: int) -> bool:
    """Tell whether the first word's numbers are written in digits."""
    line, end, _ = scan.peek(_WORD_BYTES + dim * _NUMBER_BYTES).partition(b"\n")
    try:
        return len([*map(float, line.split()[-dim:])]) == dim and (bool(end) or line.isascii())
    except ValueError:
        # A damaged line of text is not binary.
        return b"\0" not in line and bool(end) and len(line.split(b" ")) > 1 and line.partition(b" ")[2].isascii()


def _read_text(scan: Scan, table_VD: Floats) -> list[str]:
    words = list[str]()
    rows, dim = table_VD.shape
    for start in range(0, rows, _BLOCK_ROWS):
        block_RD = table_VD[start : start + _BLOCK_ROWS]
        most = _WORD_BYTES + dim * _NUMBER_BYTES
        lines = [scan.until(b"\n", most, f"word {start + row + 1}", True).rstrip() for row in range(len(block_RD))]
        parts = [line.partition(b" ")[::2] for line in lines]
        numbers = _parse(b" ".join(numbers for _, numbers in parts))
        if numbers is not None and numbers.size == block_RD.size and all(numbers for _, numbers in parts):
            block_RD[:] = numbers.reshape(block_RD.shape)
        else:  # a word with a space in it, or a damaged line
            parts = [(line.rsplit(b" ", dim)[0], b"") for line in lines]
            for row, line in enumerate(lines):
                block_RD[row] = _parse_line(line, dim, f"{scan.path}:{start + row + 2}")
        words += [word.decode("utf-8", "replace") for word, _ in parts]
    return words


def _parse(text: bytes) -> Floats | None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            numbers: Floats = np.fromstring(text, np.float32, sep=" ")
        except (DeprecationWarning, RuntimeWarning, ValueError):
            return None
    return numbers


def _parse_line(line: bytes, dim: int, place: str) -> Floats:
    parts = line.rsplit(b" ", dim)
    numbers = _parse(b" ".join(parts[1:]))
    if len(parts) != dim + 1 or numbers is None or numbers.size != dim:
        raise FormatError(f"{place}: found {line[:60]!r}, expected a word and {dim} numbers")
    return numbers


def _read_binary(scan: Scan, table_VD: Floats) -> list[str]:
    words = list[str]()
    for row_D in table_VD:
        what = f"word {len(words) + 1}"
        word = scan.until(b" ", _WORD_BYTES, what).lstrip(b"\n")
        row_D[:] = np.frombuffer(scan.take(4 * len(row_D), what), "<f4")
        words.append(word.decode("utf-8", "replace"))
    return words
