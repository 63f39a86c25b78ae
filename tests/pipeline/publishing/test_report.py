"""The page about a run, and the lengths of sentences that it shows."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from tests.support.pages import figures_of, require_page

LINES = ["one", "two words", "three words here", "", "<b> <b> <b> <b> <b> <b> eight tokens", "x" * 50]


def run(folder: Path, output: str, *flags: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    (folder / "a.txt").write_bytes(("\n".join(LINES) + "\n").encode() * 200 + b"bad \xff\n")
    (folder / "b.txt").write_bytes(b"one more file\n" * 10)
    words = ["--input", f"{folder}/*.txt", "--output", str(folder / output), "--max-dead-letter-fraction", "0.5",
             "--max-token-bytes", "40", "--sample", "0", "--tokenizer", "whitespace", "--json", *flags]  # fmt: skip
    assert main(words) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def lengths_of(folder: Path) -> list[int]:
    [file] = folder.glob("runs/*/run.json")
    found: list[int] = json.loads(file.read_text())["sentence_lengths"]
    return found


def test_a_run_writes_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(tmp_path, "data", "--report", str(tmp_path / "page.html"), capsys=capsys)
    assert found["report"] == str(tmp_path / "page.html")
    page = require_page((tmp_path / "page.html").read_bytes())
    assert figures_of(page) == ["rank-frequency", "coverage", "sentence-lengths", "dead-letters", "stages"]
    text = page.all_text()
    for shown in (found["run"], found["dataset_id"], "invalid-utf-8", "token-too-long", "<b>", "whitespace"):
        assert shown in text
    assert "writing pairs" in page.find("figure", id="stages")[0].all_text()


def test_lengths_are_the_same_for_any_number_of_threads_and_blocks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "one", "--threads", "1", capsys=capsys)
    run(tmp_path, "four", "--threads", "4", "--read-block-bytes", "100", capsys=capsys)
    assert lengths_of(tmp_path / "one") == lengths_of(tmp_path / "four") == [200, 410, 0, 200]


@pytest.mark.parametrize(
    ("flags", "said"),
    [(["--no-wait"], "cannot be combined with --no-wait"), ([], "found a folder at")],
)  # fmt: skip
def test_a_page_that_cannot_be_is_refused_at_once(
    tmp_path: Path, flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = str(tmp_path / "page.html") if flags else str(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["--input", "x", "--output", str(tmp_path / "data"), "--report", report, *flags])
    assert capsys.readouterr().err.startswith(f"error: argument --report: {said}")


def test_a_missing_library_is_said_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    (tmp_path / "a.txt").write_text("one two\n")
    paths = [str(tmp_path / name) for name in ("a.txt", "data", "page.html")]
    assert main(["--input", paths[0], "--output", paths[1], "--report", paths[2]]) == 1
    error = capsys.readouterr().err
    assert error == "error: --report: the page needs the module 'altair': pip install 'pairstream[report]'\n"
    assert not (tmp_path / "data").exists()
