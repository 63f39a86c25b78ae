"""What a retraining is made of: settings, what is new, its state, its lock."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from pipeline.common.flags import OneLineParser, with_dashes
from pipeline.dataset.schema import FormatError
from tests.support.paths import ROOT
from trainer.errors import UserError
from trainer.models.lease import LOCK, Busy, hold
from trainer.retraining import state as states
from trainer.retraining.config import Settings, add_arguments, read_settings
from trainer.retraining.corpus import (
    COLUMNS,
    all_of,
    as_seen,
    describe_passed,
    load_files,
    merge_seen,
    new_of,
    save_files,
)

NEEDED = ["--input", "a/*", "--data", "d", "--model", "m"]


def settings_of(*words: str) -> Settings:
    parser = OneLineParser(prog="retrain", allow_abbrev=False)
    add_arguments(parser)
    return read_settings(parser.parse_args(with_dashes(words, parser)))


def test_three_kinds_of_settings() -> None:
    found = settings_of(
        *NEEDED, "--input", "b", "--dim", "7", "--pipeline-args=--seed 3", "--", "--passes", "2", "--x=a b"
    )
    assert found.own.input == ("a/*", "b")
    assert found.training == {"dim": 7}
    assert found.train_config(data="d", model="m").dim == 7
    assert found.own.pipeline_flags == ["--seed", "3", "--passes", "2", "--x=a b"]


def test_a_file_and_flags_which_win(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text('input = ["a", "b"]\ndata = "d"\nmodel = "m"\nonly-new = true\nepochs = 5\nkeep = 2\n'
                    'pipeline_args = "--passes 5"\nmin-cosine = 1\n')  # fmt: skip
    found = settings_of("--config", str(file), "--model", "other", "--similarity", "s")
    own = found.own
    assert (own.input, own.data, own.model, own.keep, own.min_cosine) == (("a", "b"), "d", "other", 2, 1.0)
    assert own.only_new
    assert own.similarity == ("s",)
    assert found.training == {"epochs": 5}
    for text in ('resume = "must"', 'input = "a"', "keep = 1.5"):
        file.write_text(text)
        with pytest.raises(UserError, match=r"--config .*: found "):
            settings_of("--config", str(file), *NEEDED)


def test_the_example_of_a_file_is_one() -> None:
    found = settings_of("--config", str(ROOT / "deploy" / "airflow" / "retrain.toml"))
    assert found.training == {"epochs": 5}
    assert found.own.pipeline_flags == ["--passes", "5"]
    assert found.own.min_similarity == 0.5


@pytest.mark.parametrize(
    "words",
    [
        ["--input", "a"],
        [*NEEDED, "--min-overlap", "1.5"],
        [*NEEDED, "--min-cosine", "nan"],
        [*NEEDED, "--keep", "0"],
        [*NEEDED, "--dim", "0"],
        [*NEEDED, "--resume", "must"],
        [*NEEDED, "--", "--run-id=x"],
        [*NEEDED, "--pipeline-args", "--run_id x"],
        [*NEEDED, "--pipeline-args", "'"],
        [*NEEDED, "--changed", "maybe"],
    ],
)
def test_wrong_usage_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        settings_of(*words)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: ")


def files(*rows: tuple[str, int, int]) -> pa.Table:
    moments = [datetime.datetime.fromtimestamp(second, datetime.timezone.utc) for _, _, second in rows]
    columns = {"uri": [row[0] for row in rows], "name": [row[0] for row in rows], "bytes": [row[1] for row in rows]}
    return pa.table({**columns, "modified": pa.array(moments, pa.timestamp("us", "UTC"))})


def texts(*rows: tuple[str, int, int, str | None]) -> pa.Table:
    """A list with places and digests."""
    table = files(*[row[:3] for row in rows])
    table = table.append_column("place", table["uri"]).append_column("text_bytes", table["bytes"])
    return table.append_column("digest", pa.array([row[3] for row in rows], pa.string()))


NONE = as_seen(None)


def test_new_files_are_those_whose_text_the_model_has_not_read() -> None:
    known = as_seen(texts(("/gone", 9, 9, "G"), ("/b", 2, 20, "B")))
    listed = texts(
        ("/a", 1, 10, None), ("/b", 2, 20, "B"), ("/c", 3, 30, "G"), ("/d", 4, 40, "D"), ("/e", 5, 50, "D"),
        ("/f", 0, 1, ""),
    )  # fmt: skip
    found = new_of(listed, known, NONE, "fail", [["/l", "/b"]])
    assert found.read["uri"].to_pylist() == ["/a", "/d"]
    assert found.read.column_names == COLUMNS
    assert found.passed == {"unchanged": 1, "same_text": 2, "same_file": 1, "empty": 1}
    assert found.notes == (
        "/c: not read, for it has the text of /gone, which was read before",
        "/e: not read, for it has the text of /d, also new",
        "/l: not read again, for it is the file /b",
    )
    assert describe_passed(found.passed) == "5 not: 1 unchanged, 2 with text that is known, 1 matched twice, 1 empty"
    assert len(new_of(texts(("/b", 2, 20, "B")), known, NONE, "fail").read) == 0


@pytest.mark.parametrize("row", [("/b", 3, 20, "X"), ("/b", 2, 21, None), ("/alias", 2, 20, None)])
def test_a_name_with_other_text_is_an_error_or_new(row: tuple[str, int, int, str | None]) -> None:
    known, seen = as_seen(texts(("/a", 1, 10, "A"), ("/b", 2, 20, "B"))), as_seen(texts(("/alias", 1, 9, "B")))
    listed = texts(("/a", 1, 10, "A"), row)
    with pytest.raises(UserError, match=rf"^{row[0]}: changed since .* \(1 such file\)"):
        new_of(listed, known, seen, "fail")
    again = new_of(listed, known, seen, "new")
    assert again.read["uri"].to_pylist() == [row[0]]
    assert again.notes == (f"{row[0]}: changed since the live model read it, read again as new text",)


def test_touched_files_and_files_whose_store_tells_no_time_are_told_by_their_text() -> None:
    known = as_seen(texts(("/a", 1, 10, "A")))
    assert new_of(texts(("/a", 1, 99, "A")), known, NONE, "fail").passed["same_text"] == 1
    timeless = texts(("/a", 1, 10, "A"))
    timeless = timeless.set_column(3, "modified", pa.nulls(1, timeless["modified"].type))
    assert new_of(timeless, as_seen(timeless), NONE, "fail").passed["same_text"] == 1


def test_names_of_known_texts_are_remembered_and_names_of_others_while_they_are_listed() -> None:
    known = as_seen(texts(("/a", 1, 10, "A")))
    seen = merge_seen(NONE, texts(("/b", 1, 10, "A"), ("/c", 1, 10, "C"), ("/d", 1, 10, None)), known)
    assert [(row["uri"], row["digest"]) for row in seen.to_pylist()] == [("/b", "A"), ("/c", "C")]
    later = merge_seen(seen, texts(("/b", 2, 20, "B")), known)
    assert [(row["uri"], row["digest"]) for row in later.to_pylist()] == [("/b", "A"), ("/b", "B")]
    with pytest.raises(UserError, match=r"^/b: changed since"):  # also the next time
        new_of(texts(("/b", 2, 20, "B")), known, later, "fail")


def test_the_digest_follows_name_size_and_time() -> None:
    tables = [files(("a", 1, 10)), files(("a", 2, 10)), files(("a", 1, 11)), files(("b", 1, 10)), files()]
    assert len({all_of(table).digest for table in tables}) == 5
    assert all_of(tables[0]).digest == all_of(files(("a", 1, 10))).digest


def test_lists_of_files_on_disk(tmp_path: Path) -> None:
    save_files(f"{tmp_path}/f.parquet", files(("a", 1, 10)))
    found = load_files(f"{tmp_path}/f.parquet")
    assert found is not None
    assert found.equals(files(("a", 1, 10)))
    assert load_files(f"{tmp_path}/none") is None
    (tmp_path / "f.parquet").write_bytes(b"PAR1")
    with pytest.raises(FormatError, match=r"f\.parquet: found no list of files"):
        load_files(f"{tmp_path}/f.parquet")


def test_the_state_on_disk(tmp_path: Path) -> None:
    model, kinds = str(tmp_path), (states.PUBLISHED, states.REFUSED)
    assert states.load_outcomes(model) == ()
    outcomes = [states.Outcome("t", "s", "d", f"v{i}", kinds[i % 2]) for i in range(6)]
    for outcome in outcomes:
        states.remember(model, outcome, keep=9)
    states.remember(model, msgspec.structs.replace(outcomes[1], text="other"), keep=2)
    found = states.load_outcomes(model)
    assert [one.version for one in found] == ["v1", "v5", "v4", "v2", "v0"]  # two refused ones are kept
    assert found[0].text == "other"
    path = tmp_path / "retrain" / "state.json"
    for text in ("{}", '{"format_version": 1}', '{"format_version": 1, "outcomes": [{"x": 1}]}', "no"):
        path.write_text(text)
        with pytest.raises(FormatError, match=r"state\.json: (found|.*missing required field) "):
            states.load_outcomes(model)


def test_what_an_earlier_release_left_is_read_and_cleared(tmp_path: Path) -> None:
    folder = tmp_path / "retrain"
    (folder / "retrain-20250101T000000Z-0a0b0c0d" / "training").mkdir(parents=True)
    (folder / "retrain-20250101T000000Z-0a0b0c0d" / "read.parquet").write_bytes(b"x")
    outcome = {"text": "t", "settings": "s", "dataset_id": "d", "version": "v", "kind": "refused"}
    outcome |= {"gate": "g", "at": "then", "content": "c"}
    night = {"name": "retrain-20250101T000000Z-0a0b0c0d", "globs": ["a/*"], "version": "w"}
    state = {
        "format_version": 1,
        "night": night,
        "outcomes": [{**outcome, "reasons": ["why"]}],
        "doomed": [],
        "over": [],
    }
    (folder / "state.json").write_text(json.dumps(state))
    assert states.load_outcomes(str(tmp_path)) == (states.Outcome("t", "s", "d", "v", "refused", "c"),)
    assert states.load_night(str(tmp_path), night["name"]) is None
    states.clear(str(tmp_path))
    assert os.listdir(folder) == ["state.json"]


HOLDER = """
import subprocess, sys
from trainer.models.lease import hold
with hold("model", sys.argv[1], 60) as lease:
    child = subprocess.Popen(["sleep", sys.argv[2]], pass_fds=lease.fds)
    print("held", flush=True)
    sys.stdin.read()
