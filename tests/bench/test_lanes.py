"""The measurements by hand, on a little: they run, say what they should, and their text is what they claim."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset.shard_index import parse_shards, save_shards
from pipeline.pairs.chunk_stats import file_digests, first_difference, join_rows
from pipeline.pairs.shard_plan import ChunkStats
from pipeline.publishing.written import WrittenShards
from pipeline.stages.chunks import EncodedChunk
from tests.bench import made, scale, scale_stages, skew
from tests.bench.made import token_ids, word_column, words_of


@pytest.mark.parametrize(("tokens", "kinds"), [(1, 1), (7, 7), (1000, 999), (3_000_000, 700_000)])
def test_every_id_stands_in_the_text(tokens: int, kinds: int) -> None:
    ids = np.concatenate(list(token_ids(tokens, kinds)))
    assert len(ids) == tokens
    counts = np.bincount(ids)
    assert (len(counts), counts.min()) == (kinds, 1)
    if tokens > 1_000_000:  # and they are a text's: the first word is about as frequent as Zipf's law has it
        assert counts[0] == pytest.approx((tokens - kinds) * np.log(2) / np.log(kinds), rel=0.05)
        assert (counts == 1).mean() > 0.3


def test_words_are_as_many_as_ids() -> None:
    ids = np.concatenate([np.arange(100_000), [20_000_000, 2**32, 2**40 - 1]])
    assert len(set(words_of(ids).split())) == len(ids)
    assert words_of(ids).count(b"\n") == len(ids) // 20


def test_a_line_has_no_end(tmp_path: Path) -> None:
    made.write_line(tmp_path / "line", 3_000_001, 200_000)
    text = (tmp_path / "line").read_bytes()
    assert (len(text), text.count(b"\n")) == (3_000_001, 0)
    assert Counter(text.split(b" ")).most_common(1)[0][1] > 5000


def test_a_column_of_words_is_their_text() -> None:
    ids = np.concatenate(list(token_ids(1000, 300)))
    assert word_column(ids).to_pylist() == words_of(ids).split()


def test_made_rows_are_what_workers_pack() -> None:
    stats = join_rows(made.packed_chunks(ChunkStats, 63, 10), ChunkStats)
    encoded = join_rows(made.packed_chunks(EncodedChunk, 63, 10), EncodedChunk)
    assert stats.rows["file"].tolist() == sorted(number * 10 // 63 for number in range(63))
    assert stats.rows["chunk"].tolist()[:8] == [0, 1, 2, 3, 4, 5, 6, 0]
    assert first_difference(file_digests(stats.rows), file_digests(encoded.rows)) is None
    data = save_shards(WrittenShards(made.packed_shards(2, 30, 3)).tables())
    assert [len(shard.row_groups) for shard in parse_shards(data.to_pybytes(), "shards.parquet")] == [3] * 60


@pytest.mark.parametrize("name", scale_stages.STAGES)
def test_each_stage_of_a_trillion_tokens(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale_stages, "FILE_TOKENS", 2000)
    sizes = scale_stages.Sizes(1e-6)
    for needed in scale_stages.with_needed([name]):
        stage = scale_stages.STAGES[needed]
        if stage.make is not None:
            stage.make(sizes, tmp_path)
        fed = stage.run(sizes, tmp_path)
    assert fed.elements > 0
    assert 0 < fed.of_all <= 1


def test_what_takes_too_much_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["", "--share", "1e-6", "--only", "plan", "--work", str(tmp_path)])
    assert scale.main() == 0
    assert "| plan | worker | 6 chunks |" in capsys.readouterr().out
    monkeypatch.setitem(scale.LIMIT_MIB, "worker", 10)
    assert scale.main() == 1
    assert "error: plan: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_uneven_text_is_dealt_evenly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["", "--share", "0.002", "--workers", "2", "--work", str(tmp_path)])
    assert skew.main() == 0
    rows = [row.split(" | ") for row in capsys.readouterr().out.splitlines() if row.startswith("| ")]
    assert [row[0] for row in rows[1:]] == ["| counting", "| merging counts", "| encoding", "| writing pairs"]
    for row in rows[1:]:
        shares = list(map(float, row[-1].strip("| ").split(", ")))
        assert sum(shares) == pytest.approx(2, abs=0.02)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_has_more_than_twice_its_share(tmp_path: Path) -> None:
    (tmp_path / "counting.1").write_text("70\n20\n")
    (tmp_path / "counting.2").write_text("10\n")
    assert skew.shares(tmp_path, "counting", 4) == (3, 70, [3.6, 0.4])
