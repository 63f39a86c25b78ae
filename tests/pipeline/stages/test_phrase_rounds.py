"""--phrases in the whole job, against the brute force over the same sentences."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
import msgspec
import pyarrow.parquet as pq
import pytest

from pipeline import cli, job, runners
from pipeline.config import Config
from pipeline.dataset.phrases import phrase_files
from pipeline.dataset.publish import file_entries, publish_run
from pipeline.dataset.reader import Dataset, open_dataset
from pipeline.dataset.verify import verify_run
from pipeline.inputs.chunks import cut_chunks
from pipeline.phrases.join import join_sentence, read_phrases
from pipeline.stages import phrase_rounds
from pipeline.stages.spill import Spill
from pipeline.storage import storage
from pipeline.text.normalize import TextRules, normalize_text
from pipeline.text.tokenize import split_tokens
from pipeline.transforms import phrases as phrase_transforms
from tests.pipeline.phrases.test_score import Sentences, phrases_in, tokens_of, words_of
from tests.pipeline.test_job import files_of, pairs_of
from tests.support.paths import ROOT

FILES, THRESHOLDS, MIN_COUNT = 4, (2.0, 1.5), 4
OPTIONS = {"phrases": 2, "phrase_threshold": THRESHOLDS, "phrase_min_count": MIN_COUNT}


def text_of(seed: int) -> str:
    """Random words, among them names of two and three that stand together."""
    draw = random.Random(seed)
    names = ["New York", "New York City", "San José", "日本", "Ω mega", "don't know", "_ x_"]
    words = [f"w{i}" for i in range(40)] + ["new", "city", "san"]
    rows = [
        ", ".join(draw.choice(names if draw.random() < 0.3 else words) for _ in range(draw.randint(1, 12)))
        for _ in range(400)
    ]
    return "\n".join(rows) + "\n"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(FILES):
        (folder / f"part-{number}.txt.gz").write_bytes(gzip.compress(text_of(number).encode()))
    return folder


def run(corpus: Path, output: Path, *beam_flags: str, **options: object) -> Dataset:
    settings = {"min_count": 2, "passes": 2, "shard_pairs": 3000, "sample": 0.05, **OPTIONS, **options}
    done = job.run_job(Config((f"{corpus}/*",), str(output), **settings), beam_flags)  # type: ignore[arg-type]
    return open_dataset(str(output), done.run_id)


@pytest.fixture(scope="module")
def dataset(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return run(corpus, tmp_path_factory.mktemp("dataset"))


def sentences_of(tokenizer: str = "unicode") -> Sentences:
    lines = [line for number in range(FILES) for line in text_of(number).split("\n")]
    return [words for line in lines if (words := split_tokens(normalize_text(line, TextRules()), tokenizer))]


def check(
    dataset: Dataset, sentences: Sentences, thresholds: Sequence[float] = THRESHOLDS, max_token_bytes: int = 1000
) -> Sentences:
    """Hold phrases, vocabulary and totals against the brute force; return its sentences."""
    for threshold, (uri, _) in zip(thresholds, phrase_files(dataset), strict=True):
        expected = phrases_in(sentences, MIN_COUNT, threshold, max_token_bytes)
        rows = pq.read_table(uri).to_pylist()
        assert {(row["first"], row["second"]): (row["count"], row["score"]) for row in rows} == expected
        assert len(rows) == len(expected) > 0
        sentences = [join_sentence(words, expected) for words in sentences]
    counts = Counter(word for words in sentences for word in words)
    vocabulary = dataset.vocabulary()
    found = dict(zip(vocabulary.tokens, vocabulary.counts.tolist(), strict=True))
    assert found == {word: count for word, count in counts.items() if count >= 2}
    assert dataset.manifest.corpus.tokens == counts.total()
    assert dataset.manifest.corpus.sentences == len(sentences)
    return sentences


def test_it_is_what_the_brute_force_says(dataset: Dataset) -> None:
    sentences = check(dataset, sentences_of())
    words, neighbours = dataset.vocabulary().tokens, Counter[tuple[str, str]]()
    assert {"new_york", "new_york_city", "san_josé", "日_本", "don't_know"} <= set(words)
    for words_of_sentence in sentences:
        for distance in range(1, 6):
            for pair in zip(words_of_sentence, words_of_sentence[distance:], strict=False):
                neighbours.update((pair, pair[::-1]))
    for pass_index in range(2):
        pairs = Counter((words[a], words[b]) for a, b in pairs_of(dataset, pass_index))
        # Rare words and subsampling leave holes, which bring words further apart: only most pairs must be neighbours.
        assert sum((pairs & neighbours).values()) > 0.7 * pairs.total()
        assert any("_" in word for pair in pairs for word in pair)


def test_tokens_that_have_the_joint_already(corpus: Path, tmp_path: Path) -> None:
    dataset = run(corpus, tmp_path, tokenizer="whitespace")
    check(dataset, sentences_of("whitespace"))
    assert {"__x_,", "new_york"} <= set(dataset.vocabulary().tokens)


def test_no_joined_token_is_longer_than_a_token_may_be(corpus: Path, tmp_path: Path) -> None:
    limit = len("new_york")
    dataset = run(corpus, tmp_path, max_token_bytes=limit, max_dead_letter_fraction=1.0)
    kept = [[word for word in words if len(word.encode()) <= limit] for words in sentences_of()]
    check(dataset, kept, max_token_bytes=limit)
    assert "new_york" in dataset.vocabulary().tokens
    assert "don't_know" not in dataset.vocabulary().tokens


def test_the_phrases_of_a_dataset_can_be_applied_to_any_text(dataset: Dataset) -> None:
    phrases = read_phrases(phrase_files(dataset))
    assert words_of(phrases.join(tokens_of([["in", "new", "york", "city"], ["new"], ["york"]]))) == [
        ["in", "new_york_city"],
        ["new"],
        ["york"],
    ]


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 5}, {"read_block_bytes": 1}], ids=str)
def test_equal_bytes_however_it_runs(
    corpus: Path, dataset: Dataset, tmp_path: Path, options: dict[str, object]
) -> None:
    assert files_of(run(corpus, tmp_path, **options)) == files_of(dataset)


def test_equal_bytes_with_several_beam_workers(corpus: Path, dataset: Dataset, tmp_path: Path) -> None:
    flags = ("--direct_num_workers=2", "--direct_running_mode=multi_threading")
    assert files_of(run(corpus, tmp_path, *flags)) == files_of(dataset)


def test_equal_bytes_when_counts_go_through_the_shuffle(
    corpus: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    monkeypatch.setattr(phrase_transforms, "make_spill", lambda folder: used.append(folder) or Spill())
    assert files_of(run(corpus, tmp_path)) == files_of(dataset)
    assert [os.path.basename(folder) for folder in used] == ["phrases-1", "phrases-2"]


def test_equal_bytes_when_counters_are_handed_on_often(
    corpus: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed = []
    monkeypatch.setattr("pipeline.phrases.score.PAIR_LIMIT", 10)
    put = phrase_transforms._CountPairs._emit
    monkeypatch.setattr(phrase_transforms._CountPairs, "_emit", lambda *a: handed.append(a[1]) or put(*a))
    assert files_of(run(corpus, tmp_path)) == files_of(dataset)
    assert len(handed) == 2 * FILES


def test_equal_bytes_from_another_folder_and_hash_seed(corpus: Path, dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").symlink_to(corpus)
    words = ["--input=elsewhere/*", "--output=out", "--min-count=2", "--passes=2", "--shard-pairs=3000", "--sample=.05"]
    words += ["--phrases=2", "--phrase-threshold=2,1.5", "--phrase_min_count=4", "--json"]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "LC_ALL": "C", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *words], cwd=tmp_path, env=environment, check=True, capture_output=True
    )
    assert files_of(open_dataset(str(tmp_path / "out"))) == files_of(dataset)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["phrases"] == [len(pq.read_table(uri)) for uri, _ in phrase_files(dataset)]
    stages = ["phrases 1", "phrases 2", "counting", "vocabulary", "encoding", "writing pairs"]
    assert [name for name in result["stage_seconds"] if name in stages] == stages


def test_people_are_told_what_was_found(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--input", f"{corpus}/*", "--output", str(tmp_path / "with"), "--phrases", "1", "--phrase-threshold", "2"]
    assert cli.main(words) == 0
    rows = len(pq.read_table(next((tmp_path / "with").rglob("round-01.parquet"))))
    assert f"\n  phrases     {rows} in round 1\n" in capsys.readouterr().out
    assert cli.main(["--input", f"{corpus}/*", "--output", str(tmp_path / "without")]) == 0
    assert "phrases" not in capsys.readouterr().out


def test_the_manifest_names_files_and_options_only_where_there_are_phrases(
    corpus: Path, dataset: Dataset, tmp_path: Path
) -> None:
    manifest = dataset.manifest
    assert [name for name in manifest.files if "phrases" in name] == [
        "phrases/round-01.parquet", "phrases/round-02.parquet",
    ]  # fmt: skip
    plain = run(corpus, tmp_path, phrases=0, phrase_threshold=(2.0,)).manifest
    assert manifest.options == plain.options | {"phrases": 2, "phrase_threshold": [2.0, 1.5], "phrase_min_count": 4}
    assert not [name for name in (*plain.options, *plain.files) if "phrase" in name]


def test_one_threshold_is_that_of_every_round(corpus: Path, tmp_path: Path) -> None:
    once = run(corpus, tmp_path / "once", phrase_threshold=(2.0,))
    twice = run(corpus, tmp_path / "twice", phrase_threshold=(2.0, 2.0))
    assert files_of(once) == files_of(twice)


def test_where_nothing_is_a_phrase_the_pairs_are_those_without(corpus: Path, tmp_path: Path) -> None:
    rounds = run(corpus, tmp_path / "rounds", phrase_threshold=(1e9,))
    plain = run(corpus, tmp_path / "plain", phrases=0, phrase_threshold=(2.0,))
    assert [len(pq.read_table(uri)) for uri, _ in phrase_files(rounds)] == [0, 0]
    assert rounds.shards == plain.shards
    assert rounds.manifest.corpus == plain.manifest.corpus
    assert rounds.manifest.vocabulary == plain.manifest.vocabulary


def test_nothing_temporary_is_left(dataset: Dataset) -> None:
    folder = Path(dataset.uri, "runs", dataset.run_id)
    tables = {"listing.parquet", "vocab.parquet", "inputs.parquet", "shards.parquet"}
    assert {path.name for path in folder.iterdir()} == {"manifest.json", "run.json", "pairs", "phrases"} | tables


def test_a_round_leaves_no_counts_to_the_next(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = []
    write = phrase_rounds.write_phrases

    def look(folder: str, *rest: object) -> object:
        left.append(os.listdir(os.path.join(folder, "tmp")))
        return write(folder, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(phrase_rounds, "write_phrases", look)
    run(corpus, tmp_path)
    assert left == [[], []]


def test_beams_counters_count_the_text_once(corpus: Path, dataset: Dataset, tmp_path: Path) -> None:
    settings = {"min_count": 2, "passes": 2, "shard_pairs": 3000, "sample": 0.05, **OPTIONS}
    pipeline = beam.Pipeline(runner=job.FnApiRunner())
    config = Config((f"{corpus}/*",), str(tmp_path), **settings)  # type: ignore[arg-type]
    started = job._start_run(config, runners.IN_PROCESS)
    storage.write_bytes(started.listing, job.make_listing(started.config)[0])
    job.build(pipeline, started, None)
    counters: Counter[str] = Counter()
    for counter in pipeline.run().metrics().query()["counters"]:
        counters[counter.key.metric.name] += counter.committed
    assert counters["tokens"] == dataset.manifest.corpus.tokens
    assert counters["phrases"] == sum(len(pq.read_table(uri)) for uri, _ in phrase_files(dataset))
    assert files_of(open_dataset(str(tmp_path))) == files_of(dataset)


def test_records_give_the_shards_of_the_same_text(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(FILES):
        lines = [json.dumps({"text": line}) + "\n" for line in text_of(number).removesuffix("\n").split("\n")]
        (tmp_path / "in" / f"part-{number}.jsonl").write_text("".join(lines))
    records = run(tmp_path / "in", tmp_path / "out", input_format="jsonl")
    assert records.shards == dataset.shards
    assert [sha256 for _, sha256 in phrase_files(records)] == [sha256 for _, sha256 in phrase_files(dataset)]


def test_dead_letters_are_reported_once(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    bad = b"bad \xff line\n" + b"y" * 2000 + b" new york\n"
    (tmp_path / "in" / "a.txt").write_bytes(text_of(1).encode() + bad)
    dataset = run(tmp_path / "in", tmp_path / "out", max_dead_letter_fraction=0.5)
    assert dataset.manifest.corpus.dead_letters == {"invalid-utf-8": 1, "token-too-long": 1}
    rows = pq.read_table(dataset.path_of("dead-letters/part-00000.parquet")).to_pylist()
    assert [row["content"] for row in rows] == [b"bad \xff line", b"y" * 2000]


@pytest.mark.parametrize("changed_in", [1, 2])
def test_an_input_that_changes_between_the_rounds(
    changed_in: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "in" / name).write_text(text_of(1))
    write = phrase_rounds.write_phrases

    def change(folder: str, number: int, *rest: object) -> object:
        if number == changed_in:
            (tmp_path / "in" / "b.txt").write_text(text_of(1).replace("York", "Yorck"))
        return write(folder, number, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(phrase_rounds, "write_phrases", change)
    with pytest.raises(Exception, match="changed") as error:
        run(tmp_path / "in", tmp_path / "out")
    assert cli.error_line(error.value) == f"{tmp_path}/in/b.txt: changed between a phrase and the counting pass"
    assert not (tmp_path / "out").exists()


def test_phrases_that_are_damaged_between_the_rounds(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = phrase_rounds.write_phrases

    def damage(folder: str, number: int, *rest: object) -> object:
        found = write(folder, number, *rest)  # type: ignore[arg-type]
        Path(found.uri).write_bytes(b"PAR1 not")
        return found

    monkeypatch.setattr(phrase_rounds, "write_phrases", damage)
    with pytest.raises(Exception, match="found sha256") as error:
        run(corpus, tmp_path, run_id="r")
    message = cli.error_line(error.value)
    assert message is not None
    assert message.startswith(f"{tmp_path}/runs/r/phrases/round-01.parquet: found sha256 ")
    assert "\n" not in message


def test_verify_reads_the_phrases(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = run(corpus, tmp_path)
    assert verify_run(str(tmp_path)).files == len(dataset.shards) + 3 + 2 + 1
    file = Path(dataset.path_of("phrases/round-02.parquet"))
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert cli.main(["verify", "--output", str(tmp_path)]) == 1
    assert "round-02.parquet: found sha256" in capsys.readouterr().err
    file.unlink()
    assert cli.main(["verify", "--output", str(tmp_path)]) == 1
    assert "round-02.parquet: found no file" in capsys.readouterr().err


def list_again(dataset: Dataset, **files: bytes | None) -> None:
    """Give rounds other bytes, or none, and a manifest that says so."""
    entries = dict(dataset.manifest.files)
    for number, data in files.items():
        name = f"phrases/{number.replace('_', '-')}.parquet"
        entries.pop(name, None)
        if data is not None:
            storage.write_bytes(dataset.path_of(name), data)
            entries |= file_entries({name: data})
    manifest = msgspec.structs.replace(dataset.manifest, files=entries)
    publish_run(dataset.uri, dataset.run_id, manifest, storage.read_pointer(f"{dataset.uri}/LATEST.json"))


def test_verify_refuses_what_a_foreign_manifest_lists(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = run(corpus, tmp_path)
    vocabulary = Path(dataset.path_of("vocab.parquet")).read_bytes()
    first, second = (Path(uri).read_bytes() for uri, _ in phrase_files(dataset))
    for files, message in (
        ({"round_02": vocabulary}, "round-02.parquet: found columns (token: string not null, count: int64 not null)"),
        ({"round_02": b"PAR1"}, "round-02.parquet: found an unreadable Parquet file ("),
        ({"round_02": None}, "/phrases: found files ['"),
        ({"round_03": first}, "/phrases: found files ['"),
    ):
        list_again(dataset, **({"round_02": second} | files))
        assert cli.main(["verify", "--output", str(tmp_path)]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_known_digests(dataset: Dataset) -> None:
    # Written down once, as those of test_job: datasets already built must stay buildable.
    assert [len(pq.read_table(uri)) for uri, _ in phrase_files(dataset)] == [7, 3]
    assert dataset.manifest.vocabulary.digest == "b0e1692fc9b9ed48b7ac71875cd590f4060d877c33046fece8d00c86e0dd655f"
    assert [totals.digest for totals in dataset.manifest.passes] == [
        "2c1e718816e8b0390495d13b5b4190aec80e77b8f39464aeabd31fc14ecbe00a",
        "fefddcb6f06c24f8d745c570024f4e97d76badb6477eff217d338972ebd5613d",
    ]


def test_phrases_end_with_the_sentence_and_the_chunk(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    draw = random.Random(20)
    words = [draw.choice(["new york"] * 3 + ["w1", "w2", "w3", "w4"]) for _ in range(450_000)]
    (tmp_path / "in" / "a.txt").write_text(" ".join(words))
    dataset = run(tmp_path / "in", tmp_path / "out", max_sentence_tokens=499, phrase_threshold=(2.0, 1.0))
    chunks = [chunk.data.decode().split() for chunk in cut_chunks([" ".join(words).encode()])]
    assert len(chunks) > 1
    assert any(chunk[-1] == "new" for chunk in chunks)
    check(dataset, [chunk[start : start + 499] for chunk in chunks for start in range(0, len(chunk), 499)], (2.0, 1.0))
