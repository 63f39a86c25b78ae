"""Tables before training."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.dataset.vocabulary import make_vocabulary
from trainer.engines import init as tables
from trainer.engines.init import initial_tables, warm_tables
from trainer.errors import UserError
from trainer.models.store import Model
from trainer.models.tensors import is_finite


def test_word2vec_starts_outputs_at_zero() -> None:
    input_VD, output_VD = initial_tables("word2vec", 2000, 10, seed=3)
    assert input_VD.dtype == output_VD.dtype == np.float32
    assert not output_VD.any()
    assert np.abs(input_VD).max() < 0.5 / 10
    assert stats.kstest(input_VD.ravel() * 10 + 0.5, "uniform").pvalue > 0.01


def test_uniform_draws_both_tables_apart() -> None:
    input_VD, output_VD = initial_tables("uniform", 2000, 10, seed=3)
    assert stats.kstest(output_VD.ravel() * 10 + 0.5, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(input_VD.ravel(), output_VD.ravel())[0, 1]) < 0.03


def test_normal_is_standard_normal() -> None:
    input_VD, output_VD = initial_tables("normal", 2000, 10, seed=3)
    for table in (input_VD, output_VD):
        assert stats.kstest(table.ravel(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(input_VD.ravel(), output_VD.ravel())[0, 1]) < 0.03


@pytest.mark.parametrize("init", ["word2vec", "uniform", "normal"])
@pytest.mark.parametrize("dim", [7, 19])
def test_blocks_leave_no_mark(init: str, dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = initial_tables(init, 100, dim, seed=5)
    monkeypatch.setattr(tables, "_BLOCK_NUMBERS", 64)
    for one, other in zip(whole, initial_tables(init, 100, dim, seed=5), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("dim", "apart"), [(4, 4), (16, 16), (17, 32), (100, 112), (128, 128)])
def test_rows_begin_with_cache_lines(dim: int, apart: int) -> None:
    for table_VD in initial_tables("uniform", 9, dim, seed=1):
        assert table_VD.shape == (9, dim)
        assert table_VD.strides == (4 * apart, 4)
        assert table_VD.ctypes.data % 64 == 0


def test_another_seed_is_another_table() -> None:
    assert (initial_tables("word2vec", 9, 4, seed=1)[0] != initial_tables("word2vec", 9, 4, seed=2)[0]).all()


def test_too_large_a_table_is_one_line() -> None:
    with pytest.raises(
        UserError, match=r"--dim 65536: found \d+ MiB of memory, expected \d+ MiB .* 2147483647 words; lower it"
    ):
        initial_tables("word2vec", 2**31 - 1, 1 << 16, seed=1)


def test_known_words_keep_their_vectors_by_token() -> None:
    old = make_vocabulary(["a", "gone", "b"], [3, 2, 1])
    trained = np.arange(6, dtype=np.float32).reshape(3, 2)
    new = make_vocabulary(["b", "new", "a"], [9, 8, 7])
    fresh = initial_tables("uniform", 3, 2, seed=1)
    expected = [table.copy() for table in fresh]
    for table, source in zip(expected, (trained, -trained), strict=True):
        table[0], table[2] = source[2], source[0]
    warm = warm_tables(fresh, new, Model(trained, -trained, old, {}))
    for found, wanted in zip(warm, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_another_dimension_is_refused() -> None:
    words = make_vocabulary(["a"], [1])
    model = Model(np.zeros((1, 3), np.float32), np.zeros((1, 3), np.float32), words, {})
    with pytest.raises(UserError, match="found vectors of 3 dimensions, expected 2"):
        warm_tables(initial_tables("uniform", 1, 2, seed=1), words, model)


@pytest.mark.parametrize(("value", "finite"), [(1.0, True), (np.nan, False), (np.inf, False), (-np.inf, False)])
def test_nan_and_infinity_are_seen(value: float, finite: bool) -> None:
    table = np.zeros((3, 2), np.float32)
    table[1, 1] = value
    assert is_finite(table) is finite
