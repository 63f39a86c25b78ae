"""From the bytes of a chunk to normalised UTF-8 text, line by line: decode, normalise, lower, normalise again."""

from __future__ import annotations

import functools
import itertools
import unicodedata
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError

#: unicodedata sorts marks by insertion: a chunk of nothing else would take it minutes.
_LONG_TEXT = 4096

#: Soft hyphen, zero-width space to right-to-left mark, byte-order mark: what newer tokenizers leave out of text.
INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\ufeff"
_NOTHING = dict.fromkeys(map(ord, INVISIBLE))

#: Lines that go through str at once: a chunk may have half a million, each of which is several objects.
_LINES = 1 << 14


@dataclass(frozen=True)
class TextRules:
    """How raw bytes become text.

    Attributes:
        lowercase: apply str.lower.
        normalize: "NFC", "NFKC" or "none".
        encoding_errors: for bytes that are no UTF-8: "fail", "replace" (by U+FFFD) or "dead-letter" (the line).
        drop_invisible: leave out INVISIBLE characters, before all else.
    """

    lowercase: bool = True
    normalize: str = "NFC"
    encoding_errors: str = "dead-letter"
    drop_invisible: bool = False


class DeadLetter(NamedTuple):
    """Something set aside: where it starts in the decompressed file, why, and its bytes."""

    offset: int
    reason: str
    content: bytes


def normalize_text(text: str, rules: TextRules) -> str:
    """Apply Unicode normalisation and lower-casing; the number of line feeds stays what it was."""
    text = _normalize(text.translate(_NOTHING) if rules.drop_invisible else text, rules.normalize)
    # Lower-casing may leave what composes: "J̌" has no precomposed capital, "ǰ" is one code point.
    return _normalize(text.lower(), rules.normalize) if rules.lowercase else text


def _normalize(text: str, form: str) -> str:
    if form == "none":
        return text
    if len(text) > _LONG_TEXT:
        text = _decompose(text, "NFKD" if form == "NFKC" else "NFD")
    return unicodedata.normalize(form, text)  # type: ignore[arg-type]


def _decompose(text: str, form: str) -> str:
    """Return unicodedata's normal form, in a time that does not grow with the square of a run of marks."""
    alone = {one: unicodedata.normalize(form, one) for one in set(text)}  # type: ignore[arg-type]
    runs = itertools.groupby("".join(map(alone.__getitem__, text)), lambda one: unicodedata.combining(one) > 0)
    return "".join(["".join(sorted(run, key=unicodedata.combining) if marks else run) for marks, run in runs])


