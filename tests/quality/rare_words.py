"""Do vectors of words that were never trained lie near those of their lemmas? With n-grams, beside the real fastText.

    python -m tests.quality.rare_words [--languages french russian] [--epochs 5] [--seeds 1] [--work work/rare]

A corpus beside the checkout is cut into words by our tokenizer; both systems train on that text. Words of it below
min_count are unknown to both. Those that an ending away from a known word is left of are asked for, by their n-grams:
French plurals, feminines, verbs and adverbs; Russian cases and verbs. Printed is how often the known word is the first
of all words by cosine, is among the first ten, and its mean reciprocal rank.
"""

from __future__ import annotations

import argparse
import gzip
import os
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.bench.peers import Settings, fasttext_vectors, train_ours
from tests.quality.corpora import shared_folder
from tests.quality.words import our_words
from tests.support.paths import ROOT
from trainer.keyed_vectors.vectors import load

Floats = npt.NDArray[np.float32]
MIN_COUNT = 5
KNOWN = 20  # a lemma occurs at least so often
SHORTEST = 4  # letters of what an ending is cut from
#: Endings that make forms of a word: of what is rare, and of what is known in its place.
ENDINGS = {
    "french": [
        ("s", ""), ("es", ""), ("e", ""), ("aux", "al"), ("ment", ""), ("ait", "er"), ("aient", "er"), ("ant", "er"),
        ("èrent", "er"), ("eront", "er"), ("era", "er"), ("ées", "er"), ("euse", "eur"), ("trice", "teur"),
    ],
    "russian": [
        ("ами", "а"), ("ами", ""), ("ах", "а"), ("ах", ""), ("ам", "а"), ("ов", ""), ("ом", ""), ("ой", "а"),
        ("у", "а"), ("ы", "а"), ("ого", "ый"), ("ому", "ый"), ("ыми", "ый"), ("ых", "ый"), ("ую", "ый"), ("ала", "ать"),
        ("али", "ать"), ("ают", "ать"), ("ила", "ить"), ("или", "ить"), ("остью", "ость"),
    ],
}  # fmt: skip


def plain_text(language: str, work: Path) -> Path:
    """Write the words of a corpus, a line for each of its lines, once; return the file."""
    target = work / f"{language}.txt"
    if target.exists():
        return target
    temporary = target.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as out:
        for source in sorted((shared_folder() / "corpora" / language).glob("*.gz")):
            out.writelines(" ".join(words) + "\n" for words in our_words(gzip.decompress(source.read_bytes())))
    temporary.rename(target)
    return target


def rare_forms(counts: Counter[str], endings: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Unknown words that are a known word with another ending; by the longest ending that one has."""
    found = {}
    by_length = sorted(endings, key=lambda pair: -len(pair[0]))
    for word, count in sorted(counts.items()):
        if count < MIN_COUNT:
            stems = ((word.removesuffix(ending), instead) for ending, instead in by_length if word.endswith(ending))
            lemmas = (stem + instead for stem, instead in stems if len(stem) >= SHORTEST)
            lemma = next((lemma for lemma in lemmas if counts[lemma] >= KNOWN), None)
            if lemma:
                found[word] = lemma
    return found


def ranks(asked_ND: Floats, lemmas: Sequence[str], tokens: Sequence[str], table_VD: Floats) -> npt.NDArray[np.int64]:
    """Of each lemma, its place from 1 among all known words by their cosine with what was asked for."""
    rows = {token: row for row, token in enumerate(tokens)}
    unit_VD = table_VD / np.maximum(np.linalg.norm(table_VD, axis=1, keepdims=True), 1e-12)
    cosines_NV = asked_ND @ unit_VD.T
    own_N = cosines_NV[np.arange(len(lemmas)), [rows[lemma] for lemma in lemmas]]
    return 1 + (cosines_NV > own_N[:, None]).sum(axis=1)


def ours(text: Path, work: Path, settings: Settings, words: Sequence[str]) -> tuple[list[str], Floats, Floats]:
    """Tokens, their vectors, and those of some words, of a training of ours."""
    data, model = str(work / "data"), str(work / "model")
    subprocess.run(["rm", "-rf", data, model], check=True)
    train_ours(text, data, model, settings)
    vectors = load(model)
    return list(vectors.index_to_key), np.array(vectors.vectors), np.array([vectors[word] for word in words])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--languages", nargs="+", choices=sorted(ENDINGS), default=sorted(ENDINGS))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "rare")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    print("| language | forms | trained by | first | first ten | mean reciprocal rank |\n|---|---|---|---|---|---|")
    common = Settings(subwords="3-6", epochs=args.epochs, threads=os.cpu_count() or 1)
    for language in args.languages:
        text = plain_text(language, args.work)
        forms = rare_forms(Counter(text.read_text(encoding="utf-8").split()), ENDINGS[language])
        words, lemmas = list(forms), list(forms.values())
        found: dict[str, list[npt.NDArray[np.int64]]] = {}
        for settings in (replace(common, seed=seed) for seed in range(1, args.seeds + 1)):
            tokens, table_VD, asked_ND = ours(text, args.work, settings, words)
            found.setdefault("pairstream", []).append(ranks(asked_ND, lemmas, tokens, table_VD))
            theirs = fasttext_vectors(text, args.work / "peer.bin", settings, words)
            found.setdefault("fastText", []).append(ranks(theirs[2], lemmas, *theirs[:2]))
        for name, places in found.items():
            ranks_N = np.concatenate(places)
            cells = (f"{value:.3f}" for value in ((ranks_N == 1).mean(), (ranks_N <= 10).mean(), (1 / ranks_N).mean()))
            print(f"| {language} | {len(words)} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
