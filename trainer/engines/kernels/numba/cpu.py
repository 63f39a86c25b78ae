"""The fused training step on a CPU: negatives shared as one chooses, threads without locks.

Shapes: B pairs, V vocabulary rows, D dimensions.

The batch is cut into segments of about SEGMENT_PAIRS pairs; each has its own random stream, so draws depend on the
key and the position in the batch and never on the number of threads. Threads take contiguous shares of the segments
and update the tables without locks (Hogwild: Niu et al., NeurIPS 2011). One thread gives the same bits each time.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.engines.kernels import MEAN_PAIRS
from trainer.engines.kernels.numba import cbow, skipgram
from trainer.engines.kernels.numba.arguments import Array, check_arrays, check_choices
from trainer.engines.kernels.numba.draws import POOL_ROWS
from trainer.engines.kernels.numba.jit import Step
from trainer.engines.kernels.numba.scratch import Scratch, clear, make_scratch
from trainer.engines.kernels.numba.shape import Shape, shape_for
from trainer.engines.kernels.numba.subwords import Composer
from trainer.engines.kernels.numba.walk import cut_segments
from trainer.subwords.ngrams import Parts

SEGMENT_PAIRS = 16384
TILE_PAIRS = 32
_KEY_MASK = (1 << 64) - 1
_TRAIN = {"skipgram": skipgram.train_segments, "cbow": cbow.train_segments}


def train_batch(*arrays: Array, **settings: Any) -> float:
    """Train on a batch as `start_batch` does, and wait; returns the loss summed over its pairs."""
    return start_batch(*arrays, **settings)()


def start_batch(
    center_B: Array,
    context_B: Array,
    input_VD: npt.NDArray[np.float32],
    output_VD: npt.NDArray[np.float32],
    alias: npt.NDArray[np.uint32],
    *,
    negatives: int,
    architecture: str = "skipgram",
    mean: bool = True,
    predict: str = "center",
    exclude: str = "output",
    learning_rate_start: float,
    learning_rate_end: float,
    key: int,
    threads: int = 1,
    sharing: str = "window",
    composer: Composer | None = None,
    shape: Shape | None = None,
    plain: bool = False,
) -> Callable[[], float]:
    """Begin to train on a batch in place; returns what waits for it, and returns the loss summed over its pairs.

    One thread is this one, and done at the return. Several begin with the batch when they are done with those before,
    so that none waits at the end of one for the others.

    A pair's loss is the sum of its 1 + K terms, from the scores before its update.

    predict="center": IN[context] predicts OUT[center] (word2vec.c's arrangement). A run of equal centers is a
    window, cut after TILE_PAIRS pairs; its pairs are updated at once, from the rows as they were before, unless
    sharing="pair". predict="context": IN[center] predicts OUT[context], one pair after the other (the papers'
    notation).

    sharing="pair": each pair is a step with K negatives of its own, as in word2vec. "window": a window's pairs have
    the same K negatives. "pool": so they have, and consecutive windows have most of theirs in common: the K are taken
    from POOL_ROWS drawn ids, of which each window replaces the oldest. How often a word is a negative is the same.

    architecture="cbow": the mean (or sum) of a window's inputs predicts its center, one step with K negatives a window,
    which is cut after MEAN_PAIRS pairs. A pair's loss is then its window's; what is returned is the mean loss of each
    segment's windows times its pairs.

    A negative equal to an excluded word is drawn again. Only where a window shares its negatives, the term of
    a negative that is one pair's own input word (exclude "input" or "pair") is left out for that pair. A word
    that is drawn again too often (it holds nearly all of the weight) is left out as well.

    Args:
        center_B: int32, ids below V (not checked).
        context_B: int32, ids below V (not checked).
        input_VD: a row's numbers are adjacent; the rows need not be. With a composer, the rows of words' parts.
        output_VD: laid out like input_VD.
        alias: uint32[2V], from `trainer.engines.negatives.build_alias`.
        negatives: K, at least 1.
        architecture: skipgram or cbow.
        mean: CBOW's input is the mean of rows, otherwise their sum.
        predict: center or context.
        exclude: none, output, input or pair.
        learning_rate_start: at the first pair; it falls linearly over the batch.
        learning_rate_end: after the last pair.
        key: with a pair's place in the batch it decides the draws; taken modulo 2⁶⁴.
        threads: at least 1.
        sharing: pair, window or pool.
        composer: what composes words of their parts; without it each word has a row of its own.
        shape: sizes of vectors and tiles; by default those for this processor.
        plain: take the step as plain loops.

    Raises:
        UserError: a wrong choice or number.
        ValueError: an array of another shape, dtype or layout.
    """
    check_arrays(center_B, context_B, input_VD, output_VD, alias, composer is not None)
    check_choices(negatives, predict, exclude, sharing, threads, rows=len(output_VD))
    if center_B.size == 0:
        return float
    window, is_cbow = predict == "center", architecture == "cbow"
    longest = MEAN_PAIRS if is_cbow else TILE_PAIRS if window and sharing != "pair" else 1
    shape = shape or shape_for(negatives + 1)
    pool_rows = max(POOL_ROWS, 1 << (2 * negatives - 1).bit_length()) if sharing == "pool" else 0
    output_ids_B, input_ids_B = (center_B, context_B) if window else (context_B, center_B)
    output_ids_B, input_ids_B = _read_only(output_ids_B), _read_only(input_ids_B)
    no_input = exclude in ("input", "pair")
    if no_input and (is_cbow or composer is not None):
        raise ValueError(f"exclude: found {exclude}, expected none or output for what has several inputs")
    step = Step(
        negatives, longest, exclude in ("output", "pair"), no_input and longest == 1, no_input and longest > 1, mean
    )
    slope = (learning_rate_end - learning_rate_start) / center_B.size
    if composer is None:
        cuts = cut_segments(output_ids_B, SEGMENT_PAIRS, longest)
    else:
        cuts = composer.cut(output_ids_B, input_ids_B, learning_rate_start, SEGMENT_PAIRS, longest)

    dim, tables = input_VD.shape[1], (input_VD, output_VD)
    where = input_VD.ctypes.data, output_VD.ctypes.data, input_VD.strides[0], dim
    common = _read_only(alias), step, (float(learning_rate_start), slope), np.uint64(key & _KEY_MASK)
    shares = _deal_segments(len(cuts) - 1, threads)
    local_ids_B = input_ids_B if composer is None else np.empty_like(input_ids_B)

    def train_shares() -> float:
        loss = 0.0
        scratch = _scratch(threading.get_ident(), shape, negatives, longest, dim, pool_rows, is_cbow)
        clear(scratch)

        def train(ids_B: Array, first: int, last: int, rows: tuple[Array, Array]) -> float:
            pairs = output_ids_B, _read_only(ids_B), cuts, first, last
            if plain:
                return _train_plain(rows, *pairs, *common, pool_rows, is_cbow)
            return float(_TRAIN[architecture](shape, *pairs, (rows[0].ctypes.data, *where[1:]), *common, scratch))

        for share in shares:
            if composer is None:
                loss += train(input_ids_B, *share, tables)
                continue
            for segment, rows_WD in composer.composed(shape, input_ids_B, local_ids_B, cuts, share, where):
                loss += train(local_ids_B, segment, segment + 1, (rows_WD, output_VD))
        return loss

    if threads == 1:
        loss = train_shares()
        return lambda: loss
    pool = _threads(threads, os.getpid())
    parts = [pool.submit(train_shares) for _ in range(threads)]
    return lambda: float(sum(part.result() for part in parts))


def make_composer(parts: Parts, input_RD: Array) -> Composer:
    """What composes the words of a batch, where words have parts."""
    return Composer(parts, input_RD.strides[0] // input_RD.itemsize, len(input_RD), SEGMENT_PAIRS + MEAN_PAIRS)


def _whole_rows(table_VD: Array) -> Array:
    """The table with the gaps between its rows, which is contiguous: only then loops become vector code."""
    return np.lib.stride_tricks.as_strided(table_VD, (len(table_VD), table_VD.strides[0] // table_VD.itemsize))


def _train_plain(
    tables: tuple[Array, Array], output_ids_B: Array, input_ids_B: Array, cuts: Array, first: int, last: int, *rest: Any
) -> float:
    from trainer.engines.kernels.numba.plain import train_segments as train_plain

    whole = *map(_whole_rows, tables), tables[0].shape[1]
    return float(train_plain(output_ids_B, input_ids_B, cuts, first, last, whole, *rest))


def _deal_segments(segments: int, threads: int) -> Iterator[tuple[int, int]]:
    """Shares (first, last + 1) that threads take as they get on: ever smaller ones, so that all end together."""
    shares, first = [], 0
    while first < segments:
        last = first + max(1, (segments - first) // (2 * threads)) if threads > 1 else segments
        shares.append((first, last))
        first = last
    return iter(shares)


@functools.lru_cache(maxsize=64)
def _scratch(_thread: int, *sizes: Any) -> Scratch:
    """Each thread's own: to make one takes as long as a thousand windows."""
    return make_scratch(*sizes)


@functools.lru_cache(maxsize=1)
def _threads(count: int, _process: int) -> ThreadPoolExecutor:
    """Threads that stay: to start new ones takes milliseconds while all cores are busy. A fork has none of them."""
    return ThreadPoolExecutor(count)


def _read_only(array: Array) -> Array:
    """A view that always has one type for the compiler, whether its owner may write or not."""
    view = array.view()
    view.flags.writeable = False
    return view
