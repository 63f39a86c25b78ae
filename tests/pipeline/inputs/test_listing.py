"""`list` and --input-list: what one command listed another one reads, all of it or a part, in the same order."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline import cli, job
from pipeline.config import Config
from pipeline.dataset.reader import Dataset, open_dataset


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "in" / "b").mkdir(parents=True)
    for name in ("a.txt", "b/c.txt", "z.txt"):
        (tmp_path / "in" / name).write_text(f"the cat saw {name[0]} cat\nthe dog saw the cat\n" * 9)
    return tmp_path


def run(folder: Path, name: str, **options: object) -> Dataset:
    config = Config((f"{folder}/in/**/*.txt",), str(folder / name), min_count=1, sample=0.0, **options)  # type: ignore[arg-type]
    return open_dataset(str(folder / name), job.run_job(config, ()).run_id)


def list_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    to = f"{folder}/list.parquet"
    words = ["--input", f"{folder}/in/**/*.txt", "--output", f"{folder}/whole", "--to", to, "--json"]
    assert cli.main(["list", *words]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    sizes = [path.stat().st_size for path in (folder / "in").rglob("*.txt")]
    assert found == {"to": to, "files": 3, "bytes": sum(sizes)}
    return to


def test_a_whole_list_gives_the_dataset_of_its_globs(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = run(corpus, "listed", input_list=list_files(corpus, capsys))
    assert listed.dataset_id == run(corpus, "whole").dataset_id
    written = pq.read_table(corpus / "listed" / "runs" / listed.run_id / "listing.parquet")
    assert written.equals(pq.read_table(corpus / "list.parquet"))


def test_a_part_of_a_list_is_all_that_is_read(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pq.read_table(list_files(corpus, capsys))
    pq.write_table(table.slice(1, 1), corpus / "part.parquet")
    found = run(corpus, "part", input_list=f"{corpus}/part.parquet")
    inputs = pq.read_table(found.path_of("inputs.parquet"))
    assert inputs["name"].to_pylist() == table["name"].slice(1, 1).to_pylist()


@pytest.mark.parametrize("kind", ["missing", "columns", "empty"])
def test_what_is_no_list_is_refused(corpus: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = pq.read_table(list_files(corpus, capsys))
    if kind != "missing":
        pq.write_table(table.select(["uri"]) if kind == "columns" else table.slice(0, 0), corpus / "bad.parquet")
    words = ["--input", f"{corpus}/in/**/*.txt", "--output", f"{corpus}/out", "--input-list", f"{corpus}/bad.parquet"]
    assert cli.main(words) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "bad.parquet: " in error
    assert not (corpus / "out").exists()


def test_a_run_that_is_not_the_published_one_can_be_extended(corpus: Path) -> None:
    first = run(corpus, "data", run_id="first")
    second = run(corpus, "data", run_id="second", max_vocab=3)
    assert second.run_id == open_dataset(str(corpus / "data")).run_id
    third = run(corpus, "third", vocab=f"{corpus}/data/runs/first")
    digests = [dataset.manifest.vocabulary.digest for dataset in (first, second)]
    assert [third.manifest.options["vocab"]["digest"] == digest for digest in digests] == [True, False]
