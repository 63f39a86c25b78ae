"""From the bytes of a chunk to normalised UTF-8 text, line by line: decode, normalise, lower, normalise again."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from pipeline.errors import InputError


@dataclass(frozen=True)
class TextRules:
    """How raw bytes become text.

    Attributes:
        lowercase: apply str.lower.
        normalize: "NFC", "NFKC" or "none".
        encoding_errors: for bytes that are no UTF-8: "fail", "replace" (by U+FFFD) or "dead-letter" (the line).
    """

    lowercase: bool = True
    normalize: str = "NFC"
    encoding_errors: str = "dead-letter"


@dataclass(frozen=True)
class DeadLetter:
    """Something set aside: where it starts in the decompressed file, why, and its bytes."""

    offset: int
    reason: str
    content: bytes


def normalize_text(text: str, rules: TextRules) -> str:
    """Apply Unicode normalisation and lower-casing; the number of line feeds stays what it was."""
    if rules.normalize != "none":
        text = unicodedata.normalize(rules.normalize, text)  # type: ignore[arg-type]
    if rules.lowercase:
        text = text.lower()
        if rules.normalize != "none":
            # Lower-casing may leave what composes: "J̌" has no precomposed capital, "ǰ" is one code point.
            text = unicodedata.normalize(rules.normalize, text)  # type: ignore[arg-type]
    return text


def normalize_lines(data: bytes, offset: int, rules: TextRules) -> tuple[bytes, list[DeadLetter]]:
    """Normalise whole lines of raw bytes; lines that are set aside become empty ones.

    ASCII lines are their own normal form, so only the others take the way through str.

    Args:
        data: lines, each ended by a line feed but the last.
        offset: of the first byte in the decompressed file.
        rules: what to apply.

    Returns:
        UTF-8 with as many line feeds as ``data``, and what was set aside.

    Raises:
        InputError: bytes that are no UTF-8, under the policy "fail".
    """
    if data.isascii():
        return _lower_ascii(data, rules), []
    lines = data.split(b"\n")
    foreign = [number for number, line in enumerate(lines) if not line.isascii()]
    texts, dead = _decode([lines[number] for number in foreign], rules)
    # Line by line: Python's check for "already normal" gives up at the first mark, and most lines have none.
    normal = "\n".join([normalize_text(text, rules) for text in texts]).encode("utf-8").split(b"\n")
    letters = []
    if dead:
        starts = _line_starts(lines, offset)
        letters = [DeadLetter(starts[foreign[i]], "invalid-utf-8", lines[foreign[i]]) for i in dead]
    for number, line in zip(foreign, normal, strict=True):
        lines[number] = line
    return _lower_ascii(b"\n".join(lines), rules), letters


def line_offset(data: bytes, offset: int, line: int) -> int:
    """Return where line number ``line`` of ``data`` starts, in the file in which ``data`` starts at ``offset``."""
    return _line_starts(data.split(b"\n"), offset)[line]


def _lower_ascii(data: bytes, rules: TextRules) -> bytes:
    return data.lower() if rules.lowercase else data


def _decode(lines: list[bytes], rules: TextRules) -> tuple[list[str], list[int]]:
    """Decode lines by the policy; also the indices of those set aside, which become empty."""
    try:
        return b"\n".join(lines).decode("utf-8").split("\n"), []
    except UnicodeDecodeError as error:
        if rules.encoding_errors == "fail":
            raise InputError(
                f"found the byte 0x{error.object[error.start]:02x}, which is no UTF-8, expected UTF-8 text "
                "(see --encoding-errors)"
            ) from None
    if rules.encoding_errors == "replace":
        return [line.decode("utf-8", "replace") for line in lines], []
    texts, dead = [], []
    for index, line in enumerate(lines):
        try:
            texts.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            texts.append("")
            dead.append(index)
    return texts, dead


def _line_starts(lines: list[bytes], offset: int) -> list[int]:
    starts = [offset]
    for line in lines[:-1]:
        starts.append(starts[-1] + len(line) + 1)
    return starts
