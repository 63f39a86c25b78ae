"""How the text reaches the workers changes nothing: whole files, parts, or chunks that another worker read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from pipeline import job, runners
from pipeline.config import Config
from pipeline.dataset.reader import Dataset, open_dataset
from pipeline.inputs import read as reading
from pipeline.inputs import splits
from pipeline.inputs.chunks import BOM
from pipeline.inputs.splits import Part
from pipeline.storage import storage

WORDS = ["the", "quick", "brown", "fox", "naïve", "Ωmega", "don't", "日本", "été", "42"]
LINES = [" ".join(WORDS[(i * i + i // 7 + j) % 10] for j in range(2 + i % 90)) for i in range(15_000)]
GIANT = "x" * (3 << 20)  # no white space, beyond a chunk: torn, and a dead letter in pieces
CORPUS = BOM + "\n".join([*LINES, GIANT, *reversed(LINES), " ".join(LINES), *LINES[:100]]).encode()


# By its full name the runner is taken for one that may have workers elsewhere.
ELSEWHERE = "--runner=apache_beam.runners.portability.fn_api_runner.fn_runner.FnApiRunner"


def run(folder: Path, output: Path, *beam_flags: str, **options: object) -> Dataset:
    settings = {"shard_pairs": 4 << 20, "max_dead_letter_fraction": 0.9, "sample": 0.01, **options}
    done = job.run_job(Config((f"{folder}/*",), str(output), **settings), beam_flags)  # type: ignore[arg-type]
    return open_dataset(str(output), done.run_id)


def write_corpus(folder: Path, kind: str) -> None:
    """Write a large file of one kind, and a small one."""
    folder.mkdir()
    (folder / "z.txt").write_text("the fox\n")
    if kind == "text":
        (folder / "a.gz").write_bytes(CORPUS)  # whatever its name says
    elif kind == "gzip":
        (folder / "a.gz").write_bytes(gzip.compress(CORPUS, 1))
    elif kind == "zstd":
        (folder / "a.zst").write_bytes(zstandard.compress(CORPUS))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("whole")
    write_corpus(folder / "in", "text")
    return run(folder / "in", folder / "out")


def shown(dataset: Dataset) -> tuple[object, ...]:
    """All that the manifest says, and the rows of inputs.parquet without the files' names."""
    table = pq.read_table(dataset.path_of("inputs.parquet")).drop_columns("name")
    manifest = dataset.manifest
    return manifest.corpus, manifest.vocabulary, manifest.passes, tuple(dataset.shards), table.to_pylist()


def test_there_is_much_to_split(whole: Dataset) -> None:
    assert whole.manifest.corpus.bytes > 14 << 20
    assert whole.manifest.corpus.dead_letters == {"token-too-long": 3}
    assert len(whole.shards) > 1


