"""Much of the text is set aside: it is counted to the last byte, and no more of it is held than is to be kept."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline import cli, job
from pipeline.config import Config
from pipeline.dataset.reader import Dataset, open_dataset
from pipeline.dataset.verify import verify_run
from pipeline.text.dead_letters import LETTER_BYTES, SetAside

ELSEWHERE = "--runner=apache_beam.runners.portability.fn_api_runner.fn_runner.FnApiRunner"
LIMIT = 20_000
GOOD = b"the quick brown fox jumps over the lazy dog\n"
BAD = "déjà vu à la crème brûlée {}\n"


def run(folder: Path, output: Path, *beam_flags: str, **options: Any) -> Dataset:
    settings = {
        "min_count": 1, "sample": 0.0, "max_dead_letter_fraction": 1.0, "max_dead_letter_bytes": LIMIT, "run_id": "r",
        **options,
    }  # fmt: skip
    done = job.run_job(Config((f"{folder}/*",), str(output), **settings), beam_flags)
    return open_dataset(str(output), done.run_id)


def rows_of(dataset: Dataset) -> list[dict[str, Any]]:
    names = sorted(name for name in dataset.manifest.files if name.startswith("dead-letters/"))
    return [row for name in names for row in pq.read_table(dataset.path_of(name)).to_pylist()]


@pytest.fixture(scope="module")
def latin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files of good lines and then more of another encoding, one of them compressed."""
    folder = tmp_path_factory.mktemp("latin") / "in"
    folder.mkdir()
    for number, opened in enumerate((open, open, gzip.open)):
        bad = "".join(BAD.format(n) for n in range(15_000)).encode("latin-1")
        with opened(folder / f"{number}.txt", "wb") as file:  # type: ignore[operator]
            file.write(GOOD * 50 + bad + GOOD * 50)
    return folder


@pytest.fixture(scope="module")
def dataset(latin: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return run(latin, tmp_path_factory.mktemp("latin") / "out")


def test_all_are_counted_and_the_first_ones_kept(dataset: Dataset) -> None:
    corpus, rows = dataset.manifest.corpus, rows_of(dataset)
    assert corpus.dead_letters == {"invalid-utf-8": 45_000}
    assert corpus.dead_letter_bytes == 3 * sum(len(BAD.format(n)) - 1 for n in range(15_000))
    assert corpus.kept_dead_letters == {"invalid-utf-8": len(rows)}
    assert corpus.kept_dead_letter_bytes == sum(len(row["content"]) for row in rows)
    charged = corpus.kept_dead_letter_bytes + len(rows) * LETTER_BYTES
    assert LIMIT - 2 * len(BAD) - LETTER_BYTES < charged <= LIMIT
    numbers = [(row["file"], int(row["content"].split()[-1])) for row in rows]
    assert numbers == sorted(numbers)
    each = [sum(file == f"{number}.txt" for file, _ in numbers) for number in range(3)]
    assert sum(each) == len(rows)
    assert max(each) - min(each) <= 1  # of all files alike
    assert {number for _, number in numbers} == set(range(max(each)))
    assert verify_run(dataset.uri).dataset_id == dataset.dataset_id


@pytest.mark.parametrize(
    ("beam_flags", "options"),
    [
        ((), {"threads": 1}),
        ((ELSEWHERE,), {}),
        (("--direct_num_workers=2", "--direct_running_mode=multi_threading"), {"read_block_bytes": 4096}),
    ],
    ids=["one thread", "through the shuffle", "two workers"],
)
def test_the_same_ones_are_kept_on_every_runner(
    beam_flags: tuple[str, ...], options: dict[str, Any], latin: Path, dataset: Dataset, tmp_path: Path
) -> None:
    assert run(latin, tmp_path, *beam_flags, **options).dataset_id == dataset.dataset_id


def test_the_fraction_ends_the_run_before_the_vocabulary(
    latin: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "write_vocabulary", lambda *_: pytest.fail("it was counted on"))
    with pytest.raises(Exception, match="set aside") as error:
        run(latin, tmp_path, max_dead_letter_fraction=0.001)
    corpus = dataset.manifest.corpus
    found = f"found {corpus.dead_letter_bytes} of {corpus.bytes} bytes set aside"
    share = f"({corpus.dead_letter_bytes / corpus.bytes:.3%}: 45,000 invalid-utf-8, first in 0.txt at byte 2,200)"
    assert cli.error_line(error.value) == (
        f"{tmp_path}/runs/r/dead-letters: {found} {share}, expected at most --max-dead-letter-fraction 0.001; "
        "see --encoding"
    )
    [part] = (tmp_path / "runs/r/dead-letters").iterdir()
    assert pq.read_table(part).to_pylist() == rows_of(dataset)


@pytest.mark.parametrize("beam_flags", [(), (ELSEWHERE,)], ids=["in process", "through the shuffle"])
def test_a_file_of_bad_records_alone_is_held_to_the_limit(
    beam_flags: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, original = [0], SetAside.add

    def add(self: SetAside, *letter: Any) -> None:
        original(self, *letter)
        most[0] = max(most[0], self._size)

    monkeypatch.setattr(SetAside, "add", add)
    (tmp_path / "in").mkdir()
    record = json.dumps({"body": "no text here"}) + "\n"
    (tmp_path / "in" / "a.jsonl").write_bytes(record.encode() * 30_000)
    (tmp_path / "in" / "b.jsonl").write_bytes(b'{"text": "a few good words"}\n' * 100)
    dataset = run(tmp_path / "in", tmp_path / "out", *beam_flags, input_format="jsonl")
    assert dataset.manifest.corpus.dead_letters == {"no-text-field": 30_000}
    assert 0 < most[0] <= 2 * LIMIT
    offsets = [row["offset"] for row in rows_of(dataset)]
    assert offsets == [n * len(record) for n in range(len(offsets))]
    assert len(offsets) == LIMIT // (len(record) - 1 + LETTER_BYTES)


def test_none_are_kept_where_none_are_wanted(latin: Path, dataset: Dataset, tmp_path: Path) -> None:
    without = run(latin, tmp_path, max_dead_letter_bytes=0)
    assert rows_of(without) == []
    corpus = without.manifest.corpus
    assert (corpus.kept_dead_letters, corpus.kept_dead_letter_bytes) == ({}, 0)
    assert corpus.dead_letters == dataset.manifest.corpus.dead_letters
