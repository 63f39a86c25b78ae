"""The audit finds what is left out, what comes twice and what is another pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset.reader import Dataset, open_dataset
from tests.support.datasets import group_of, make_dataset
from trainer.data.order import epoch_order, read_ahead
from trainer.distributed.group import Processes
from trainer.errors import UserError
from trainer.training.audit import Audit, hash_pairs


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return open_dataset(make_dataset(tmp_path / "d", passes=[[[group_of([[1, 2, 3, 4]]), group_of([[3, 1, 0]])]]]))


def audited(dataset: Dataset, fault: str = "") -> dict[str, int]:
    places = epoch_order(dataset, 1, 0)
    audit = Audit(Processes())
    audit.begin_epoch(len(places))
    for place, center, context in read_ahead(dataset, places):
        if fault == "missing" and place.index == 1:
            center, context = center[1:], context[1:]
        if fault == "altered_row_groups" and place.index == 1:
            context = (context + 1) % 5
        audit.count(place, center, context)
        if fault == "repeated" and place.index == 0:
            audit.count(place, center[:2], context[:2])
    return audit.end_epoch(dataset, places)


def test_what_is_complete_passes(dataset: Dataset) -> None:
    clean = {"missing": 0, "repeated": 0, "altered_row_groups": 0}
    assert audited(dataset) == {"pairs": dataset.pairs_in_pass(0), **clean}


@pytest.mark.parametrize(("fault", "count"), [("missing", 1), ("repeated", 2), ("altered_row_groups", 1)])
def test_what_is_wrong_is_counted(dataset: Dataset, fault: str, count: int) -> None:
    with pytest.raises(UserError, match=rf"--audit: epoch 1: found .*'{fault}': {count}"):
        audited(dataset, fault)


def test_hashes_tell_pairs_apart_but_not_their_order() -> None:
    center, context = np.array([1, 2, 3], np.int32), np.array([4, 5, 6], np.int32)
    assert hash_pairs(center, context) == hash_pairs(center[::-1], context[::-1])
    assert hash_pairs(center, context) != hash_pairs(context, center)
    assert hash_pairs(center, context) != hash_pairs(center, context[[1, 0, 2]])
    assert hash_pairs(center[:0], context[:0]) == 0


def test_a_training_that_began_without_cannot_be_audited_later() -> None:
    with pytest.raises(UserError, match="--audit: found a training that began without it"):
        Audit(Processes()).load_state({"input": 1})
