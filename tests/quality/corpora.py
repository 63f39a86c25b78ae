"""Real text for measuring, from a folder beside the checkout; nothing of it is part of the project."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def shared_folder() -> Path:
    """The folder with corpora/, evalsets/ and measure/: $CORPORA, or ../shared.

    Exits with one line where there is none.
    """
    folder = Path(os.environ.get("CORPORA") or ROOT.parent / "shared").resolve()
    if not (folder / "corpora" / "wiki").is_dir():
        raise SystemExit(f"error: {folder}: found no corpora/wiki, expected real text (set CORPORA=folder)")
    return folder


def plain_words(shared: Path, work: Path) -> Path:
    """Write the wiki corpus as lower-case a–z words, one paragraph a line, once; return the file.

    Both systems of a comparison must see the same tokens.
    """
    target = work / "wiki-az.txt"
    if target.exists():
        return target
    work.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".tmp")
    with temporary.open("w", encoding="ascii") as out:
        for source in sorted((shared / "corpora" / "wiki").glob("*.gz")):
            with gzip.open(source, "rt", encoding="utf-8") as lines:
                out.writelines(
                    words + "\n" for line in lines if (words := re.sub("[^a-z]+", " ", line.lower()).strip())
                )
    temporary.rename(target)
    return target
