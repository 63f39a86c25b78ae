"""Joining words that are phrases: "new york" becomes the token "new_york".

The phrases of a round are pairs of tokens; a later round may join what an earlier one made. `join_sentence` is the
rule in readable form; `Phrases.join` is the same rule in compiled loops, for whole chunks.

Source: Mikolov et al. 2013, "Distributed Representations of Words and Phrases", §4, and word2phrase.c.

Shape suffixes: T tokens of a chunk, U units: tokens that were joined, and those that were not.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.dataset.phrases import load_phrases
from pipeline.native.machine import PADDING
from pipeline.native.process import once_a_process
from pipeline.phrases.kernel import join_units, set_pairs, write_units
from pipeline.results import PhraseFile
from pipeline.text.tokenize import Tokens
from pipeline.vocabulary.lookup import TokenLookup

#: Between the words of a joined token.
JOINT = "_"


def join_sentence(words: Sequence[str], phrases: Container[tuple[str, str]]) -> list[str]:
    """Join neighbours that are phrases, from left to right; a word joins one neighbour at most in a round."""
    joined, place = [], 0
    while place < len(words):
        pair = tuple(words[place : place + 2])
        taken = 2 if pair in phrases else 1
        joined.append(JOINT.join(pair[:taken]))
        place += taken
    return joined


class Phrases:
    """The phrases of all rounds; read-only once made, so any number of threads may share them."""

    def __init__(self, rounds: Iterable[pa.Table]) -> None:
        """Build the lookup tables from tables of PHRASES_SCHEMA, one a round, in order."""
        tables = [table for table in rounds if len(table)]
        if not tables:
            self._rounds: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
            return
        words = pc.unique(pa.chunked_array([c for t in tables for n in ("first", "second") for c in t[n].chunks]))
        self._lookup = TokenLookup(pa.chunked_array([words]))
        self._rounds = [_pair_table(table, words) for table in tables]

    def join(self, tokens: Tokens) -> Tokens:
        """Apply one round after the other to every sentence of a chunk."""
        if not self._rounds or not len(tokens.starts_T):
            return tokens
        ids_U, ends_S = self._lookup.encode(tokens), tokens.ends_S.copy()
        units, firsts_U = len(ids_U), np.arange(len(ids_U) + 1, dtype=np.int32)
        for keys, joined in self._rounds:
            units = join_units(ids_U[:units], firsts_U, ends_S, keys, joined)
        firsts_U[units] = len(ids_U)
        return _write(tokens, firsts_U[: units + 1], ends_S)


def _pair_table(table: pa.Table, words: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return keys and joined ids, for join_units, of one round's phrases; ids are rows of ``words``."""
    first, second = (pc.index_in(table[name], words).to_numpy().astype(np.int64) for name in ("first", "second"))
    # What no later round joins any further needs no id.
    names = pc.binary_join_element_wise(table["first"], table["second"], JOINT)
    joined = pc.fill_null(pc.index_in(names, words), -1).to_numpy().astype(np.int64)
    slots = 1 << max(4, (2 * len(table)).bit_length())
    keys, values = np.full(slots, -1, np.int64), np.empty(slots, np.int64)
    set_pairs(first << 32 | second, joined, keys, values)
    return keys, values


def _write(tokens: Tokens, firsts_U: NDArray[np.int32], ends_S: NDArray[np.int32]) -> Tokens:
    """Return units as tokens of a text that the joined ones follow."""
    units, used = len(firsts_U) - 1, len(tokens.text)
    room = used + int(tokens.lengths_T.sum()) + len(tokens.lengths_T) + PADDING
    text = np.empty(room, np.uint8)
    text[:used] = tokens.text
    starts_U, lengths_U = np.empty(units, np.int32), np.empty(units, np.int32)
    used = write_units(text, tokens.starts_T, tokens.lengths_T, firsts_U, used, starts_U, lengths_U)
    return Tokens(text[: used + PADDING], starts_U, lengths_U, ends_S, tokens.oversize)


#: Joins nothing.
NO_PHRASES = Phrases([])


@once_a_process(held=2)
def read_phrases(files: tuple[tuple[str, str], ...]) -> Phrases:
    """Load phrases once per process, from URI and SHA-256 of each round's file, in order."""
    return Phrases(load_phrases(uri, sha256) for uri, sha256 in files)


def phrases_of(files: Sequence[PhraseFile]) -> Phrases:
    """Load what earlier rounds of a run wrote; cheap after the first time."""
    return read_phrases(tuple((file.uri, file.entry.sha256) for file in files))
