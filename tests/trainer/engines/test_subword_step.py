"""Words made of parts: the step of the CPU kernel and of the reference, against plain loops in float64."""

from __future__ import annotations

import numpy as np
import pytest

from tests.trainer.engines.test_cpu_kernel import Batch, make_batch
from tests.trainer.engines.test_engines import COUNTS_V, WORDS, make_config, some_pairs
from trainer.config import TrainConfig
from trainer.engines.base import Engine, pending_loss
from trainer.engines.choose import make_engine
from trainer.engines.init import empty_table, initial_tables, row_counts
from trainer.engines.kernels.numba.cpu import make_composer, train_batch
from trainer.engines.kernels.numba.subwords import shared_share
from trainer.errors import UserError
from trainer.subwords.ngrams import Parts

BUCKETS = 30


def make_parts(words: int, buckets: int = BUCKETS, seed: int = 1) -> Parts:
    """A word's own row, and up to nine of the buckets', some of them twice."""
    rng = np.random.default_rng(seed)
    rows = [[word, *(words + rng.integers(0, buckets, rng.integers(0, 10)))] for word in range(words)]
    ends = np.cumsum([0, *map(len, rows)])
    return Parts(ends.astype(np.int64), np.concatenate(rows).astype(np.int32))


def of_word(parts: Parts, word: int) -> np.ndarray:
    return parts.rows[parts.offsets[word] : parts.offsets[word + 1]]


