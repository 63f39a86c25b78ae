"""Odd names, circles, and command lines that say what nobody means."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline import job
from pipeline.cli import main
from pipeline.config import Config
from pipeline.dataset.reader import open_dataset
from tests.support.commands import FLAGS, TEXT, expect_failure, expect_line, in_child, in_process, make_old, words_of

NAMES = [
    "new\nline.txt", "quo'te\".txt", "st*ar.txt", "qu?es.txt", "[br].txt", "comma,x.txt", " space .txt", "-dash.txt",
    "%41.txt", "$HOME.txt", "#hash.txt", "a@b:c.txt", "été.txt", "tab\tx.txt", "back\\slash.txt", "a.txt\r", "~",
]  # fmt: skip


def test_odd_names_of_files(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in NAMES:
        (tmp_path / "in" / name).write_text(TEXT)
    assert main(words_of(tmp_path)) == 0
    dataset = open_dataset(f"{tmp_path}/out")
    rows = pq.read_table(dataset.path_of("inputs.parquet")).to_pylist()
    assert [row["name"] for row in rows] == sorted(NAMES, key=str.encode)
    assert {row["lines"] for row in rows} == {600}
    assert main(["verify", "--output", f"{tmp_path}/out"]) == 0


@pytest.mark.parametrize("name", NAMES)
def test_an_odd_name_is_a_file_and_a_folder_by_itself(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(TEXT)
    assert main(["--input", f"{tmp_path}/{name}", "--output", f"{tmp_path}/x{name}/{name}", *FLAGS]) == 0
    dataset = open_dataset(f"{tmp_path}/x{name}/{name}")
    assert pq.read_table(dataset.path_of("inputs.parquet"))["name"].to_pylist() == [name]
    assert main(["clean", "--output", f"{tmp_path}/x{name}/{name}", "--keep", "1"]) == 0


def test_a_name_with_a_line_feed_makes_no_second_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a\nb").mkdir()
    (tmp_path / "a\nb" / "in").mkdir()
    make_damaged = tmp_path / "a\nb" / "in" / "bad\n.gz"
    make_damaged.write_bytes(b"\x1f\x8b\x08")
    expect_line(*in_process(words_of(tmp_path / "a\nb"), capsys)(), "/in/bad .gz: found ")
    (tmp_path / "a\nb" / "out").write_text("")
    expect_line(*in_process(words_of(tmp_path / "a\nb"), capsys)(), "/out/LATEST.json: Not a directory")


def test_an_output_whose_name_is_no_utf_8(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text(TEXT)
    output = f"{tmp_path}/\udcff"
    words = [*words_of(tmp_path)[:2], "--output", output, *FLAGS]
    for locale in ("C", "C.UTF-8"):
        assert in_child(words, ["env", f"LC_ALL={locale}"])() == (0, "")
    assert open_dataset(output).manifest.corpus.lines == 600


def test_a_very_long_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_old(tmp_path)
    (tmp_path / "in" / "a.txt").write_text(TEXT)
    for output in (f"{tmp_path}/{'x' * 300}", f"{tmp_path}" + "/y" * 2500):
        words = [*words_of(tmp_path)[:2], "--output", output, *FLAGS]
        expect_failure(tmp_path, in_process(words, capsys), output[:200], ": File name too long")
    expect_failure(
        tmp_path, in_process(["--input", "x" * 5000, *words_of(tmp_path)[2:]], capsys), "found File name too"
    )


@pytest.mark.parametrize("pattern", ["in/*", "in/**", "in/out/**", "in/link/**", "in/out/LATEST.json"])
def test_what_the_output_holds_is_no_input(
    pattern: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same command twice, with the dataset beside the text, would read what it wrote: its JSON is text like any.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text(TEXT)
    output = "in/" if pattern == "in/*" else "in/out"
    assert main(["--input", "in/a.txt", "--output", output, *FLAGS]) == 0
    if "link" in pattern:
        (tmp_path / "in" / "link").symlink_to("out")
    words = ["--input", pattern, "--output", f"{tmp_path}/{output}", *FLAGS]
    line = expect_line(*in_process(words, capsys)(), f": --input {pattern} matches files that are written there, ")
    assert line.startswith("--output ")
    assert len(list((tmp_path / output / "runs").iterdir())) == 1


def test_a_dataset_beside_the_text_is_none_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    for _ in range(2):
        assert main(["--input", f"{tmp_path}/*.txt", "--output", str(tmp_path), *FLAGS]) == 0
    assert open_dataset(str(tmp_path)).manifest.corpus.files == 1


@pytest.mark.parametrize("link", ["file", "folder"])
def test_a_link_to_a_file_that_is_matched_as_well(
    link: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_old(tmp_path)
    (tmp_path / "in" / "2024").mkdir()
    (tmp_path / "in" / "2024" / "a.txt").write_text(TEXT)
    (tmp_path / "in" / "latest").symlink_to("2024" if link == "folder" else "2024/a.txt")
    words = ["--input", f"{tmp_path}/in/**", *words_of(tmp_path)[2:]]
    expect_failure(tmp_path, in_process(words, capsys), "in/latest", "; expected each file once")


def test_a_fifo_among_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_old(tmp_path)
    (tmp_path / "in" / "a.txt").write_text(TEXT)
    os.mkfifo(tmp_path / "in" / "pipe")  # opening it would wait for ever
    expect_failure(tmp_path, in_process(words_of(tmp_path), capsys), f"{tmp_path}/in/pipe is a FIFO")


def test_a_folder_among_the_files_and_a_folder_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_old(tmp_path)
    (tmp_path / "in" / "folder.txt").mkdir()
    words = ["--input", f"{tmp_path}/in/", *words_of(tmp_path)[2:]]
    expect_failure(
        tmp_path, in_process(words, capsys), f"in/: this is a folder; name the files in it, as {tmp_path}/in/* does"
    )
    (tmp_path / "in" / "a.txt").write_text(TEXT)
    assert main(words_of(tmp_path)) == 0
    assert open_dataset(f"{tmp_path}/out").manifest.corpus.files == 1


def test_a_file_that_vanishes_while_files_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_old(tmp_path)
    for name in ("a.txt", "b.txt"):
        (tmp_path / "in" / name).write_text(TEXT)
    stat = os.stat

    def vanish(path: str, **rest: bool) -> os.stat_result:
        if str(path).endswith("b.txt"):
            (tmp_path / "in" / "b.txt").unlink(missing_ok=True)
        return stat(path, **rest)

    monkeypatch.setattr(os, "stat", vanish)
    expect_failure(tmp_path, in_process(words_of(tmp_path), capsys), "/in/b.txt: found No such file or directory, ")


@pytest.mark.parametrize("command", ["run", "verify", "clean", "publish"])
@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_output_is_not_the_root(command: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    more = {"run": ["--input", "x"], "publish": ["--run", "x"]}.get(command, [])
    with pytest.raises(SystemExit) as stop:
        main([command, "--output", value, *more])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error == f"error: argument --output: found {value!r}, expected a name (--help lists the flags)\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--input", "", "--output", "x"], "argument --input: found '', expected a name"),
        (
            ["--input", "a,,b", "--output", "x"],
            "argument --input: found 'a,,b', expected a glob before and after each ",
        ),
        (["--output", "x"], "the following arguments are required: --input"),
        (["--input", "x", "--output"], "argument --output: expected one argument"),
        (["--input", "x", "--output", "x", "y"], "unrecognized arguments: y"),
        (["--input", "x", "--output", "x", "--seed", "1e3"], "argument --seed: invalid int value: '1e3'"),
        (["--input", "x", "--output", "x", "--min-count", ""], "argument --min-count: invalid int value: ''"),
        (["--input", "x", "--output", "x", "--compression", ""], "argument --compression: invalid choice: ''"),
    ],
)
def test_wrong_usage(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_one_sentence_of_one_word_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_old(tmp_path)
    (tmp_path / "in" / "a.txt").write_text("word\nother\n" * 50)
    expect_failure(tmp_path, in_process(words_of(tmp_path), capsys), "found no sentence with two words left")


def test_one_word_that_is_99_percent(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text(("the " * 99 + "fox\n") * 3000)
    config = Config((f"{tmp_path}/in/*",), f"{tmp_path}/out", min_count=1, sample=1e-3, shard_pairs=3000, passes=2)
    dataset = open_dataset(config.output, job.run_job(config, ()).run_id)
    # What subsampling keeps of each word, by the paper's formula: f is its share, p = sqrt(t / f) + t / f.
    expected = sum(300_000 * f * ((1e-3 / f) ** 0.5 + 1e-3 / f) for f in (0.99, 0.01))
    for totals in dataset.manifest.passes:
        assert totals.kept == pytest.approx(expected, rel=0.05)
    for index in range(2):
        rows = [shard.rows for shard in dataset.shards if shard.pass_index == index]
        assert len(rows) > 5
        assert max(rows) < 1.5 * min(rows)


def test_the_result_is_said_whatever_the_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text(TEXT)
    words = ["--input", f"{tmp_path}/in/*", "--output", f'{tmp_path}/"\n', *FLAGS, "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["output"] == f'{tmp_path}/"\n'
