"""The same lines as text, JSON lines and Parquet: the same pairs."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipeline import cli, job
from pipeline.config import Config
from pipeline.dataset.reader import Dataset, open_dataset
from pipeline.publishing import publish

WORDS = ["the", "quick", "brown", "fox", "naïve", "Ωmega", "don't", "日本", "e\u0301t\u00e9", "42"]
# Beyond two chunks, so that chunks are cut from records as they are from lines.
RECORDS = [
    " ".join(WORDS[(i * i + i // 7 + j * (1 + i % 3)) % len(WORDS)] for j in range(2 + i % 40)) for i in range(25_000)
]
RECORDS[5], RECORDS[6] = "two lines\nof the one record\r", ""


def write_corpus(folder: Path, kind: str) -> str:
    """Write the records in one format; return its --input-format."""
    folder.mkdir()
    if kind == "parquet":
        table = pa.table({"id": list(range(len(RECORDS))), "body": RECORDS})
        pq.write_table(table, folder / "a.parquet", row_group_size=7000)
        return "parquet"
    if kind == "txt":
        (folder / "a.txt").write_bytes("".join(record + "\n" for record in RECORDS).encode())
        return "text"
    lines = [json.dumps({"id": i, "body": r}, ensure_ascii=i % 2 == 0) + "\n" for i, r in enumerate(RECORDS)]
    data = "".join(lines).encode()
    packed = {"jsonl": data, "jsonl.gz": gzip.compress(data), "jsonl.zst": zstandard.compress(data)}[kind]
    (folder / f"a.{kind}").write_bytes(packed)
    return "jsonl"


def run(folder: Path, output: Path, **options: object) -> Dataset:
    options = ({"text_field": "body"} if "input_format" in options else {}) | options
    settings = {"passes": 2, "shard_pairs": 200_000, "sample": 0.05, **options}
    done = job.run_job(Config((f"{folder}/*",), str(output), **settings), ())  # type: ignore[arg-type]
    return open_dataset(str(output), done.run_id)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("text")
    write_corpus(folder / "in", "txt")
    return run(folder / "in", folder / "out")


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
def test_equal_shards(kind: str, text: Dataset, tmp_path: Path) -> None:
    input_format = write_corpus(tmp_path / "in", kind)
    records = run(tmp_path / "in", tmp_path / "out", input_format=input_format)
    assert text.manifest.corpus.bytes > 2 << 20
    assert len(records.shards) > 2
    assert records.shards == text.shards
    assert records.manifest.corpus == text.manifest.corpus
    assert records.manifest.vocabulary == text.manifest.vocabulary
    [row] = pq.read_table(records.path_of("inputs.parquet")).to_pylist()
    [expected] = pq.read_table(text.path_of("inputs.parquet")).to_pylist()
    assert {**row, "name": ""} == {**expected, "name": ""}


def test_the_manifest_names_the_format_only_of_records(text: Dataset, tmp_path: Path) -> None:
    records = run(tmp_path / "in", tmp_path / "out", input_format=write_corpus(tmp_path / "in", "parquet"))
    assert records.manifest.options == {**text.manifest.options, "input_format": "parquet", "text_field": "body"}
    assert not {"input_format", "text_field"} & text.manifest.options.keys()


def write_bad(folder: Path) -> bytes:
    """Write one file with every kind of bad record between good ones; return its bytes."""
    folder.mkdir()
    good = b'{"body": "a few good words"}\n'
    data = good * 50 + b"{\n" + good + b'{"text": "b"}\n\n' + b'{"body": "\\udc00"}\n'
    data += b'{"body": "' + b"y" * 2000 + b' ok ok"}\n' + good * 50 + b"[]"
    (folder / "a.jsonl").write_bytes(data)
    return data


@pytest.mark.parametrize("block", [1, 100, 1 << 20])
def test_dead_letters_are_kept_once_whatever_the_blocks(block: int, tmp_path: Path) -> None:
    data = write_bad(tmp_path / "in")
    dataset = run(
        tmp_path / "in", tmp_path / "out", input_format="jsonl", max_dead_letter_fraction=0.9, read_block_bytes=block
    )
    letters = pq.read_table(dataset.path_of("dead-letters/part-00000.parquet")).to_pylist()
    records = [(b"{", "invalid-json"), (b'{"text": "b"}', "no-text-field"), (b'{"body": "\\udc00"}', "invalid-utf-8")]
    records.append((b"[]", "no-text-field"))
    expected = [(data.rfind(b"\n" + content) + 1, reason, content) for content, reason in records[1:]]
    expected.append((data.find(b"{\n"), "invalid-json", b"{"))
    # A token's offset is its line's in the text of the records: 51 of them stand before it.
    expected.append((51 * len("a few good words\n"), "token-too-long", b"y" * 2000))
    assert sorted((row["offset"], row["reason"], row["content"]) for row in letters) == sorted(expected)
    corpus = dataset.manifest.corpus
    assert corpus.dead_letters == {"invalid-json": 1, "invalid-utf-8": 1, "no-text-field": 2, "token-too-long": 1}
    assert corpus.dead_letter_bytes == sum(len(content) for _, _, content in expected)
    assert corpus.lines == 102


def test_bad_records_end_the_run_under_fail(tmp_path: Path) -> None:
    data = write_bad(tmp_path / "in")
    with pytest.raises(Exception, match="found no JSON") as error:
        run(tmp_path / "in", tmp_path / "out", input_format="jsonl", encoding_errors="fail")
    message = f"record at byte {data.find(b'{' + bytes([10]))}: found no JSON, expected one JSON object a line"
    assert cli.error_line(error.value) == f"{tmp_path}/in/a.jsonl: {message}"
    assert not (tmp_path / "out").exists()


def test_too_many_bad_records_end_the_run_and_stay_readable(tmp_path: Path) -> None:
    write_bad(tmp_path / "in")
    with pytest.raises(Exception, match="set aside") as error:
        run(tmp_path / "in", tmp_path / "out", input_format="jsonl", run_id="r")
    text_bytes = 101 * len("a few good words\n") + 2000 + len(" ok ok\n")
    aside = 2000 + len(b"{" + b'{"text": "b"}' + b'{"body": "\\udc00"}' + b"[]")
    share = f"found {aside} of {text_bytes + aside - 2000} bytes set aside"
    assert share in str(cli.error_line(error.value))
    assert pq.read_table(tmp_path / "out/runs/r/dead-letters/part-00000.parquet").num_rows == 5
    assert not (tmp_path / "out/LATEST.json").exists()


def test_a_field_that_no_record_has_is_named(tmp_path: Path) -> None:
    input_format = write_corpus(tmp_path / "in", "jsonl")
    with pytest.raises(Exception, match="set aside") as error:
        run(tmp_path / "in", tmp_path / "out", input_format=input_format, text_field="txt")
    line = str(cli.error_line(error.value))
    assert "set aside (100%: 25,000 no-text-field, first in a.jsonl at byte 0), expected at most" in line
    assert line.endswith("; see --text-field (for lists --tokenizer items)")


def test_records_that_change_between_the_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    input_format = write_corpus(tmp_path / "in", "jsonl")
    source, plan = tmp_path / "in" / "a.jsonl", publish.plan_shards

    def change(*arguments: object) -> object:
        source.write_bytes(source.read_bytes().replace(b"fox", b"cat"))
        return plan(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(publish, "plan_shards", change)
    with pytest.raises(Exception, match=r"a\.jsonl: changed between the counting and the pair pass"):
        run(tmp_path / "in", tmp_path / "out", input_format=input_format)
