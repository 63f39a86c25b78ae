"""Negative words: drawn by count^power, in exact integer arithmetic.

Shapes: B pairs, K negatives a pair, V vocabulary rows, E excluded words a pair.

A draw that hits an excluded word is drawn again, so a pair always has K negatives; word2vec.c and gensim skip such
a draw and go on with fewer. So the loss of a pair starts at exactly (K + 1)·ln 2 where all scores are 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainer.config import EXCLUDE
from trainer.errors import UserError

_EXCLUDED_WORDS = {"none": 0, "output": 1, "input": 1, "pair": 2}
_COLUMN = 1 << 32  # what one column of an alias table holds
_TOTAL = 1 << 52  # the sampler's weights add up to about this: exact in float64
_PURPOSE = int.from_bytes(b"negative", "big")
_WORD_MASK = (1 << 64) - 1

Ints = npt.NDArray[np.int64]


def unigram_weights(counts_V: npt.NDArray[np.number], power: float) -> npt.NDArray[np.float64]:
    """Probabilities in proportion to count^power (Mikolov et al. 2013: 0.75; 0 is uniform, 1 plain frequency).

    Raises:
        UserError: a power below 0, or no word that can be drawn.
    """
    if not 0 <= power < np.inf:
        raise UserError(f"--power: found {power}, expected a number of at least 0")
    counts_V = np.asarray(counts_V, np.float64)
    if counts_V.size == 0 or not counts_V.max() > 0 or counts_V.min() < 0:
        raise UserError("vocabulary: found no words with a positive count, expected at least one")
    weights_V = (counts_V / counts_V.max()) ** power  # the quotient keeps large powers finite
    return np.asarray(weights_V / weights_V.sum(), np.float64)


def drawable_weights(counts_V: npt.NDArray[np.number], power: float, exclude: str) -> npt.NDArray[np.float64]:
    """Probabilities as by `unigram_weights`, of which an alias table leaves enough words that can be drawn."""
    probabilities_V = unigram_weights(counts_V, power)
    words = int(np.count_nonzero(probabilities_V * (probabilities_V.size * float(_COLUMN)) >= 0.5))
    _require_drawable(exclude, words, counts_V, power, finest=probabilities_V.size * float(_COLUMN))
    return probabilities_V


def _require_drawable(
    exclude: str, words: int, counts_V: npt.NDArray[np.number], power: float, finest: float, negatives: int = 1
) -> None:
    """Refuse a power that leaves too few words, and name one that does not; see `check_exclude`.

    Args:
        exclude: one of EXCLUDE.
        words: how many words can be drawn.
        counts_V: how often each word occurs.
        power: what the counts were raised to.
        finest: steps of the sampler's probabilities between 0 and 1.
        negatives: how many different words a pair needs.
    """
    needed = _needed(exclude, negatives)
    if words >= needed:
        return
    present = np.sort(np.asarray(counts_V)[np.asarray(counts_V) > 0])
    if present.size >= needed:
        fall = np.log(present[-1] / present[-needed])  # above 0, or these words would have equal weights
        raise UserError(
            f"--power {power:g}: leaves {words} of {present.size} words that can be drawn as negatives, expected at "
            f"least {needed} for --exclude {exclude}; for this vocabulary, powers up to about "
            f"{np.floor(np.log(finest) / fall * 10) / 10:g} do that"
        )
    check_exclude(exclude, words, negatives)


def build_alias(probabilities_V: npt.NDArray[np.float64]) -> npt.NDArray[np.uint32]:
    """Walker's alias table, interleaved uint32[2V]: a threshold, then the alias's id.

    With a uniform column i and a uniform 32-bit word r the draw is i where r < table[2i], else table[2i + 1].
    Each implied probability is within a few units of 1/(V·2³²) of the one asked for; the same input gives the same
    table.

    Method: Vose's sweep (1991) in closed form, O(V log V) in whole arrays. Light columns lack a deficit, heavy words
    have a surplus, both summed in id order; the words of both are along these two running sums, and where
    a heavy word's own surplus ends within a light column, what it overdraws is filled by the next heavy word.
    """
    rows = probabilities_V.size
    ends_V = np.cumsum(probabilities_V)
    edges = np.rint(np.concatenate([[0.0], ends_V / ends_V[-1]]) * float(rows * _COLUMN)).astype(np.int64)
    weights_V = np.diff(edges)  # whole numbers that add up to exactly V columns
    light, heavy = np.flatnonzero(weights_V < _COLUMN), np.flatnonzero(weights_V > _COLUMN)
    threshold_V = np.minimum(weights_V, _COLUMN)
    alias_V = np.arange(rows, dtype=np.int64)
    if heavy.size:
        lack = _COLUMN - weights_V[light]
        deficit, surplus = np.cumsum(lack), np.cumsum(weights_V[heavy] - _COLUMN)
        alias_V[light] = heavy[np.searchsorted(surplus, deficit - lack, side="right")]
        last_filled = np.searchsorted(deficit, surplus[:-1], side="left")
        threshold_V[heavy[:-1]] = _COLUMN - (deficit[last_filled] - surplus[:-1])
        alias_V[heavy[:-1]] = heavy[1:]
    table = np.empty(2 * rows, np.uint32)
    table[0::2] = np.minimum(threshold_V, _COLUMN - 1)  # a full column is its own alias: any threshold will do
    table[1::2] = np.where(threshold_V == _COLUMN, np.arange(rows), alias_V)
    return table


def check_exclude(exclude: str, words: int, negatives: int = 1) -> None:
    """Refuse what could never be drawn.

    Raises:
        UserError: an unknown choice, or fewer words than it takes.
    """
    needed = _needed(exclude, negatives)
    if words < needed:
        raise UserError(
            f"--exclude {exclude}: found a vocabulary of {words} words that can be drawn, expected at least {needed}"
            f" to have {negatives} different negatives besides the excluded words"
        )


def _needed(exclude: str, negatives: int) -> int:
    if exclude not in EXCLUDE:
        raise UserError(f"--exclude: found {exclude!r}, expected one of {', '.join(EXCLUDE)}")
    return negatives + _EXCLUDED_WORDS[exclude]


class NegativeSampler:
    """Reference draws: exact, by inversion of the cumulated weights with the excluded words cut out.

    No draw is ever rejected, so each takes one random word and none can loop, whatever the weights.
    """

    def __init__(
        self,
        counts_V: npt.NDArray[np.number],
        *,
        power: float = 0.75,
        exclude: str = "output",
        distinct: bool = False,
        seed: int = 1,
    ) -> None:
        """Prepare the weights.

        Args:
            counts_V: how often each word occurs.
            power: at least 0.
            exclude: none, or the pair's output word, input word or both (pair): never among its negatives.
            distinct: a pair's negatives all differ: drawn one after the other without replacement, each in
                proportion to the weights of the words that remain.
            seed: with a draw's key it decides the draw; taken modulo 2⁶⁴.
        """
        probabilities_V = unigram_weights(counts_V, power)
        self._weights_V: Ints = np.rint(probabilities_V * _TOTAL).astype(np.int64)
        np.maximum(self._weights_V, probabilities_V > 0, out=self._weights_V)
        self._ends_V: Ints = np.cumsum(self._weights_V)
        self._words = int(np.count_nonzero(self._weights_V))
        self._exclude, self._distinct, self._seed = exclude, distinct, seed & _WORD_MASK
        self._counts_V, self._power = counts_V, power
        self._require_drawable(1)

    def draw(
        self, input_B: npt.NDArray[np.number], output_B: npt.NDArray[np.number], negatives: int, *, key: tuple[int, int]
    ) -> Ints:
        """Negatives int64[B, K] of a batch.

        Args:
            input_B: ids of the pairs' input words.
            output_B: ids of the pairs' output words.
            negatives: K.
            key: where the batch is in the run, (epoch, step): the draw depends on nothing that came before.

        Raises:
            UserError: distinct negatives, and fewer than K words besides the excluded ones.
        """
        self._require_drawable(negatives if self._distinct else 1)
        random_BK = self._random_words(input_B.size * negatives, key).reshape(input_B.size, negatives)
        excluded_BE = self._excluded(input_B, output_B)
        if not self._distinct:
            return self._choose(random_BK, excluded_BE)
        ids_BK = np.empty(random_BK.shape, np.int64)
        for k in range(negatives):
            ids_BK[:, k] = self._choose(random_BK[:, k : k + 1], excluded_BE)[:, 0]
            excluded_BE = np.concatenate([excluded_BE, ids_BK[:, k : k + 1]], axis=1)
        return ids_BK

    def _require_drawable(self, negatives: int) -> None:
        _require_drawable(self._exclude, self._words, self._counts_V, self._power, _TOTAL, negatives)

    def _random_words(self, size: int, key: tuple[int, int]) -> npt.NDArray[np.uint64]:
        epoch, step = key
        generator = np.random.Philox(
            key=np.array([self._seed, _PURPOSE], np.uint64), counter=np.array([0, 0, step, epoch], np.uint64)
        )
        return np.asarray(generator.random_raw(size), np.uint64)

    def _excluded(self, input_B: npt.NDArray[np.number], output_B: npt.NDArray[np.number]) -> Ints:
        chosen = {"none": (), "output": (output_B,), "input": (input_B,), "pair": (input_B, output_B)}[self._exclude]
        return np.stack(chosen, axis=1).astype(np.int64) if chosen else np.empty((input_B.size, 0), np.int64)

    def _choose(self, random_BK: npt.NDArray[np.uint64], excluded_BE: Ints) -> Ints:
        """Lay the words that remain end to end, throw a dart, then move it past each excluded word before it."""
        excluded_BE = np.sort(excluded_BE, axis=1)
        cut_BE = self._weights_V[excluded_BE]
        cut_BE[:, 1:][excluded_BE[:, 1:] == excluded_BE[:, :-1]] = 0
        start_BE = self._ends_V[excluded_BE] - self._weights_V[excluded_BE]
        remaining_B1 = self._ends_V[-1] - cut_BE.sum(axis=1, keepdims=True)
        dart_BK = ((random_BK >> np.uint64(11)) * 2.0**-53 * remaining_B1).astype(np.int64)
        np.minimum(dart_BK, remaining_B1 - 1, out=dart_BK)  # the product may round up
        for e in range(excluded_BE.shape[1]):
            dart_BK += np.where(dart_BK >= start_BE[:, e : e + 1], cut_BE[:, e : e + 1], 0)
        return np.asarray(np.searchsorted(self._ends_V, dart_BK, side="right"), np.int64)
