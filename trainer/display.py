"""Words and numbers in aligned columns on a terminal, whatever the script."""

from __future__ import annotations

import unicodedata


def printable(token: str) -> str:
    """Escape what would move a terminal's cursor or act on it; letters, marks and joiners stay."""
    return "".join(c if c.isprintable() or c in "\u200c\u200d" else ascii(c)[1:-1] for c in token)


def display_width(text: str) -> int:
    """Return the columns that ``text`` takes on a terminal: wide characters two, marks and joiners none."""
    return sum(_character_width(character) for character in text)


def _character_width(character: str) -> int:
    # Hangul vowels and final consonants join the syllable before them.
    if unicodedata.category(character) in ("Mn", "Me", "Cf") or "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
