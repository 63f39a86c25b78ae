"""Real text and evaluation sets for measuring; nothing of them is part of the project (docs/performance.md)."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path

from tests.support.paths import ROOT

FOLDER = Path(os.environ.get("CORPORA") or ROOT.parent / "shared").resolve()


def shared_folder() -> Path:
    """The folder with `corpora/wiki/*.gz` and, if you like, `evalsets/*.tsv`: $CORPORA, or ../shared.

    Exits with one line where there is none.
    """
    if not (FOLDER / "corpora" / "wiki").is_dir():
        raise SystemExit(
            f"error: {FOLDER}: no corpora/wiki in it; set CORPORA to a folder with text in corpora/wiki/*.gz"
        )
    return FOLDER


def evaluation_sets() -> dict[str, Path]:
    """Evaluation sets by name: WordSim-353 and Google's analogies (`analogy`) of gensim, and those of $CORPORA."""
    from gensim.test.utils import datapath

    own = {path.stem: path for path in sorted((FOLDER / "evalsets").glob("*.tsv"))}
    return {"wordsim353": Path(datapath("wordsim353.tsv")), **own, "analogy": Path(datapath("questions-words.txt"))}


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