def normalize_lines(data: bytes, offset: int, rules: TextRules) -> tuple[NDArray[np.uint8], list[DeadLetter]]:
    """Normalise whole lines of raw bytes; lines that are set aside become empty ones, so that line feeds stay as many.

    Nearly all characters have a place in a table; only words with others take the way through str.

    Raises:
        InputError: bytes that are no UTF-8, under the policy "fail".
    """
    from pipeline.native.machine import PADDING
    from pipeline.text.lower_kernel import map_lines

    if data.isascii():
        return pad_text(data, rules.lowercase), []
    target = np.empty(len(data) * 3 // 2 + 64 + PADDING, np.uint8)
    source = np.frombuffer(data, np.uint8)
    breaks = np.count_nonzero((source == ord("\n")) | (source == ord(" ")))
    hard = np.empty((breaks + 1, 3), np.int64)
    table = simple_characters(rules.lowercase, rules.normalize, rules.drop_invisible)
    size, rows = map_lines(source, table, rules.lowercase, rules.drop_invisible, cased_letters(), target, hard)
    target[size : size + PADDING] = 0
    text = target[: size + PADDING]
    return _fill_in(text, data, offset, hard[:rows], rules) if rows else (text, [])


def pad_text(text: bytes, lower_ascii: bool = False) -> NDArray[np.uint8]:
    """Copy a text, A–Z in lower case if asked for, and put zeros after it for the kernels, which read blocks."""
    from pipeline.native.machine import PADDING
    from pipeline.text.lower_kernel import copy_text

    target = np.empty(len(text) + PADDING, np.uint8)
    copy_text(np.frombuffer(text, np.uint8), lower_ascii, target)
    return target


def _fill_in(
    text: NDArray[np.uint8], data: bytes, offset: int, hard: NDArray[np.int64], rules: TextRules
) -> tuple[NDArray[np.uint8], list[DeadLetter]]:
    """Put what the table left out into its places, by way of str: begin, end and place in each row."""
    filled, letters, done, known = list[NDArray[np.uint8]](), list[DeadLetter](), 0, dict[str, str]()
    for start in range(0, len(hard), _LINES):
        some = hard[start : start + _LINES].tolist()
        lines = [data[begin:end] for begin, end, _ in some]
        texts, dead = _decode(lines, rules)
        pieces = list[NDArray[np.uint8]]()
        for line, (_, _, place) in zip(texts, some, strict=True):
            normal = _normalize_words(line, rules, known).encode("utf-8")
            pieces += (text[done:place], np.frombuffer(normal, np.uint8))
            done = place
        filled.append(np.concatenate(pieces))
        letters += [DeadLetter(offset + some[index][0], "invalid-utf-8", lines[index]) for index in dead]
    return np.concatenate([*filled, text[done:]]), letters


def _normalize_words(line: str, rules: TextRules, known: dict[str, str]) -> str:
    """Normalise a line word by word: most words of a line need it as little as they change from line to line.

    A space ends every context: nothing composes across it, and no sigma looks beyond it.
    """
    words = line.split(" ")
    for word in words:
        if word not in known:
            known[word] = normalize_text(word, rules)
    return " ".join([known[word] for word in words])


@functools.lru_cache(maxsize=8)
def simple_characters(lowercase: bool, normalize: str, drop_invisible: bool = False) -> NDArray[np.uint16]:
    """What characters become that go their way alone, uint16 by code point below 0x10000; 0 for all others.

    Not simple are those whose lower case is no single character or depends on its neighbours (capital sigma), and,
    under normalisation, marks and all else that may not be in normal form next to another character: the
    quick check of UAX #15, section 9. What has another single character as its normal form is simple if that one is.
    """
    table = np.zeros(1 << 16, np.uint16)
    seconds = _second_characters() if normalize != "none" else frozenset[str]()
    for code in (*range(0x80, 0xD800), *range(0xE000, 1 << 16)):
        one = chr(code)
        normal = _normalize(one, normalize)
        lower = normal.lower() if lowercase else normal
        if len(normal) > 1 or len(lower) > 1 or (lowercase and normal == "\u03a3") or ord(lower) >= 1 << 16:
            continue
        if lower == " ":  # a space of another kind, which ends no context
            continue
        if normalize == "none" or (
            not unicodedata.combining(one)
            and one not in seconds
            and all(_is_inert(c, normalize, seconds) for c in {normal, lower})
        ):
            table[code] = ord(lower)
    if drop_invisible:
        table[list(map(ord, INVISIBLE))] = 0
    table.flags.writeable = False
    return table


@functools.cache
def cased_letters() -> NDArray[np.bool_]:
    """Before which characters, by code point below 0x2000, str.lower takes no capital sigma for a final one."""
    return np.array([f"A\u03a3{chr(code)}".lower()[1] == "\u03c3" for code in range(0x2000)])


def _is_inert(character: str, normalize: str, seconds: frozenset[str]) -> bool:
    return (
        not unicodedata.combining(character)
        and character not in seconds
        and unicodedata.is_normalized(normalize, character)  # type: ignore[arg-type]
    )


@functools.cache
def _second_characters() -> frozenset[str]:
    """Characters that compose with one before them."""
    found = {chr(code) for code in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}  # vowels and finals of Hangul
    for code in range(0x80, 0x11A00):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            found.add(chr(int(parts[1], 16)))
    return frozenset(found)


def line_offset(data: bytes, offset: int, line: int) -> int:
    """Return where line number ``line`` of ``data`` starts, in the file in which ``data`` starts at ``offset``."""
    return _line_starts(data.split(b"\n"), offset)[line]


def _decode(lines: list[bytes], rules: TextRules) -> tuple[list[str], list[int]]:
    """Decode lines by the policy; also the indices of those set aside, which become empty."""
    try:
        return b"\n".join(lines).decode("utf-8").split("\n"), []
    except UnicodeDecodeError as error:
        if rules.encoding_errors == "fail":
            raise InputError(
                f"the byte 0x{error.object[error.start]:02x} is not valid UTF-8 (see --encoding-errors)"
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