def tables_with_buckets(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """The batch's tables, rows of buckets after the words' own, laid out as the engines have them."""
    words, dim = batch.input_VD.shape
    rng = np.random.default_rng(5)
    tables = empty_table(words + BUCKETS, dim), empty_table(words, dim)
    tables[0][:], tables[1][:] = rng.normal(0, 0.3, (words + BUCKETS, dim)), batch.output_VD
    return tables


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("architecture", ["skipgram", "cbow"])
@pytest.mark.parametrize("dim", [5, 20, 100])
def test_parts_move_as_far_as_their_word_does(architecture: str, dim: int, plain: bool) -> None:
    """A segment: compose each word, train the composed rows as if they were words', spread what changed."""
    batch = make_batch(2, [3, 7, 1, 10, 2], dim=dim, architecture=architecture, plain=plain)
    parts, tables = make_parts(len(batch.input_VD)), tables_with_buckets(batch)
    before = tables[0].astype(np.float64)
    composed = np.stack([before[of_word(parts, word)].mean(axis=0) for word in range(len(batch.output_VD))])
    words = empty_table(*batch.output_VD.shape), empty_table(*batch.output_VD.shape)
    words[0][:], words[1][:] = composed, batch.output_VD
    loss = train_batch(batch.center, batch.context, *words, batch.alias, **batch.settings)
    expected = before.copy()
    for word in np.unique(batch.context):
        np.add.at(expected, of_word(parts, word), words[0][word] - composed[word])

    composer = make_composer(parts, tables[0])
    found = train_batch(
        batch.center, batch.context, *tables, batch.alias, composer=composer, **batch.settings
    )  # fmt: skip
    assert found == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(tables[0], expected, rtol=0, atol=2e-6)
    np.testing.assert_allclose(tables[1], words[1], rtol=0, atol=2e-6)


def test_words_that_are_no_more_than_their_rows_train_as_without_parts() -> None:
    words = 2000
    batch = make_batch(4, np.random.default_rng(1).integers(1, 9, 3000).tolist(), dim=20, words=words)
    plain, own = empty_table(words, 20), empty_table(words, 20)
    plain[:] = own[:] = batch.input_VD
    parts = Parts(np.arange(words + 1, dtype=np.int64), np.arange(words, dtype=np.int32))
    outputs = [empty_table(words, 20) for _ in range(2)]
    losses = [
        train_batch(batch.center, batch.context, table, output, batch.alias, composer=composer, **batch.settings)
        for table, output, composer in zip((plain, own), outputs, (None, make_composer(parts, own)), strict=True)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    np.testing.assert_allclose(plain, own, rtol=0, atol=1e-5)
    np.testing.assert_allclose(*outputs, rtol=0, atol=1e-5)


def test_one_thread_gives_the_same_bytes() -> None:
    batch = make_batch(4, np.random.default_rng(1).integers(1, 9, 8000).tolist(), dim=20, words=60)
    parts = make_parts(60)
    found = []
    for _ in range(2):
        tables = tables_with_buckets(batch)
        composer = make_composer(parts, tables[0])
        train_batch(batch.center, batch.context, *tables, batch.alias, composer=composer, **batch.settings)
        found.append(b"".join(table.tobytes() for table in tables))
    assert found[0] == found[1]


def test_the_share_of_parts_that_words_have_in_common() -> None:
    """Three words of two parts each, of which the first two share one; the third and fourth have nothing of others."""
    parts = Parts(np.array([0, 2, 4, 6, 7]), np.array([0, 4, 1, 4, 2, 5, 3], np.int32))
    steps = np.zeros(4, np.int64), np.zeros(6, np.int64)
    ids_B = np.array([0, 0, 1, 2, 2, 0], np.int32)
    for _ in range(2):  # what is counted in is cleared
        assert shared_share(ids_B, parts, *steps) == pytest.approx((3 * 1 / 2 + 1 * 3 / 2) / 6**2)
    assert shared_share(np.array([2, 3], np.int32), parts, *steps) == 0


def test_segments_are_shorter_where_words_share_more_and_steps_are_longer() -> None:
    ids_B = np.resize(np.arange(12, dtype=np.int32), 30_000)
    output_ids_B = np.repeat(ids_B, 5)[:30_000]
    apart = Parts(np.arange(13, dtype=np.int64), np.arange(12, dtype=np.int32))

    def lengths(parts: Parts, rate: float) -> np.ndarray:
        composer = make_composer(parts, np.zeros((12 + BUCKETS, 4), np.float32))
        return np.diff(composer.cut(output_ids_B, ids_B, rate, 16384, 32))

    assert lengths(apart, 0.1)[0] == pytest.approx(16384, abs=5)
    assert lengths(make_parts(12), 0.0)[0] == pytest.approx(16384, abs=5)
    slow, fast = (lengths(make_parts(12), rate) for rate in (0.01, 0.02))
    assert np.median(slow) == pytest.approx(2 * np.median(fast), rel=0.1)
    assert np.median(slow) < 1000
    assert slow.sum() == fast.sum() == 30_000
    assert np.median(lengths(make_parts(12), 1e6)) == pytest.approx(64, abs=5)


def engine_of(config: TrainConfig, words: int = WORDS) -> tuple[Engine, Parts]:
    parts = make_parts(words, config.buckets)
    tables = initial_tables(config.init, words, config.dim, config.seed, config.buckets)
    return make_engine(config, tables, np.resize(COUNTS_V, words), parts), parts


def test_reference_step_moves_each_part_by_the_words_gradient() -> None:
    """One pair without negatives that share rows: every part of its input moves by what the mean's gradient is."""
    config = make_config("reference", subwords="3-6", buckets=BUCKETS, batch_size=1, exclude="none")
    engine, parts = engine_of(config)
    before, output = (table.astype(np.float64).copy() for table in engine.tables())
    engine.step(np.array([3], np.int32), np.array([5], np.int32), lr_start=0.1, lr_end=0.1, key=1)
    after = engine.tables()[0] - before
    rows = of_word(parts, 5)
    expected = np.zeros_like(before)
    change = after[5]
    np.add.at(expected, rows, change)
    assert np.abs(change).max() > 1e-3
    np.testing.assert_allclose(after, expected, atol=1e-6)
    assert set(np.flatnonzero(np.abs(after).any(axis=1))) == set(rows.tolist())
    assert output.shape == (WORDS, config.dim)


@pytest.mark.parametrize(
    ("words", "buckets", "threads"), [(WORDS, BUCKETS, 1), (300, BUCKETS, 1), (300, 750, 1), (300, 750, 2)]
)
@pytest.mark.parametrize("architecture", ["skipgram", "cbow"])
def test_loss_falls(architecture: str, words: int, buckets: int, threads: int) -> None:
    """Also where few words take many steps; but two threads that race for the rows of twelve words learn by luck."""
    settings = {"architecture": architecture, "threads": threads, "dim": 20}
    config = make_config("fused", subwords="3-6", buckets=buckets, **settings)
    engine, _ = engine_of(config, words)
    pairs = some_pairs(3000, words=words)
    first = engine.measure(*pairs, key=1)
    for key in range(20):
        engine.step(*pairs, lr_start=0.1, lr_end=0.1, key=key)
    pending_loss(engine)
    assert engine.measure(*pairs, key=1) < 0.95 * first


def test_rows_are_as_frequent_as_the_words_that_they_are_part_of() -> None:
    parts = Parts(np.array([0, 2, 5]), np.array([0, 2, 1, 2, 4], np.int32))
    assert row_counts(parts, np.array([10, 3])).tolist() == [10, 3, 13, 0, 3]


def test_a_table_larger_than_memory_is_refused_before_it_is_made() -> None:
    with pytest.raises(
        UserError, match=r"--buckets 2000000000 and --dim 300: found \d+ MiB of memory, expected \d+ MiB"
    ):
        initial_tables("word2vec", 1000, 300, 1, buckets=2_000_000_000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subwords": "6-3"}, "--subwords: found 6-3, expected MIN-MAX"),
        ({"subwords": "three"}, "--subwords: found 'three', expected MIN-MAX"),
        ({"subwords": "3-6", "buckets": 0}, "--buckets: found 0"),
        ({"subwords": "3-6", "exclude": "input"}, "--exclude: found input with --subwords"),
        ({"subwords": "3-6", "follow_latest": True}, "--follow-latest: cannot be combined with --subwords"),
    ],
)
def test_rules_that_cannot_be_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_config("fused", **changes)
