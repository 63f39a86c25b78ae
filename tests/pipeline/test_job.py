"""The whole job, in process, on small text."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import cli, job, runners
from pipeline.config import Config
from pipeline.dataset.reader import Dataset, open_dataset
from pipeline.errors import ConfigError
from pipeline.pairs.sentences import SentenceRun
from pipeline.pairs.subsample import keep_thresholds
from pipeline.pairs.windows import PairRules, sentence_pairs
from pipeline.publishing import publish as finish
from pipeline.stages.spill import Spill
from pipeline.storage import storage
from pipeline.storage.storage import PointerMovedError
from pipeline.text.normalize import TextRules, normalize_text
from pipeline.text.tokenize import split_tokens
from tests.support.paths import ROOT

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "and",
    "naïve",
    "Ωmega",
    "don't",
    "l’été",
    "日本",
    "_x_",
    "42",
]


def text_of(number: int, lines: int = 300) -> str:
    """Made text: a fixed walk through a few words, different for each file."""
    words = [WORDS[(i * i + number * i + i // 7) % len(WORDS)] for i in range(lines * 9)]
    rows = [" ".join(words[start : start + 3 + start % 7]) for start in range(0, len(words), 9)]
    return "\n".join(rows) + "\n\nOne\r\n"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(4):
        (folder / f"part-{number}.txt.gz").write_bytes(gzip.compress(text_of(number).encode()))
    (folder / "plain.txt").write_text("\ufeff" + text_of(9, 40))
    return folder


def run(corpus: Path, output: Path, *beam_flags: str, **options: object) -> Dataset:
    config = Config(
        (f"{corpus}/*",), str(output), **{"min_count": 2, "passes": 2, "shard_pairs": 3000, "sample": 0.05, **options}
    )  # type: ignore[arg-type]
    done = job.run_job(config, beam_flags)
    return open_dataset(str(output), done.run_id)


def files_of(dataset: Dataset) -> dict[str, str]:
    """SHA-256 of every file of a run but those that say when and where."""
    folder = Path(dataset.uri, "runs", dataset.run_id)
    files = [file for file in folder.rglob("*") if file.is_file() and file.name not in ("run.json", "listing.parquet")]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def pairs_of(dataset: Dataset, pass_index: int) -> list[tuple[int, int]]:
    groups = [dataset.read_row_group(ref) for ref in dataset.row_groups(pass_index)]
    return [pair for center, context in groups for pair in zip(center.tolist(), context.tolist(), strict=True)]


@pytest.fixture(scope="module")
def dataset(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return run(corpus, tmp_path_factory.mktemp("dataset"))


def test_it_is_what_the_readable_rules_say(corpus: Path, dataset: Dataset) -> None:
    texts = [gzip.decompress((corpus / f"part-{n}.txt.gz").read_bytes()).decode() for n in range(4)]
    texts.append((corpus / "plain.txt").read_text().removeprefix("\ufeff"))
    sentences = [
        [tokens for line in text.split("\n") if (tokens := split_tokens(normalize_text(line, TextRules()), "unicode"))]
        for text in texts
    ]
    counts = Counter(token for file in sentences for line in file for token in line)
    expected = sorted(((-n, t.encode()) for t, n in counts.items() if n >= 2))
    vocabulary = dataset.vocabulary()
    assert [(-n, t.encode()) for t, n in zip(vocabulary.tokens, vocabulary.counts.tolist(), strict=True)] == expected

    rules = PairRules(5, False, 1, keep_thresholds(vocabulary.counts, 0.05))
    for pass_index in range(2):
        wanted: Counter[tuple[int, int]] = Counter()
        kept = 0
        for ordinal, file in enumerate(sentences):
            encoded = [[i for i in vocabulary.encode(line).tolist() if i >= 0] for line in file]
            ids = pa.array([i for line in encoded for i in line], pa.int32()).to_numpy()
            lengths = pa.array([len(line) for line in encoded], pa.int32()).to_numpy()
            pairs, count = sentence_pairs(SentenceRun(ordinal, 0, 0, lengths, ids), rules, pass_index)
            wanted.update(pair for sentence in pairs for pair in sentence)
            kept += count
        assert Counter(pairs_of(dataset, pass_index)) == wanted
        assert dataset.manifest.passes[pass_index].kept == kept

    corpus_totals = dataset.manifest.corpus
    assert corpus_totals.tokens == sum(counts.values())
    assert corpus_totals.in_vocabulary == vocabulary.counts.sum()
    assert corpus_totals.sentences == sum(len(file) for file in sentences)
    assert corpus_totals.lines == sum(text.count("\n") for text in texts)
    assert corpus_totals.files == 5


def test_windows_of_a_sentence_stand_together(dataset: Dataset) -> None:
    # Pairs in any other order would change their center nearly every row.
    centers = [center for center, _ in pairs_of(dataset, 0)]
    runs = 1 + sum(a != b for a, b in itertools.pairwise(centers))
    assert runs < 0.4 * len(centers)


def test_shards_are_even_and_none_is_empty(dataset: Dataset) -> None:
    rows = [shard.rows for shard in dataset.shards if shard.pass_index == 0]
    assert len(rows) > 3
    assert min(rows) > 0.6 * max(rows)


def test_inputs_are_listed_by_name(dataset: Dataset) -> None:
    table = pq.read_table(dataset.path_of("inputs.parquet")).to_pydict()
    assert table["name"] == [*(f"part-{n}.txt.gz" for n in range(4)), "plain.txt"]
    assert sum(table["tokens"]) == dataset.manifest.corpus.tokens
    assert len(set(table["digest"])) == 5


@pytest.mark.parametrize(
    "options",
    [{}, {"threads": 1}, {"threads": 5}, {"read_block_bytes": 1}, {"read_block_bytes": 65536}, {"run_id": "nightly"}],
    ids=str,
)
def test_equal_bytes_however_it_runs(
    corpus: Path, dataset: Dataset, tmp_path: Path, options: dict[str, object]
) -> None:
    assert files_of(run(corpus, tmp_path, **options)) == files_of(dataset)


@pytest.mark.parametrize("workers", [1, 2])
def test_equal_bytes_with_several_beam_workers(corpus: Path, dataset: Dataset, tmp_path: Path, workers: int) -> None:
    flags = (f"--direct_num_workers={workers}", "--direct_running_mode=multi_threading")
    assert files_of(run(corpus, tmp_path, *flags)) == files_of(dataset)


def test_equal_bytes_when_ids_go_through_the_shuffle(
    corpus: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    monkeypatch.setattr(job, "make_spill", lambda folder: used.append(folder) or Spill())
    assert files_of(run(corpus, tmp_path)) == files_of(dataset)
    assert len(used) == 1


def test_beams_counters_are_the_manifests(corpus: Path, dataset: Dataset, tmp_path: Path) -> None:
    config = Config((f"{corpus}/*",), str(tmp_path), min_count=2, passes=2, shard_pairs=3000, sample=0.05)
    started = job._start_run(config, runners.IN_PROCESS)
    storage.write_bytes(started.listing, job.make_listing(started.config)[0])
    pipeline = beam.Pipeline(runner=job.FnApiRunner())
    job.build(pipeline, started, None)
    counters = pipeline.run().metrics().query()["counters"]
    found = {
        counter.key.metric.name: counter.committed
        for counter in counters
        if counter.key.metric.namespace == "pairstream"
    }
    corpus_totals, passes = dataset.manifest.corpus, dataset.manifest.passes
    assert found == {
        "tokens": corpus_totals.tokens, "lines": corpus_totals.lines, "dead_letters": 0,
        "in_vocabulary": corpus_totals.in_vocabulary, "kept": sum(p.kept for p in passes),
        "pairs": sum(p.pairs for p in passes),
    }  # fmt: skip


def test_equal_bytes_from_another_folder_locale_zone_and_hash_seed(
    corpus: Path, dataset: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").symlink_to(corpus)
    words = [
        "--input",
        "elsewhere/*",
        "--output",
        "out",
        "--min-count",
        "2",
        "--passes=2",
        "--shard-pairs=3000",
        "--sample=.05",
    ]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "LC_ALL": "C", "TZ": "Asia/Tokyo", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "pipeline", *words], cwd=tmp_path, env=environment, check=True)
    assert files_of(open_dataset(str(tmp_path / "out"))) == files_of(dataset)


@pytest.mark.parametrize(
    "options",
    [{"seed": 2}, {"window": 4}, {"sample": 0.0}, {"min_count": 3}, {"fixed_window": True}, {"lowercase": False}],
    ids=str,
)
def test_every_option_that_shapes_bytes_shows(
    corpus: Path, dataset: Dataset, tmp_path: Path, options: dict[str, object]
) -> None:
    assert run(corpus, tmp_path, **options).dataset_id != dataset.dataset_id


def test_nothing_temporary_is_left(dataset: Dataset) -> None:
    folder = Path(dataset.uri, "runs", dataset.run_id)
    names = {
        "manifest.json",
        "run.json",
        "listing.parquet",
        "vocab.parquet",
        "inputs.parquet",
        "shards.parquet",
        "pairs",
    }
    assert {path.name for path in folder.iterdir()} == names
    assert {path.name for path in Path(dataset.uri).iterdir()} == {"LATEST.json", "LATEST.json.lock", "runs"}


def test_known_digests(dataset: Dataset) -> None:
    # Written down once. They follow from the text, the options and the rules of format version 1 alone: should
    # this test fail, datasets already built can no longer be built again.
    assert dataset.manifest.vocabulary.digest == "d7c5f6fa9775c2c1611e3c1de05336bea954f355bda53b580bb982c7a7e5d5bc"
    assert [totals.digest for totals in dataset.manifest.passes] == [
        "0cdd95752a0881964fbd8af3d73a4c1ab8b19930d64fd0eec2c71920d6630bbf",
        "5cc549b7f20081e471f67b988b897e261336478ca0ea4035be49d558a96fce82",
    ]
    assert (
        sorted(shard.digest for shard in dataset.shards)[0]
        == "007d758c8e0d5db9f3653e054e74823989c384e2dd59ce4b03d08a240d041fca"
    )


def test_known_bytes(dataset: Dataset) -> None:
    if pa.__version__ != "25.0.1":
        pytest.skip(f"Parquet's bytes are those of pyarrow 25.0.1, this is {pa.__version__}")
    assert dataset.shards[0].sha256 == "bf691dc85a87a3a87b2be4f97f1cf162a4e4699e2c2c7530c4c209c9e2b28bd6"


def test_a_second_run_replaces_the_first_for_readers(corpus: Path, tmp_path: Path) -> None:
    first = run(corpus, tmp_path)
    second = run(corpus, tmp_path, window=2)
    assert open_dataset(str(tmp_path)).run_id == second.run_id != first.run_id
    assert open_dataset(str(tmp_path), first.run_id).dataset_id == first.dataset_id


def test_of_two_publishers_the_second_loses_and_stays_complete(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = finish.publish

    def late(*arguments: object) -> str:
        monkeypatch.setattr(finish, "publish", publish)
        run(corpus, tmp_path, run_id="early")
        return publish(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(finish, "publish", late)
    with pytest.raises(PointerMovedError):
        run(corpus, tmp_path, run_id="late")
    assert open_dataset(str(tmp_path)).run_id == "early"
    assert files_of(open_dataset(str(tmp_path), "late")) == files_of(open_dataset(str(tmp_path), "early"))


def test_a_finished_run_is_not_written_over(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path, run_id="one")
    with pytest.raises(ConfigError, match="--run-id one: a finished run"):
        run(corpus, tmp_path, run_id="one")


def test_an_input_that_changes_between_the_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "in" / "a.txt"
    source.parent.mkdir()
    source.write_text(text_of(1))
    plan = finish.plan_shards

    def change(*arguments: object) -> object:
        source.write_text(text_of(1).replace("fox", "ox"))
        return plan(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(finish, "plan_shards", change)
    with pytest.raises(Exception, match=r"a\.txt: changed between the counting and the pair pass") as error:
        run(source.parent, tmp_path / "out")
    assert "changed between" in str(cli.error_line(error.value))
    assert not (tmp_path / "out").exists()


def test_dead_letters_are_kept_and_counted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_bytes(text_of(1).encode() + b"bad \xff line\n" + b"y" * 2000 + b" ok ok\n")
    dataset = run(tmp_path / "in", tmp_path / "out", max_dead_letter_fraction=0.5)
    assert dataset.manifest.corpus.dead_letters == {"invalid-utf-8": 1, "token-too-long": 1}
    assert dataset.manifest.corpus.dead_letter_bytes == 10 + 2000
    name = "dead-letters/part-00000.parquet"
    assert name in dataset.manifest.files
    rows = pq.read_table(dataset.path_of(name)).to_pylist()
    offset = len(text_of(1).encode())
    assert rows == [
        {"file": "a.txt", "offset": offset, "reason": "invalid-utf-8", "content": b"bad \xff line"},
        {"file": "a.txt", "offset": offset + 11, "reason": "token-too-long", "content": b"y" * 2000},
    ]
    assert "ok" in dataset.vocabulary().tokens


def test_too_many_dead_letters_fail_and_stay_readable(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_bytes(text_of(1, 20).encode() + b"bad \xff line\n")
    with pytest.raises(Exception, match="set aside") as error:
        run(tmp_path / "in", tmp_path / "out", run_id="r")
    line = str(cli.error_line(error.value))
    assert ": 1 invalid-utf-8, first in a.txt at byte 635), expected at most --max-dead-letter-fraction 0.001" in line
    [row] = pq.read_table(tmp_path / "out/runs/r/dead-letters/part-00000.parquet").to_pylist()
    assert row["content"] == b"bad \xff line"
    assert not (tmp_path / "out/LATEST.json").exists()


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"", {}, "--min-count 2: no token in the input is that frequent"),
        (b"\n\n\r\n", {}, "no token in the input is that frequent"),
        (b"a b c\n", {}, "--min-count 2: no token in the input"),
        (b"a\na\na\n", {}, "found no sentence with two words left"),
        (b"a a\n\xff\n", {"encoding_errors": "fail"}, "a.txt: chunk at byte 0: the byte 0xff is not valid UTF-8"),
    ],
    ids=["empty", "newlines", "rare", "alone", "encoding"],
)
def test_nothing_to_build(tmp_path: Path, content: bytes, options: dict[str, object], message: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_bytes(content)
    with pytest.raises(Exception, match=r"found|no token|not valid") as error:
        run(tmp_path / "in", tmp_path / "out", **options)
    assert message in str(cli.error_line(error.value))
    assert not (tmp_path / "out").exists()


def test_an_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("a b\n")

    opened = storage.open_binary

    def refuse(uri: str) -> object:
        if uri.endswith("a.txt"):
            raise PermissionError(13, "Permission denied", uri)
        return opened(uri)

    monkeypatch.setattr(storage, "open_binary", refuse)
    with pytest.raises(Exception, match="Permission denied") as error:
        run(tmp_path / "in", tmp_path / "out")
    assert cli.error_line(error.value) == f"{tmp_path}/in/a.txt: found Permission denied, expected a readable file"


def test_a_sentence_of_one_word_among_others(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("a\nb c\na\n")
    dataset = run(tmp_path / "in", tmp_path / "out", min_count=1, sample=0.0, shard_pairs=1)
    assert pairs_of(dataset, 0) == [(1, 2), (2, 1)]


def test_one_word_that_is_nearly_everything(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text(("a " * 99 + "b\n") * 50)
    dataset = run(tmp_path / "in", tmp_path / "out", sample=1e-3)
    assert 0 < dataset.manifest.passes[0].kept < 5000 * 0.2


def test_more_shards_than_sentences(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("a b c d\n" * 6)
    dataset = run(tmp_path / "in", tmp_path / "out", sample=0.0, shard_pairs=1, passes=1)
    assert len(dataset.shards) == 6
    assert all(shard.rows > 0 for shard in dataset.shards)


def test_a_giant_line_is_cut_and_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    words = [f"w{i % 997}" for i in range(600_000)]
    (tmp_path / "in" / "a.txt").write_text(" ".join(words))
    dataset = run(tmp_path / "in", tmp_path / "out", passes=1, shard_pairs=200_000, max_sentence_tokens=500)
    vocabulary = dataset.vocabulary()
    assert dict(zip(vocabulary.tokens, vocabulary.counts.tolist(), strict=True)) == Counter(words)
    assert dataset.manifest.corpus.lines == 1
    assert dataset.manifest.corpus.sentences > 1200
    rows = [shard.rows for shard in dataset.shards]
    assert max(rows) < 1.2 * min(rows)
