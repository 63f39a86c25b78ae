"""The GPU kernels' steps, line by line in float64 and Python's integers: windows, draws, gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import special

from trainer.engines.negatives import build_alias, unigram_weights

WORD = 1 << 32
ROUNDS, MAX_REDRAWS = 7, 64


def philox(key: int, counter: tuple[int, int, int, int]) -> tuple[int, int]:
    """The first two words of Philox4x32-7 (Salmon et al. 2011)."""
    a, b, c, d = counter
    low, high = key % WORD, key >> 32
    for _ in range(ROUNDS):
        a, b, c, d = (
            (0xCD9E8D57 * c >> 32) ^ b ^ low,
            0xCD9E8D57 * c % WORD,
            (0xD2511F53 * a >> 32) ^ d ^ high,
            0xD2511F53 * a % WORD,
        )
        low, high = (low + 0x9E3779B9) % WORD, (high + 0xBB67AE85) % WORD
    return a, b


@dataclass(frozen=True)
class Batch:
    """Pairs, tables and settings of one call of the kernel."""

    center: np.ndarray
    context: np.ndarray
    input_VD: np.ndarray
    output_VD: np.ndarray
    counts: np.ndarray
    key: int = 1
    rates: tuple[float, float] = (0.1, 0.02)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def alias(self) -> np.ndarray:
        """The alias table of count^0.75."""
        return build_alias(unigram_weights(self.counts, 0.75))


def make_batch(
    seed: int, runs: list[int], *, words: int = 40, dim: int = 8, key: int | None = None, **settings: Any
) -> Batch:
    """A batch with runs of these lengths; few words, so that ids repeat within windows."""
    rng = np.random.default_rng(seed)
    center = np.repeat(rng.integers(0, words, len(runs)), runs).astype(np.int32)
    context = rng.integers(0, words, center.size).astype(np.int32)
    tables = (rng.normal(0, 0.6, (2, words, dim)) / math.sqrt(dim)).astype(np.float32)
    counts = np.ceil(1000 / np.arange(1, words + 1))
    return Batch(center, context, *tables, counts, seed if key is None else key, settings=settings)


def windows(ids: np.ndarray, longest: int, tile: int, segment_pairs: int) -> list[tuple[int, int]]:
    """Begin and end of each window: runs of equal ids, cut after `longest`, and where a segment begins within one."""
    size = len(ids)
    starts = [pair for pair in range(size) if pair == 0 or ids[pair] != ids[pair - 1]]
    cuts = []
    for nominal in range(0, size, segment_pairs):
        near = [pair for pair in starts if nominal <= pair < nominal + tile]
        cuts.append(near[0] if near else nominal)
    found = []
    for begin, stop in zip(cuts, [*cuts[1:], size], strict=True):
        while begin < stop:
            end = begin + 1
            while end < min(stop, begin + longest) and ids[end] == ids[begin]:
                end += 1
            found.append((begin, end))
            begin = end
    return found


def draw(alias: list[int], key: int, pair: int, m: int, excluded: set[int]) -> int | None:
    """Negative m of the window that begins at a pair; None after too many attempts."""
    for attempt in range(MAX_REDRAWS):
        column, chance = philox(key, (pair, m, attempt, 0))
        column = column * (len(alias) // 2) >> 32
        chosen = column if chance < alias[2 * column] else alias[2 * column + 1]
        if chosen not in excluded:
            return chosen
    return None


def negatives_of(batch: Batch, shape: Any, segment_pairs: int) -> Iterator[tuple[int, int, list[int | None]]]:
    """Begin, end and negatives of each window."""
    predict, exclude = (batch.settings.get(name, default) for name, default in _DEFAULTS.items())
    ids, others = (batch.center, batch.context) if predict == "center" else (batch.context, batch.center)
    alias = batch.alias.tolist()
    key = (batch.key & (1 << 31) - 1) | ((batch.key >> 31) & (1 << 31) - 1) << 32
    for begin, end in windows(ids, shape.longest, shape.tile, segment_pairs):
        excluded = {int(ids[begin])} if exclude in ("output", "pair") else set()
        if exclude in ("input", "pair") and shape.longest == 1:
            excluded.add(int(others[begin]))
        yield begin, end, [draw(alias, key, begin, m, excluded) for m in range(1, shape.negatives + 1)]


_DEFAULTS = {"predict": "center", "exclude": "output"}


def step(batch: Batch, shape: Any, segment_pairs: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Loss and both tables after the batch, window after window."""
    predict, exclude = (batch.settings.get(name, default) for name, default in _DEFAULTS.items())
    inputs, outputs = batch.input_VD.astype(np.float64), batch.output_VD.astype(np.float64)
    loss = 0.0
    for begin, end, negatives in negatives_of(batch, shape, segment_pairs):
        rate = batch.rates[0] + (batch.rates[1] - batch.rates[0]) * begin / len(batch.center)
        old_inputs, old_outputs = inputs.copy(), outputs.copy()
        for pair in range(begin, end):
            center, context = int(batch.center[pair]), int(batch.context[pair])
            input_id, output_id = (context, center) if predict == "center" else (center, context)
            masked = input_id if exclude in ("input", "pair") else None
            terms = [(1, output_id), *((0, n) for n in negatives if n is not None and n != masked)]
            for label, word in terms:
                score = old_inputs[input_id] @ old_outputs[word]
                loss += np.logaddexp(0, -score if label else score)  # −log σ(±score)
                change = special.expit(score) - label
                outputs[word] -= rate * change * old_inputs[input_id]
                inputs[input_id] -= rate * change * old_outputs[word]
    return loss, inputs, outputs


def cbow_step(batch: Batch, shape: Any) -> tuple[float, np.ndarray, np.ndarray]:
    """The same with CBOW; the loss is the mean of the windows' times the pairs."""
    inputs, outputs = batch.input_VD.astype(np.float64), batch.output_VD.astype(np.float64)
    losses, pairs = [], len(batch.center)
    for begin, end, negatives in negatives_of(batch, shape, segment_pairs=pairs):
        rate = batch.rates[0] + (batch.rates[1] - batch.rates[0]) * begin / pairs
        words, old_outputs = batch.context[begin:end], outputs.copy()
        factor = 1 / len(words) if batch.settings.get("mean", True) else 1.0
        row_D, change_D, loss = factor * inputs[words].sum(axis=0), np.zeros(inputs.shape[1]), 0.0
        for label, word in [(1, int(batch.center[begin])), *((0, n) for n in negatives if n is not None)]:
            score = row_D @ old_outputs[word]
            loss += np.logaddexp(0, -score if label else score)  # −log σ(±score)
            change = rate * (label - special.expit(score))
            outputs[word] += change * row_D
            change_D += change * old_outputs[word]
        np.add.at(inputs, words, factor * change_D)
        losses.append(loss)
    return float(np.mean(losses)) * pairs, inputs, outputs