"""


def holding(folder: Path, seconds: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", HOLDER, str(folder), seconds]
    holder = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_one_at_a_time(tmp_path: Path) -> None:
    with holding(tmp_path, "0") as holder:
        expected = rf"^m: another retraining is running \(process {holder.pid} on .*, since .*\)"
        with pytest.raises(Busy, match=expected), hold("m", str(tmp_path), 60):
            raise AssertionError("two hold it")
        holder.communicate(timeout=20)
    with hold("m", str(tmp_path), 60) as lease:
        lease.require()
    assert os.listdir(tmp_path) == [LOCK]


def test_the_pipeline_of_a_killed_one_is_waited_for(tmp_path: Path) -> None:
    with holding(tmp_path, "1") as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait(timeout=20)
        with hold("m", str(tmp_path), 60):  # as soon as what it ran has ended
            pass


def test_a_file_in_the_models_place(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("x")
    with pytest.raises(UserError, match="found a file, expected a model's folder"), hold("m", f"{tmp_path}/m/r", 60):
        pass


def test_help_names_every_setting_once() -> None:
    parser = OneLineParser(prog="retrain", allow_abbrev=False)
    add_arguments(parser)
    flags = [flag for action in parser._actions for flag in action.option_strings]
    assert len(flags) == len(set(flags))
    assert all(action.help for action in parser._actions if action.help is not argparse.SUPPRESS)
