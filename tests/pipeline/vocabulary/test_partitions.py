"""Words are counted in partitions, of which a larger input has more: nothing depends on how many, nothing holds one."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline import job
from pipeline.config import Config
from pipeline.dataset.reader import open_dataset
from pipeline.dataset.vocabulary import order_rows
from pipeline.phrases import score
from pipeline.phrases.score import PAIRS_SCHEMA, Counts, PairCounter
from pipeline.stages.spill import FileSpill, Spill
from pipeline.stages.vocabulary import merge_ordered
from pipeline.transforms import phrases, text_to_pairs
from pipeline.vocabulary import count, partitions
from pipeline.vocabulary.count import COUNTS_SCHEMA, TokenCounter, merge_counts, table_to_bytes
from pipeline.vocabulary.lookup import TokenLookup
from pipeline.vocabulary.partitions import MOST_PARTITIONS, PARTITION_BYTES, partition_count
from tests.pipeline.test_job import text_of
from tests.pipeline.vocabulary.test_count import tokens_of

ELSEWHERE = "--runner=apache_beam.runners.portability.fn_api_runner.fn_runner.FnApiRunner"


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, 64),
        (64 * PARTITION_BYTES, 64),
        (64 * PARTITION_BYTES + 1, 128),
        (6_200_000_000_000, 2048),
        (1 << 60, MOST_PARTITIONS),
    ],
)
def test_partitions_follow_the_input(size: int, expected: int) -> None:
    assert partition_count(size) == expected


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("partitions") / "corpus"
    folder.mkdir()
    for number in range(2):
        rare = " ".join(f"rare{n} rare{n + number}" for n in range(1500))
        (folder / f"{number}.txt").write_text(text_of(number) + "new york is new york\n" * 40 + rare)
    return folder


def digests(corpus: Path, output: Path, *beam_flags: str) -> dict[str, str]:
    """SHA-256 of all files of a dataset but those that tell one run from another."""
    config = Config((f"{corpus}/*",), str(output), min_count=2, sample=0.05, phrases=1, phrase_threshold=(2.0,),
                    phrase_min_count=2, shard_pairs=3000)  # fmt: skip
    dataset = open_dataset(str(output), job.run_job(config, beam_flags).run_id)
    assert all(rows > 0 for rows in (len(dataset.vocabulary()), len(dataset.shards)))
    folder = output / "runs" / dataset.run_id
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("run.json", "listing.parquet")]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_bytes_do_not_depend_on_how_many_there_are(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(count, "ARENA_LIMIT_BYTES", 40_000)  # several payloads a partition
    found, asked = [], list[int]()
    for number in (1, 64, 1024):
        monkeypatch.setattr(job, "partition_count", lambda size, number=number: asked.append(size) or number)
        found.append(digests(corpus, tmp_path / str(number)))
    assert found[0] == found[1] == found[2]
    assert {"vocab.parquet", "phrases/round-01.parquet"} < found[0].keys()
    assert set(asked) == {sum(path.stat().st_size for path in corpus.iterdir())}
    monkeypatch.setattr(job, "partition_count", lambda _: 128)
    assert digests(corpus, tmp_path / "shuffled", ELSEWHERE) == found[0]


class Payload(bytes):
    """A payload that says whether it is still held."""

    alive = most = 0

    def __new__(cls, data: bytes) -> Payload:
        cls.alive += 1
        cls.most = max(cls.most, cls.alive)
        return super().__new__(cls, data)

    def __del__(self) -> None:
        type(self).alive -= 1


class Shuffled:
    """What a runner hands on for a key: payloads that it makes one by one, as often as they are gone through."""

    def __init__(self, payloads: Sequence[bytes]) -> None:
        self._payloads = payloads
        Payload.alive = Payload.most = 0

    def __iter__(self) -> Iterator[bytes]:
        return (Payload(payload) for payload in self._payloads)


def emitted(do_fn: Any, *arguments: Any) -> list[Any]:
    do_fn.setup()
    do_fn.start_bundle()
    try:
        return [item.value for item in do_fn.process(*arguments)]
    finally:
        do_fn.teardown()


def test_merging_holds_a_few_payloads(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table([[b"%d" % n for n in range(500)], np.ones(500, np.int64)], schema=COUNTS_SCHEMA)
    monkeypatch.setattr(count, "FOLD_BYTES", 3 * table.nbytes)
    shuffled = Shuffled([table_to_bytes(table)] * 150)
    merging = text_to_pairs._MergeCounts(Config((), "", threads=1), Spill(), None, 64)
    [merged] = emitted(merging, (0, shuffled))
    assert set(count.table_from_bytes(merged)["count"].to_pylist()) == {150}
    assert Payload.most <= 5
    assert Payload.alive == 0


def pairs_payload(number: int) -> bytes:
    """Counts of a part of the pairs, each of which stands in one payload, its words perhaps in another."""
    words = pa.table([[b"a", b"%d" % number], [1000, 10]], schema=COUNTS_SCHEMA)
    second = pa.array([b"%d" % (149 - number)] * 100, pa.binary())
    first = pa.array([b"f%d" % n for n in range(100)], pa.binary())
    pairs = pa.table([first, second, pa.array([15] * 100)], schema=PAIRS_SCHEMA)
    return Counts(words, pairs.append_column("first_count", pa.array([20] * 100))).to_bytes()


def test_phrases_are_scored_a_few_payloads_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    payloads = [pairs_payload(number) for number in range(150)]
    monkeypatch.setattr(score, "BATCH_BYTES", 2 * len(payloads[0]))
    shuffled = Shuffled(payloads)
    scoring = phrases._ScorePairs(1, Config((), "", phrases=1, threads=1), Spill())
    [found] = emitted(scoring, (0, shuffled), 100_000)
    table = count.table_from_bytes(found)
    assert len(table) == 15_000
    assert set(table["score"].to_pylist()) == {(15 - 5) / 20 / 10 * 100_000}
    assert Payload.most <= 5
    del table, found
    assert Payload.alive == 0


def test_pairs_are_merged_a_few_payloads_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    words = pa.table([[b"%d" % n for n in range(100)], [2] * 100], schema=COUNTS_SCHEMA)
    pairs = pa.table([words["token"], words["token"], words["count"]], schema=PAIRS_SCHEMA)
    payload = Counts(words, pairs).to_bytes()
    monkeypatch.setattr(count, "FOLD_BYTES", 3 * len(payload))
    merging = phrases._MergePairs(Config((), "", phrases=1, threads=1), Spill(), 64)
    merged = emitted(merging, (0, Shuffled([payload] * 150)))
    counts = [score.counts_from_bytes(data).pairs["count"].to_pylist() for _, data in merged]
    assert [one for part in counts for one in part] == [300] * 100
    assert Payload.most <= 5


@pytest.mark.parametrize("known", [[], ["w9", "w50"]])
def test_a_partition_leaves_no_more_new_words_than_the_vocabulary_may_have(known: list[str]) -> None:
    table = pa.table([[b"w%d" % n for n in range(100)], list(range(100, 0, -1))], schema=COUNTS_SCHEMA)
    kept = TokenLookup(pa.chunked_array([known])) if known else None
    merged = merge_counts([table], 5, kept, max_rows=3)["token"].to_pylist()
    assert merged == sorted({b"w0", b"w1", b"w2", *(word.encode() for word in known)}, key=lambda w: int(w[1:]))


def test_the_merge_holds_a_bounded_number_of_rows_whatever_the_partitions(tmp_path: Path) -> None:
    spill = FileSpill(str(tmp_path))
    table = pa.table([[b"%d" % n for n in range(5000)], np.ones(5000, np.int64)], schema=COUNTS_SCHEMA)
    place = spill.put(table_to_bytes(table))
    for number, rows in ((64, 5000), (1024, 1024), (4096, 256)):
        merging = text_to_pairs._MergeCounts(Config((), "", min_count=1, threads=1), spill, None, number)
        merging.setup()
        merging.start_bundle()
        at_once = [item.value for item in merging.process((0, [place]))]  # where a thread is that fast
        [merged] = at_once + [item.value.value for item in merging.finish_bundle()]
        sizes = [len(batch) for batch in pa.ipc.open_stream(spill.open(merged))]
        assert max(sizes) == rows
        merging.teardown()


def test_streams_of_a_file_share_its_descriptor(tmp_path: Path) -> None:
    spill = FileSpill(str(tmp_path))
    places = [spill.put(table_to_bytes(pa.table([[b"%d" % n], [n]], schema=COUNTS_SCHEMA))) for n in range(300)]
    spill.close()
    before = len(list(Path("/proc/self/fd").iterdir()))
    streams = [spill.open(place) for place in places]
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
    assert [pa.ipc.open_stream(stream).read_all()["count"].to_pylist() for stream in streams] == [
        [n] for n in range(300)
    ]
    streams.clear()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_many_streams_merge_in_large_steps() -> None:
    draw = np.random.Generator(np.random.Philox(key=1))
    streams, total = [], 0
    for part in range(100):
        counts = draw.integers(1, 1 << 40, 640)
        table = order_rows(pa.table([[b"%d %d" % (part, n) for n in range(640)], counts], schema=COUNTS_SCHEMA))
        streams.append(iter([table.slice(start, 64) for start in range(0, 640, 64)]))
        total += len(table)
    merged = list(merge_ordered(streams))
    assert sum(map(len, merged)) == total
    joined = pa.concat_tables(merged)
    assert joined.equals(order_rows(joined))
    assert len(merged) < 50  # of 1,000 tables; one at a time would be as many steps


@pytest.mark.parametrize("number", [1, 3, 64, 200, 4096])
def test_payloads_hold_each_pair_once_with_its_first_word(number: int) -> None:
    counter = PairCounter()
    counter.add(tokens_of([f"w{n * n % 977}" for n in range(3000)]))
    found = dict[tuple[bytes, bytes], int]()
    for part, (words, pairs) in counter.parts(number):
        parts = [partitions.partition_of(column, 2 * number).tolist() for column in (words["token"], pairs["first"])]
        assert set(parts[0] + parts[1]) == {part}
        assert set(pairs["first"].to_pylist()) <= set(words["token"].to_pylist())
        for row in pairs.to_pylist():
            assert (row["first"], row["second"]) not in found
            found[row["first"], row["second"]] = row["count"]
    whole = [b"w%d" % (n * n % 977) for n in range(3000)]
    assert found == Counter(itertools.pairwise(whole))


def test_payloads_of_many_partitions_hold_each_word_once() -> None:
    counter, number = TokenCounter(), 4096
    words = [f"w{n}" for n in range(3000)]
    counter.add(tokens_of(words))
    found: dict[bytes, int] = {}
    for part, table in counter.partitions(number):
        assert partitions.partition_of(table["token"], number).tolist() == [part] * len(table)
        found |= dict(zip(table["token"].to_pylist(), table["count"].to_pylist(), strict=True))
    assert found == {word.encode(): 1 for word in words}
