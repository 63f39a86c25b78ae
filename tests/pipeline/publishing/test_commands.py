"""What `clean` takes away, and what it never does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import job
from pipeline.cli import main
from pipeline.config import Config
from pipeline.dataset.reader import open_dataset
from pipeline.dataset.schema import FormatError
from pipeline.errors import ConfigError
from pipeline.publishing import clean
from pipeline.publishing.lease import LEASE, Writer, hold_lease, probe_lease
from pipeline.storage import storage
from tests.faults.test_kill import KILLER
from tests.support.datasets import group_of, make_dataset
from tests.support.paths import ROOT

DAY = 86400.0


def make_run(output: Path, run: str, day: int) -> None:
    """Publish a complete run that was started on some day of January."""
    make_dataset(output, passes=[[[group_of([[0, 1, 2]])]]], run_id=run)
    (output / "runs" / run / "run.json").write_text(json.dumps({"started": f"2024-01-{day:02}T00:00:00+00:00"}))


def point_to(output: Path, run: str) -> None:
    assert main(["publish", "--output", str(output), "--run", run]) == 0


def runs_of(output: Path) -> list[str]:
    return sorted(path.name for path in (output / "runs").iterdir())


def leave(folder: Path, *names: str, age_s: float = 0.0) -> None:
    """Make files that were written some time ago."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"left")
        written = path.stat().st_mtime - age_s
        os.utime(path, (written, written))


