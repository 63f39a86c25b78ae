"""Standard streams that are closed, full, or whose reader left: no traceback, and what was done is said."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.test_outputs import write_text
from tests.support.paths import ROOT
from tests.trainer.exporting.test_formats import TIME, make_model
from trainer.models.store import save_model

FULL, GONE, CLOSED = ">/dev/full", "gone", ">&-"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    save_model(str(folder / "m"), make_model(), {"published_at": TIME.isoformat()})
    write_text(folder / "in")
    return folder


def run(command: str, work: Path, redirect: str) -> subprocess.CompletedProcess[str]:
    """Run a command line; where its reader is to be gone, that happens before it writes."""
    if redirect == GONE:
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", *command.split()], cwd=work, check=False, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=write, stderr=subprocess.PIPE,
        )  # fmt: skip
        os.close(write)
        return done
    return subprocess.run(
        ["bash", "-c", f"exec {sys.executable} -W ignore -m {command} {redirect}"], cwd=work, check=False, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
    )  # fmt: skip


LOOKS = ["trainer --help", "trainer neighbors --model m w1 --json", "trainer versions --model m", "pipeline --help",
         "pipeline --version", "trainer export --help"]  # fmt: skip


@pytest.mark.parametrize("command", LOOKS)
@pytest.mark.parametrize(("redirect", "words"), [(FULL, "No space left on device"), (CLOSED, "Bad file descriptor")])
def test_a_look_that_cannot_be_shown_fails_in_one_line(command: str, redirect: str, words: str, work: Path) -> None:
    done = run(command, work, redirect)
    assert (done.returncode, done.stderr) == (1, f"error: standard output: {words}\n")


@pytest.mark.parametrize("command", LOOKS)
def test_a_reader_that_left_is_no_error(command: str, work: Path) -> None:
    done = run(command, work, GONE)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("json", ["", " --json"])
@pytest.mark.parametrize(("redirect", "status"), [(FULL, 1), (CLOSED, 1), (GONE, 141)])
@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("trainer export --model m --format word2vec --to vectors.txt", "wrote 300 tokens"),
        ("trainer report --model m --to page.html", "wrote "),
        ("trainer rollback --model m --to VERSION", " in m is live already"),
        ("pipeline list --input in/* --output none --to list.parquet", "listed 1 files"),
    ],
)
def test_what_was_done_is_said(command: str, said: str, redirect: str, status: int, json: str, work: Path) -> None:
    [version] = os.listdir(work / "m" / "versions")
    done = run(command.replace("VERSION", version) + json, work, redirect)
    assert done.returncode == status
    assert said in done.stderr
    assert done.stderr.startswith("warning: nothing reads standard output" if status == 141 else "error: standard out")
    assert done.stderr.count("\n") == 1


def test_a_published_run_is_not_called_failed_alone(work: Path) -> None:
    done = run("pipeline --input in/* --output data --min-count 1 --sample 0 --run-id one", work, FULL)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == ("error: standard output: No space left on device; all else is done: published run one to data")
    assert "Traceback" not in done.stderr
    assert (work / "data" / "LATEST.json").exists()


@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full", "<&- 2>&-", "<&-"])
@pytest.mark.parametrize(
    ("command", "status"), [("trainer neighbors --model m w1 --json", 0), ("trainer neighbors --model none w1", 1),
                            ("trainer export --fly", 2), ("trainer neighbors --model m --json --interactive", 0)]
)  # fmt: skip
def test_standard_error_may_be_missing(command: str, status: int, redirect: str, work: Path) -> None:
    done = run(command, work, redirect)
    assert done.returncode == status
    assert "Traceback" not in done.stdout + done.stderr
    assert "error" not in done.stdout
    if "w1 --json" in command:
        assert done.stdout.startswith("{")


def test_a_file_never_gets_the_number_of_a_closed_stream(work: Path) -> None:
    done = run("trainer export --model m --format word2vec --to closed.txt", work, "<&- >&- 2>&-")
    assert done.returncode == 1
    assert (work / "closed.txt").read_bytes().startswith(b"300 7\n")
    assert b"error" not in (work / "closed.txt").read_bytes()


def test_vectors_on_standard_output(work: Path) -> None:
    done = run("trainer export --model m --format word2vec --to /dev/stdout", work, "")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert (lines[0], len(lines)) == ("300 7", 301)
    assert done.stderr.startswith("wrote 300 tokens")
    done = run("trainer export --model m --format word2vec --to /dev/stdout", work, GONE)
    assert (done.returncode, done.stderr) == (141, "")
