"""Score any vectors on public evaluation sets: one scorer for both systems of a comparison.

    python -m tests.quality.score VECTORS …

VECTORS is a Parquet file with columns `token` and `vector`, or word2vec's binary format; the most frequent word first.
WordSim-353 and Google's analogies come with gensim; word similarity in other `NAME.tsv` files is read from
`$CORPORA/evalsets`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from tests.quality.corpora import evaluation_sets

#: Analogies are scored where all four words are among so many of the most frequent ones, which are also the candidates.
ANALOGY_WORDS = 30_000
ANALOGY_PARTS = ("semantic", "syntactic")
Floats = npt.NDArray[np.float32]


def read_vectors(path: Path) -> tuple[list[str], Floats]:
    """Read tokens and their vectors [V, D]."""
    if path.suffix == ".parquet":
        table = pq.read_table(path, columns=["token", "vector"]).combine_chunks()
        flat = table["vector"].chunk(0).flatten().to_numpy()
        return table["token"].to_pylist(), flat.reshape(len(table), -1)
    from gensim.models import KeyedVectors

    vectors = KeyedVectors.load_word2vec_format(str(path), binary=True)
    return vectors.index_to_key, vectors.vectors


def score(tokens: Sequence[str], table_VD: Floats) -> dict[str, float]:
    """Spearman's ρ of each similarity set, and accuracy on Google's questions: all, of meaning, of grammar."""
    if not np.isfinite(table_VD).all():
        raise ValueError("NaN or Inf in the vectors")
    unit_VD = table_VD / np.maximum(np.linalg.norm(table_VD, axis=1, keepdims=True), 1e-12)
    index = {token.lower(): row for row, token in reversed(list(enumerate(tokens)))}
    sets = evaluation_sets()
    questions = sets.pop("analogy")
    found = {name: _similarity(path, index, unit_VD) for name, path in sets.items()}
    found |= _analogies(questions, index, unit_VD[:ANALOGY_WORDS])
    return {name: round(value, 4) for name, value in found.items()}


def _similarity(path: Path, index: dict[str, int], unit_VD: Floats) -> float:
    lines = [line.split()[:3] for line in path.read_text(encoding="utf-8").splitlines() if line[:1] not in ("", "#")]
    known = [(a.lower(), b.lower(), float(gold)) for a, b, gold in lines if {a.lower(), b.lower()} <= index.keys()]
    rows_N2 = np.array([(index[a], index[b]) for a, b, _ in known]).reshape(-1, 2)
    cosines_N = (unit_VD[rows_N2[:, 0]] * unit_VD[rows_N2[:, 1]]).sum(axis=1)
    return float(np.corrcoef(_ranks([gold for *_, gold in known]), _ranks(cosines_N))[0, 1])


def _ranks(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Ranks, where equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _analogies(path: Path, index: dict[str, int], unit_VD: Floats) -> dict[str, float]:
    """3CosAdd: the nearest word to b − a + c, other than these three, must be d."""
    known, of_grammar, grammar = [], [], False
    for line in path.read_text(encoding="utf-8").lower().splitlines():
        rows = [index.get(word, len(unit_VD)) for word in line.split()]
        if line.startswith(":"):
            grammar = line.startswith(": gram")
        elif rows and max(rows) < len(unit_VD):
            known.append(rows)
            of_grammar.append(grammar)
    known_N4, grammar_N = np.array(known, np.int64).reshape(-1, 4), np.array(of_grammar, bool)
    right_N = np.zeros(len(known_N4), bool)
    for start in range(0, len(known_N4), 512):
        a, b, c, d = known_N4[start : start + 512].T
        cosines = (unit_VD[b] - unit_VD[a] + unit_VD[c]) @ unit_VD.T
        for given in (a, b, c):
            np.put_along_axis(cosines, given[:, None], -np.inf, axis=1)
        right_N[start : start + 512] = cosines.argmax(axis=1) == d
    parts = {"analogy": right_N, "semantic": right_N[~grammar_N], "syntactic": right_N[grammar_N]}
    return {name: float(right.mean()) if len(right) else 0.0 for name, right in parts.items()}


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(json.dumps({"vectors": name, **score(*read_vectors(Path(name)))}))
