"""How often processes join, at which rate, and when a rising loss ends a training."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import TrainConfig
from trainer.distributed.merge_plan import (
    JOINS_AN_EPOCH,
    PAIRS_A_PROCESS,
    default_merge_pairs,
    plan_merges,
    rate_factor,
    supported_processes,
)
from trainer.errors import UserError
from trainer.training.divergence import FEWEST_PAIRS, MOST_RISE, LossGuard

CONFIG = TrainConfig("d", "m").resolve(lambda: False, 1)


@given(st.integers(1, 1 << 24), st.lists(st.integers(1, 1 << 20), min_size=1))
def test_a_process_never_trains_more_between_two_joins(merge_pairs: int, rows: list[int]) -> None:
    plan = plan_merges(merge_pairs, max(rows))
    most = min(plan.batch_size or max(rows), max(rows)) * plan.batches
    assert 1 <= most <= merge_pairs
    assert plan.batch_size <= merge_pairs
    # and no much fewer, where a row group does not end before
    assert most > merge_pairs / 2


@given(st.integers(1, 10**12), st.integers(2, 64))
def test_the_default_is_a_number_of_joins_an_epoch(epoch_pairs: int, processes: int) -> None:
    pairs = default_merge_pairs(epoch_pairs, processes, 10**8, "cpu")
    assert pairs >= 1
    if epoch_pairs > 10**6:
        assert epoch_pairs / (pairs * processes) == pytest.approx(JOINS_AN_EPOCH, rel=0.01)


def test_a_gpu_joins_less_often_than_joining_would_take_a_twentieth() -> None:
    table_bytes, epoch_pairs = 10**9, 10**8
    pairs = default_merge_pairs(epoch_pairs, 8, table_bytes, "cuda")
    assert pairs > default_merge_pairs(epoch_pairs, 8, table_bytes, "cpu")
    assert default_merge_pairs(10**13, 8, table_bytes, "cuda") == default_merge_pairs(10**13, 8, table_bytes, "cpu")


def test_the_rate_grows_with_the_processes_and_ends_somewhere() -> None:
    factors = [rate_factor(processes) for processes in (1, 2, 4, 8, 16, 1000)]
    assert factors[0] == 1.0
    assert factors == sorted(factors)
    assert factors[-1] == factors[-2] == pytest.approx(1.25)


def test_a_corpus_supports_so_many_processes() -> None:
    assert [supported_processes(n * PAIRS_A_PROCESS + 5, 100) for n in (0, 1, 16)] == [1, 1, 16]
    assert [supported_processes(n * PAIRS_A_PROCESS + 5, 300) for n in (0, 1, 16)] == [1, 1, 2]


def feed(losses: list[float], guard: LossGuard) -> None:
    for loss in losses:
        for _ in range(4):
            guard.add(FEWEST_PAIRS // 4, loss * (FEWEST_PAIRS // 4))


@pytest.mark.parametrize(
    ("processes", "advice"),
    [(1, "lower --learning-rate"), (8, "fewer processes than 8, lower --merge-pairs")],
)
def test_a_loss_that_rises_ends_the_training(processes: int, advice: str) -> None:
    guard = LossGuard(CONFIG, processes, 0)
    feed([4.1, 3.0, 2.5, 2.5 * MOST_RISE - 0.01, 2.6], guard)
    with pytest.raises(UserError, match=re.escape("rose from 2.500 to 3.300 a pair, so it diverges; ")) as error:
        feed([3.3], guard)
    assert advice in str(error.value)


@pytest.mark.parametrize("losses", [[4.1, 3.0, 2.4, 2.3], [2.0, 2.1, 2.2, 2.3]], ids=["falling", "a falling rate's"])
def test_what_is_usual_goes_on(losses: list[float]) -> None:
    feed(losses, LossGuard(CONFIG, 2, 0))


def test_losses_that_come_late_belong_to_their_pairs() -> None:
    """An engine that runs ahead owes the last step's loss until it is waited for."""
    guard, step = LossGuard(CONFIG, 1, 0), FEWEST_PAIRS // 4
    for _ in range(6):
        for late in [0.0, *[2.0] * 9]:
            guard.add(step, late * step, settled=False)
        guard.add(0, 2.0 * step)
    with pytest.raises(UserError, match=re.escape("rose from 2.000 to 2.500 a pair")):
        guard.add(8 * step, 2.5 * 8 * step)


def test_single_odd_steps_do_not_end_it() -> None:
    guard = LossGuard(CONFIG, 1, 8 * 10**6)
    add: Callable[[int, float], None] = guard.add
    for loss in [*[2.0] * 12, 4.0, *[2.0] * 20, 4.0, *[2.0] * 20]:
        add(10**5, loss * 10**5)