LEFT = ("listing.parquet", "vocab.parquet", "pairs/pass-00/part-00000-of-00003.parquet", "tmp/ids-0.bin")
LEFT += ("pairs/pass-00/.x1.tmp", "dead-letters/part-00002.parquet", "phrases/round-01.parquet", "tmp/a/b.bin")


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A dataset, and beside its run one whose process was killed while it wrote shards."""
    (tmp_path / "in").mkdir()
    for part in range(2):
        text = "\n".join(f"the fox {i % 7} saw the dog {i % 5} near house {i % 3}" for i in range(2000))
        (tmp_path / "in" / f"{part}.txt").write_bytes(text.encode() + b"\nbad \xff line")
    make_run(tmp_path / "out", "good", 1)
    assert run_words(tmp_path, "--run-id", "killed", kill=3) == -signal.SIGKILL
    return tmp_path / "out"


def run_words(folder: Path, *words: str, kill: int = -1) -> int:
    flags = ["--min-count", "1", "--sample", "0", "--shard-pairs", "20000", "--max-dead-letter-fraction", "0.5"]
    words = ("--input", f"{folder}/in/*", "--output", f"{folder}/out", *flags, *words)
    command = [sys.executable, "-W", "ignore", "-c", KILLER, "pipeline.stages.chunks.write_shard", str(kill), *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode


def test_a_killed_run_is_certainly_dead(killed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = killed / "runs" / "killed"
    assert {LEASE, "listing.parquet", "vocab.parquet", "tmp", "dead-letters"} <= {p.name for p in folder.iterdir()}
    files = len(clean.list_files(str(folder)))
    (folder / "notes.txt").write_text("mine")
    assert main(["clean", "--output", str(killed), "--json"]) == 0  # however young it is
    found = json.loads(capsys.readouterr().out)
    assert (found["output"], found["dry_run"]) == (str(killed), False)
    [item] = found["removed"]
    assert (item["run"], item["reason"], item["files"], item["dead_letters"]) == ("killed", "dead", files, 1)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert open_dataset(str(killed)).run_id == "good"
    assert main(["clean", "--output", str(killed)]) == 0
    assert capsys.readouterr().out == "found nothing to remove\n"


def test_a_run_again_under_its_name_finds_nothing_stale(killed: Path) -> None:
    assert list((killed / "runs" / "killed" / "pairs").rglob("*.parquet"))
    # Fewer shards, whose names are others.
    assert run_words(killed.parent, "--run-id", "killed", "--window", "2", "--shard-pairs", "1Mi") == 0
    dataset = open_dataset(str(killed))
    assert dataset.run_id == "killed"
    found = {file.name for file in clean.list_files(str(killed / "runs" / "killed"))}
    listed = {*dataset.manifest.files, *(shard.name for shard in dataset.shards)}
    assert found == listed | {"manifest.json", "run.json", "listing.parquet"}


def test_a_live_run_stays_and_its_name_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "now"
    leave(folder, *LEFT, age_s=9 * DAY)
    with hold_lease(str(folder), "FnApiRunner", True):
        assert clean.clean(str(tmp_path), 0.0) == []
        with pytest.raises(ConfigError, match=r"^--run-id now: a run of that name is being written"):
            hold_lease(str(folder), "FnApiRunner", True).__enter__()
    assert len(clean.list_files(str(folder))) == len(LEFT) + 1
    [item] = clean.clean(str(tmp_path), 9 * DAY)  # the process let go without saying that it was done
    assert (item.run, item.reason, item.files, item.dead_letters) == ("now", "dead", len(LEFT) + 1, 1)
    assert not folder.exists()


def test_a_second_process_of_one_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a b a b\n" * 9)
    config = Config((f"{tmp_path}/a.txt",), str(tmp_path / "out"), run_id="one")
    with (
        hold_lease(f"{tmp_path}/out/runs/one", "FnApiRunner", True),
        pytest.raises(ConfigError, match="--run-id one: a run of that name is being written"),
    ):
        job.run_job(config, ())
    assert [file.name for file in clean.list_files(f"{tmp_path}/out/runs")] == [f"one/{LEASE}"]


@pytest.mark.parametrize(
    "lease", [{"host": "elsewhere", "in_process": True}, {"host": os.uname().nodename, "in_process": False}, [], None]
)
def test_where_nothing_is_certain_age_tells(tmp_path: Path, lease: object) -> None:
    folder = tmp_path / "runs" / "far"
    leave(folder, *LEFT, age_s=2 * DAY)
    if lease is not None:
        (folder / LEASE).write_text(json.dumps(lease))
    leave(folder, "vocab.parquet", age_s=DAY)  # the youngest one counts
    os.utime(folder / (LEASE if lease is not None else "vocab.parquet"), (folder.stat().st_mtime - DAY,) * 2)
    assert clean.clean(str(tmp_path), 1.1 * DAY) == []
    [item] = clean.clean(str(tmp_path), 0.9 * DAY)
    assert (item.run, item.reason) == ("far", "dead")
    assert not folder.exists()


def test_temporaries_of_complete_runs_and_beside_them(tmp_path: Path) -> None:
    make_run(tmp_path, "one", 1)
    folder = tmp_path / "runs" / "one"
    before = clean.list_files(str(folder))
    leave(folder, "tmp/ids-1.bin", "pairs/pass-00/.abc.tmp", age_s=2 * DAY)
    for file in before:
        os.utime(folder / file.name, (file.modified - 2 * DAY,) * 2)
    leave(tmp_path, ".LATEST-x.tmp", ".mine", "notes.tmp", age_s=2 * DAY)
    leave(tmp_path, ".young.tmp")
    found = clean.clean(str(tmp_path), DAY)
    assert [(item.run, item.reason, item.files) for item in found] == [("one", "temporary", 2), ("", "temporary", 1)]
    assert {file.name for file in clean.list_files(str(folder))} == {file.name for file in before}
    assert {".mine", "notes.tmp", ".young.tmp", "LATEST.json"} <= {path.name for path in tmp_path.iterdir()}


def test_a_run_killed_just_before_the_pointer_keeps_all_but_its_temporaries(tmp_path: Path) -> None:
    make_run(tmp_path, "one", 1)
    folder = tmp_path / "runs" / "one"
    with hold_lease(str(folder), "FnApiRunner", True):
        leave(folder, "tmp/ids-1.bin")
    [item] = clean.clean(str(tmp_path), DAY)
    assert (item.run, item.reason, item.files) == ("one", "temporary", 2)
    assert open_dataset(str(tmp_path), "one").run_id == "one"


@pytest.mark.parametrize("published", [1, 3, 5])
@pytest.mark.parametrize("keep", [0, 1, 2, 3, 9])
def test_old_runs(tmp_path: Path, published: int, keep: int) -> None:
    names = {1: "delta", 2: "alpha", 3: "echo", 4: "bravo", 5: "charlie"}  # names say nothing
    for day, name in names.items():
        make_run(tmp_path, name, day)
    point_to(tmp_path, names[published])
    leave(tmp_path / "runs" / "unfinished", *LEFT)
    found = clean.clean(str(tmp_path), DAY, keep)
    gone = range(1, max(1, published - keep + 1)) if keep else []
    assert [(item.run, item.reason) for item in found] == [(names[day], "old") for day in gone]
    assert set(runs_of(tmp_path)) == {*names.values(), "unfinished"} - {names[day] for day in gone}
    assert open_dataset(str(tmp_path)).run_id == names[published]
    assert clean.clean(str(tmp_path), DAY, keep) == []


def test_without_a_pointer_no_complete_run_is_old(tmp_path: Path) -> None:
    make_run(tmp_path, "one", 1)
    make_run(tmp_path, "two", 2)
    (tmp_path / "LATEST.json").unlink()
    assert clean.clean(str(tmp_path), 0.0, keep=1) == []
    (tmp_path / "LATEST.json").write_text("{")
    with pytest.raises(FormatError, match=r"LATEST\.json"):
        clean.clean(str(tmp_path), 0.0, keep=1)
    assert runs_of(tmp_path) == ["one", "two"]


def test_folders_of_others_stay_also_where_they_are_empty(tmp_path: Path) -> None:
    """Somebody else's folder, a live run's that has no file yet, and the output itself."""
    output = tmp_path / "out"
    theirs = [output / "mine", output / "runs" / "dead" / "notes", output / "runs" / "live" / "pairs" / "pass-00"]
    for folder in theirs:
        folder.mkdir(parents=True)
    leave(output / "runs" / "dead", *LEFT, age_s=2 * DAY)
    (output / "runs" / "dead" / "pairs" / "pass-01").mkdir()  # the dead run made it, and died before it had a file
    leave(output, ".LATEST-x.tmp", age_s=2 * DAY)
    assert [item.run for item in clean.clean(str(output), DAY)] == ["dead", ""]
    assert all(folder.is_dir() for folder in theirs)
    assert [path.name for path in (output / "runs" / "dead").iterdir()] == ["notes"]
    leave(tmp_path / "empty", ".x.tmp", age_s=2 * DAY)
    assert [item.files for item in clean.clean(str(tmp_path / "empty"), DAY)] == [1]
    assert (tmp_path / "empty").is_dir()


@pytest.mark.parametrize("made", ["", "out", "out/runs"])
def test_a_failed_run_removes_the_folders_that_it_made(made: str, tmp_path: Path) -> None:
    (tmp_path / made).mkdir(parents=True, exist_ok=True)
    (tmp_path / "a.txt").write_text("a b a b\n" * 9)
    config = Config((f"{tmp_path}/a.txt",), str(tmp_path / "out"), min_count=99)
    with pytest.raises(Exception, match="--min-count 99"):
        job.run_job(config, ())
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == sorted(
        {"a.txt", *(["out"] if made else []), *(["out/runs"] if made == "out/runs" else [])}
    )


def test_a_run_that_becomes_the_published_one_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for day, name in enumerate(("one", "two", "three"), 1):
        make_run(tmp_path, name, day)
    seen = iter(["three", "one", "two"])
    monkeypatch.setattr(clean, "_published", lambda output: next(seen))
    assert clean.remove_old_runs(str(tmp_path), 1) == []
    assert runs_of(tmp_path) == ["one", "three", "two"]


def test_a_removal_that_stops_halfway_leaves_no_half_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path, "one", 1)
    make_run(tmp_path, "two", 2)
    unlink, calls = os.unlink, [2]

    def refuse(path: str) -> None:
        calls[0] -= 1
        if calls[0] < 0:
            raise PermissionError(13, "Permission denied", path)
        unlink(path)

    monkeypatch.setattr(os, "unlink", refuse)
    assert main(["clean", "--output", str(tmp_path), "--keep", "1"]) == 1
    monkeypatch.undo()
    with pytest.raises(FormatError, match=r"one/manifest\.json: found no file"):
        open_dataset(str(tmp_path), "one")
    [item] = clean.clean(str(tmp_path), 0.0)
    assert (item.run, item.reason) == ("one", "dead")
    assert runs_of(tmp_path) == ["two"]


def test_a_dry_run_says_the_same_and_removes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for day in (1, 2):
        make_run(tmp_path, f"run-{day}", day)
    leave(tmp_path / "runs" / "dead", *LEFT, age_s=2 * DAY)
    leave(tmp_path, ".x.tmp", age_s=2 * DAY)
    before = clean.list_files(str(tmp_path))
    words = ["clean", "--output", str(tmp_path), "--older-than=1d", "--keep=1"]
    assert main([*words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert clean.list_files(str(tmp_path)) == before
    assert said.splitlines()[:2] == [
        "would remove run dead, which died: 8 files, 32 bytes, 1 of them dead letters",
        "would remove temporary files: 1 files, 4 bytes",
    ]
    assert said.splitlines()[2].startswith("would remove run run-1, which newer ones replaced: ")
    assert main(words) == 0
    assert capsys.readouterr().out == said.replace("would remove", "removed")
    assert runs_of(tmp_path) == ["run-2"]


def test_a_link_to_elsewhere_is_not_followed(tmp_path: Path) -> None:
    leave(tmp_path / "elsewhere", *LEFT, age_s=2 * DAY)
    (tmp_path / "out" / "runs").mkdir(parents=True)
    (tmp_path / "out" / "runs" / "link").symlink_to(tmp_path / "elsewhere")
    assert clean.clean(str(tmp_path / "out"), 0.0) == []
    assert len(clean.list_files(str(tmp_path / "elsewhere"))) == len(LEFT)


def test_keep_on_a_run(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a b a b\n" * 9)
    for name in ("one", "two", "three"):
        config = Config((f"{tmp_path}/a.txt",), str(tmp_path / "out"), run_id=name, sample=0.0, keep=2, phrases=1)
        job.run_job(config, ())
    assert runs_of(tmp_path / "out") == ["three", "two"]
    assert open_dataset(str(tmp_path / "out")).run_id == "three"


def test_old_runs_that_cannot_be_removed_do_not_undo_a_publication(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.txt").write_text("a b a b\n" * 9)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "runs/one/manifest.json")

    for name in ("one", "two"):
        config = Config((f"{tmp_path}/a.txt",), str(tmp_path / "out"), run_id=name, sample=0.0, keep=1)
        job.run_job(config, ())
        monkeypatch.setattr(clean, "remove_old_runs", refuse)
    assert open_dataset(str(tmp_path / "out")).run_id == "two"
    assert runs_of(tmp_path / "out") == ["one", "two"]
    assert "old runs stay: [Errno 13] Permission denied" in caplog.text


def test_a_lease_that_was_removed_is_none(tmp_path: Path) -> None:
    with hold_lease(str(tmp_path / "r"), "x", True) as before:
        assert before is Writer.NONE
        storage.remove_file(str(tmp_path / "r" / LEASE))
        with hold_lease(str(tmp_path / "r"), "x", True), probe_lease(str(tmp_path / "r")) as writer:
            assert writer is Writer.ALIVE
    with probe_lease(str(tmp_path / "r")) as writer:
        assert writer is Writer.DEAD


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        (["--older-than", "yesterday"], 2, "argument --older-than: found 'yesterday', expected a time such as 90m"),
        (["--keep", "-1"], 2, "argument --keep: found '-1', expected 0 or more"),
        (["--run", "x"], 2, "unrecognized arguments: --run x"),
        ([], 1, "found no folder, expected that of a dataset"),
    ],
)
def test_what_goes_wrong_is_one_line(
    words: list[str], status: int, part: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    try:
        found = main(["clean", "--output", str(tmp_path / "none"), *words])
    except SystemExit as stop:
        found = int(str(stop.code))
    error = capsys.readouterr().err
    assert (found, error.count("\n")) == (status, 1)
    assert part in error


def record(output: Path, model: str, uses: dict[str, list[str]], host: str | None = None) -> None:
    """Write which runs a model uses, as retrain does."""
    name = f"{len(list((output / 'models').glob('*'))) if (output / 'models').exists() else 0}.json"
    (output / "models").mkdir(exist_ok=True)
    fields = {"format_version": 1, "model": model, "host": socket.gethostname() if host is None else host, "uses": uses}
    (output / "models" / name).write_text(json.dumps(fields))


def test_runs_that_models_were_trained_on_stay(tmp_path: Path) -> None:
    output = tmp_path / "out"
    for day in range(1, 8):
        make_run(output, f"run-{day}", day)
    for name in ("m", "n"):
        leave(tmp_path / name, "versions/v/model.json", "retrain/state.json")
    record(output, f"{tmp_path}/m", {"run-1": ["versions/v/model.json"], "run-2": ["versions/removed/model.json"]})
    record(output, f"{tmp_path}/n", {"run-2": ["versions/x/model.json"], "run-3": ["x", "retrain/state.json"]})
    record(output, f"{tmp_path}/deleted", {"run-4": ["versions/v/model.json"]})
    record(output, "/elsewhere/model", {"run-5": ["versions/v/model.json"]}, host="another-machine")
    found = clean.clean(str(output), DAY, keep=1)
    assert [item.run for item in found] == ["run-2", "run-4", "run-6"]
    assert runs_of(output) == ["run-1", "run-3", "run-5", "run-7"]
    shutil.rmtree(tmp_path / "m")
    clean.try_remove_old_runs(str(output), 1)  # --keep of a run
    assert runs_of(output) == ["run-3", "run-5", "run-7"]
    (output / "models" / "9.json").write_text('{"format_version": 1, "model": "m", "host": "", "uses": 1}')
    with pytest.raises(FormatError, match=r"models/9\.json: uses: found int, expected object"):
        clean.clean(str(output), DAY, keep=1)
    assert runs_of(output) == ["run-3", "run-5", "run-7"]