@pytest.mark.parametrize("part_mib", [1, 2, 7])
def test_parts_of_a_file_give_its_bytes(
    part_mib: int, whole: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = count_reads(monkeypatch)
    monkeypatch.setattr(splits, "PART_BYTES", part_mib << 20)
    write_corpus(tmp_path / "in", "text")
    dataset = run(tmp_path / "in", tmp_path / "out", read_block_bytes=300_000)
    assert shown(dataset) == shown(whole)
    assert dataset.dataset_id == whole.dataset_id
    assert sum(not part.is_whole for part in read) == 2 * -(-len(CORPUS) // (part_mib << 20))


@pytest.mark.parametrize("kind", ["text", "gzip", "zstd"])
def test_chunks_that_another_worker_read(
    kind: str, whole: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = count_reads(monkeypatch)
    monkeypatch.setattr(splits, "PART_BYTES", 1000)
    write_corpus(tmp_path / "in", kind)
    dataset = run(tmp_path / "in", tmp_path / "out", ELSEWHERE)
    assert shown(dataset) == shown(whole)
    assert any(part.text is not None for part in read) == (kind != "text")


@pytest.mark.parametrize("elsewhere", [False, True])
def test_records_are_set_aside_once(elsewhere: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "PART_BYTES", 100_000)
    (tmp_path / "in").mkdir()
    records = [json.dumps({"text": line}).encode() for line in LINES]
    records[1:1], records[9000:9000] = [b"{"], [b"[]"]
    (tmp_path / "in" / "a.jsonl").write_bytes(b"\n".join([*records, b"1"]) + b"\n")
    flags = (ELSEWHERE,) if elsewhere else ()
    dataset = run(tmp_path / "in", tmp_path / "out", *flags, input_format="jsonl")
    assert dataset.manifest.corpus.dead_letters == {"invalid-json": 1, "no-text-field": 2}
    assert dataset.manifest.corpus.lines == len(LINES)


PROCESSES = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")


def write_records(folder: Path, input_format: str) -> None:
    """Write a large file of records, of which some are bad, and a small one."""
    folder.mkdir()
    records: list[str | None] = [None, *LINES[:3000], None, GIANT, "", *LINES[3000:5000], None]
    small = [LINES[0], None]
    for name, texts in (("a", records), ("b", small)):
        if input_format == "parquet":
            table = pa.table({"id": list(range(len(texts))), "text": texts})
            pq.write_table(
                table, folder / f"{name}.parquet", row_group_size=500, use_dictionary=False, compression="none"
            )
        else:
            lines = [json.dumps({"text": text}, ensure_ascii=i % 3 > 0).encode() for i, text in enumerate(texts)]
            (folder / f"{name}.jsonl").write_bytes(BOM + b"\r\n".join(lines))


@pytest.fixture(scope="module", params=["jsonl", "parquet"])
def whole_records(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp(request.param)
    write_records(folder / "in", request.param)
    return run(folder / "in", folder / "out", input_format=request.param)


@pytest.mark.parametrize(
    ("part_kib", "flags"), [(300, (ELSEWHERE,)), (1000, PROCESSES)], ids=["many spans", "two processes"]
)
def test_spans_of_records_give_the_bytes_of_the_whole(
    part_kib: int, flags: tuple[str, ...], whole_records: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = count_reads(monkeypatch)
    monkeypatch.setattr(splits, "PART_BYTES", part_kib << 10)
    input_format = str(whole_records.manifest.options["input_format"])
    write_records(tmp_path / "in", input_format)
    dataset = run(tmp_path / "in", tmp_path / "out", *flags, input_format=input_format)
    assert dataset.manifest.corpus.dead_letters == {"no-text-field": 4, "token-too-long": 3}
    assert dataset.manifest == whole_records.manifest  # with the digests of all files, and the letters' places in them
    assert sum(part.span is not None for part in read) >= (10 if flags == (ELSEWHERE,) else 0)


def test_letters_of_a_file_without_text_still_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "PART_BYTES", 3)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_bytes(b"[]\n[]\n")
    (tmp_path / "in" / "b.jsonl").write_bytes(b'{"text": "a b a b a b a b a b a b"}\n')
    dataset = run(tmp_path / "in", tmp_path / "out", ELSEWHERE, input_format="jsonl")
    assert dataset.manifest.corpus.dead_letters == {"no-text-field": 2}


def test_the_graph_does_not_grow_with_the_files(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    started = job._start_run(Config((f"{tmp_path}/in/*",), str(tmp_path / "out")), runners.IN_PROCESS)
    sizes = []
    for count in (10, 5000):
        for number in range(count):
            (tmp_path / "in" / f"{number:05}.txt").touch()
        storage.write_bytes(started.listing, job.make_listing(started.config)[0])
        pipeline = beam.Pipeline(runner=FnApiRunner())
        job.build(pipeline, started, None)
        sizes.append(len(pipeline.to_runner_api().SerializeToString()))
    assert abs(sizes[0] - sizes[1]) < 300  # compressed pickles, whose order of parts differs from time to time


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[Part]:
    """Return a list that grows by every part that is read."""
    read, read_chunks = list[Part](), reading.read_chunks

    def counting(part: Part, *rest: object) -> object:
        read.append(part)
        return read_chunks(part, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(reading, "read_chunks", counting)
    return read
