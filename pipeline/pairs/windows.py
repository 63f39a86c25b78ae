"""From ids to pairs: subsample a sentence, draw a radius for each word, pair it with the words around it.

`sentence_pairs` is the rule in readable form, for one sentence; `make_row_groups` is the same rule over whole runs
of sentences, through a compiled loop.

Shape suffixes: T tokens, N pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset.schema import ROW_GROUP_PAIRS
from pipeline.dataset.shards import Pairs
from pipeline.pairs.draws import SUBSAMPLE, WINDOW, raw_words, stream_key
from pipeline.pairs.sentences import SentenceRun
from pipeline.pairs.subsample import is_kept


@dataclass(frozen=True, eq=False)
class PairRules:
    """What turns ids into pairs.

    Attributes:
        window: largest radius W; 0 for the whole sentence, whatever ``fixed`` is.
        fixed: every radius is W; otherwise it is drawn from 1 to W, as word2vec.c does.
        seed: of all draws.
        thresholds_V: uint64, from subsample.keep_thresholds.
    """

    window: int
    fixed: bool
    seed: int
    thresholds_V: NDArray[np.uint64]


def draw_radii(words_T: NDArray[np.uint64], window: int) -> NDArray[np.int64]:
    """Map raw words to radii uniform in 1 … ``window``, by multiplying their upper halves."""
    return (((words_T >> np.uint64(32)) * np.uint64(window)) >> np.uint64(32)).astype(np.int64) + 1


def sentence_pairs(run: SentenceRun, rules: PairRules, pass_index: int) -> tuple[list[list[tuple[int, int]]], int]:
    """Return the (center, context) pairs of each sentence of a run, and how many tokens were kept."""
    place = (pass_index, run.file, run.chunk)
    kept_T = is_kept(
        raw_words(stream_key(rules.seed, SUBSAMPLE, *place), run.first, len(run.ids_T)), rules.thresholds_V[run.ids_T]
    )
    radii_T = draw_radii(raw_words(stream_key(rules.seed, WINDOW, *place), run.first, len(run.ids_T)), rules.window)
    result, begin = [], 0
    for length in run.lengths_S.tolist():
        tokens = [t for t in range(begin, begin + length) if kept_T[t]]
        ids = run.ids_T[tokens].tolist()
        pairs = []
        for i, t in enumerate(tokens):
            radius = len(ids) if not rules.window else rules.window if rules.fixed else int(radii_T[t])
            around = (*range(max(0, i - radius), i), *range(i + 1, min(len(ids), i + radius + 1)))
            pairs += [(ids[i], ids[j]) for j in around]
        result.append(pairs)
        begin += length
    return result, int(kept_T.sum())


class PairMaker:
    """Pairs of a shard, row group by row group; `kept` counts the tokens left after subsampling."""

    def __init__(self, rules: PairRules, pass_index: int) -> None:
        self._rules = rules
        self._pass_index = pass_index
        self.kept = 0

    def row_groups(self, runs: Sequence[SentenceRun]) -> Iterator[Pairs]:
        """Yield row groups that end on a sentence's end; the arrays are good until the next one is asked for."""
        from pipeline.native.machine import SEVERAL
        from pipeline.pairs.kernel import pair_sentences

        rules, filled = self._rules, 0
        longest = max((int(run.lengths_S.max()) for run in runs if len(run.lengths_S)), default=0)
        # No word of a sentence is farther away than all of it is long.
        window, fixed = (rules.window, rules.fixed) if rules.window else (longest, True)
        # A row group closes at the first sentence's end after its aim, so one sentence's pairs must fit besides.
        room = ROW_GROUP_PAIRS + longest * min(2 * window, longest) + 2 * SEVERAL
        center, context = np.empty(room, np.int32), np.empty(room, np.int32)
        for run in runs:
            keys = [
                stream_key(rules.seed, purpose, self._pass_index, run.file, run.chunk)
                for purpose in (SUBSAMPLE, WINDOW)
            ]
            sentence, token = 0, 0
            while sentence < len(run.lengths_S):
                sentence, token, filled, kept = pair_sentences(
                    run.ids_T, run.lengths_S, sentence, token, run.first, keys[0], keys[1], rules.thresholds_V,
                    window, fixed, center, context, filled, ROW_GROUP_PAIRS,
                )  # fmt: skip
                self.kept += kept
                if filled >= ROW_GROUP_PAIRS:
                    yield center[:filled], context[:filled]
                    filled = 0
        if filled:
            yield center[:filled], context[:filled]
