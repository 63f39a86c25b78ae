"""What retraining does night after night, with a stand-in for the pipeline that makes datasets without Beam."""

from __future__ import annotations

import itertools
import json
import os
import pty
import shutil
import signal
import sys
import tty
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest

from pipeline.dataset.schema import FormatError
from pipeline.dataset.vocabulary import make_vocabulary
from pipeline.publishing import clean
from pipeline.storage.storage import PointerMovedError
from tests.support.datasets import group_of, make_dataset
from tests.support.pages import require_page
from tests.trainer.retraining.test_steps import files
from trainer.cli import main
from trainer.errors import Stopped, UserError
from trainer.models.pointer import read_pointer
from trainer.models.store import load_model, save_model
from trainer.neighbors.shared_contexts import open_lineage
from trainer.retraining import judgement, pipeline_process, state, steps
from trainer.retraining.command import Result, describe, retrain
from trainer.retraining.config import RetrainConfig, Settings
from trainer.retraining.corpus import save_files
from trainer.retraining.lineage import load_lineage, write_lineage
from trainer.retraining.pipeline_process import PipelineFailed, Printed
from trainer.versions.command import list_versions
from trainer.versions.rollback import roll_back

WORDS = 40


class Nights:
    """A corpus of one file, the command over it, and what the pipeline was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, list[str]()
        self.text, self.changed = "text 0", 0
        self.fail: PipelineFailed | None = None
        self.prefix = "w"

    @property
    def model(self) -> str:
        return f"{self.folder}/model"

    def add(self) -> None:
        """New text."""
        self.changed += 1
        self.text = f"text {self.changed}"

    def run_pipeline(self, words: Sequence[str], pass_fds: Sequence[int] = (), quiet: bool = False) -> Printed:
        """Stand for the pipeline."""
        self.asked.append(words[0])
        value = dict(itertools.pairwise(words))
        if words[0] == "list":
            save_files(value["--to"], files(("in/a.txt", len(self.text), self.changed)))
        elif self.fail is not None:
            raise self.fail
        elif words[0] == "run":
            chance = np.random.default_rng(int(self.text.split()[1]))
            sentences = [list(chance.integers(0, 20, 12) + 20 * (i % 2)) for i in range(300)]
            vocabulary = make_vocabulary([f"{self.prefix}{i}" for i in range(WORDS)], range(WORDS, 0, -1))
            make_dataset(value["--output"], vocabulary, [[[group_of(sentences)]]], run_id=value["--run-id"])
        return Printed()

    def under_way(self) -> list[str]:
        """The folders of nights that are not over."""
        return [name for name in os.listdir(f"{self.model}/retrain") if name not in ("lock", "state.json")]

    def night(self, seed: int = 1, dim: int = 8, **own: Any) -> Result:
        """Retrain."""
        limits = {"min_overlap": 0.0, "min_cosine": -1.0}
        config = RetrainConfig(("in/*",), f"{self.folder}/data", self.model, quiet=True, **{**limits, **own})
        training = {"dim": dim, "threads": 1, "device": "cpu", "seed": seed, "learning_rate": 0.05}
        self.asked = []
        return retrain(Settings(config, training))


@pytest.fixture
def nights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nights:
    made = Nights(tmp_path)
    for module in ("plan", "steps"):
        monkeypatch.setattr(f"trainer.retraining.{module}.run_pipeline", made.run_pipeline)
    return made


def test_another_version_of_the_tokenizer_is_said(nights: Nights, capsys: pytest.CaptureFixture[str]) -> None:
    nights.night()
    nights.add()
    nights.night()
    assert "of the tokenizer" not in capsys.readouterr().err
    made = load_lineage(nights.model, read_pointer(nights.model).version)
    assert made is not None
    made.dataset.tokenizer = {**made.dataset.tokenizer, "version": 1}
    write_lineage(nights.model, made)
    nights.add()
    nights.night()
    said = "words are cut by version None of the tokenizer, those of the live model were by version 1"
    assert said in capsys.readouterr().err


def kept(nights: Nights) -> set[str]:
    return set(os.listdir(f"{nights.model}/versions"))


def test_equal_text_under_another_date_is_nothing_new(nights: Nights) -> None:
    first = nights.night()
    assert (first["status"], first["parent"]) == ("published", "")
    assert nights.night()["status"] == "nothing new"
    assert nights.asked == ["list"]
    nights.changed += 2  # the same text, written anew
    again = nights.night()
    assert (again["status"], nights.asked) == ("nothing new", ["list", "run"])
    assert nights.night()["status"] == "nothing new"
    assert nights.asked == ["list"]  # and that is remembered
    assert kept(nights) == {first["version"]}


def test_force_and_other_settings_train_on_the_same_text(nights: Nights) -> None:
    first = nights.night()
    forced = nights.night(force=True)
    assert (forced["status"], forced["parent"]) == ("published", first["version"])
    other = nights.night(seed=2)
    assert (other["status"], other["parent"]) == ("published", forced["version"])
    cold = nights.night(seed=3, init_from="none", align=False)
    made = load_lineage(nights.model, cold["version"])
    assert made is not None
    assert made.aligned_words is None
    assert made.settings["init_from"] == "none"


def test_a_page_is_written_of_what_is_published_and_of_what_is_refused(nights: Nights) -> None:
    page, pairs = nights.folder / "page.html", nights.folder / "pairs.tsv"
    pairs.write_text("w0\tw1\t9\nw0\tw21\t1\nw2\tw3\t8\nw2\tw30\t2\n")
    first = nights.night(report=str(page), similarity=(str(pairs),))
    assert first["version"] in page.read_text()
    nights.add()
    limits = {"similarity": (str(pairs),), "min_overlap": 1.0}
    second = nights.night(report=str(page), **limits)
    assert second["status"] == "refused"
    text = page.read_text()
    assert second["version"] in text
    assert f"version {first['version']}" in text
    assert "pairs" in text
    page.unlink()
    assert nights.night(report=str(page), **limits)["status"] == "refused"  # said again, without a training
    assert page.read_text() == text
    with pytest.raises(UserError, match="--report: found a folder"):
        nights.night(report=str(nights.folder))


@pytest.mark.parametrize(("overlap", "title"), [(0.0, "Published"), (1.0, "Refused")])
def test_a_page_opens_with_the_verdict_and_the_gate(nights: Nights, overlap: float, title: str) -> None:
    page = nights.folder / "page.html"
    first = nights.night()
    nights.add()
    found = nights.night(report=str(page), min_overlap=overlap)
    section = require_page(page.read_bytes()).find("section")[0]
    assert [heading.all_text() for heading in section.find("h2")] == [title]
    text = section.all_text()
    assert all(reason in text for reason in found["reasons"])
    assert (f"version {first['version']} stays live" in text) == (title == "Refused")
    rows = [[cell.all_text() for cell in row.find("td")] for row in section.find("tr")][1:]
    assert [row[0] for row in rows] == [check["name"] for check in found["checks"]]
    assert [row[1] for row in rows] == [f"{check['found']:.4f}" for check in found["checks"]]
    assert [row[3] == "✓ yes" for row in rows] == [check["passed"] for check in found["checks"]]
    assert f"at least {overlap:g}" in [row[2] for row in rows]


def test_a_night_goes_on_without_the_libraries_of_its_page(
    nights: Nights, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    assert nights.night(report=str(nights.folder / "page.html"))["status"] == "published"
    said = (
        "warning: --report: the page needs the module 'altair': pip install 'pairstream[report]'; going on without it"
    )
    assert said in capsys.readouterr().err.splitlines()
    assert not (nights.folder / "page.html").exists()


def test_a_set_without_a_known_word_is_refused(nights: Nights, capsys: pytest.CaptureFixture[str]) -> None:
    unknown, known = nights.folder / "unknown.tsv", nights.folder / "known.tsv"
    unknown.write_text("x\ty\t1\ny\tz\t2\nx\tz\t3\n")
    known.write_text("w0\tw1\t9\nw0\tw21\t1\nw2\tw3\t8\n")
    refused = nights.night(similarity=(str(unknown), str(known)), min_similarity=-1.0)
    assert refused["status"] == "refused"
    assert [reason.partition(", expected")[0] for reason in refused["reasons"]] == [
        f"similarity {unknown}: not measured (0 of 3 pairs have words that the model knows)"
    ]
    assert [check["found"] for check in refused["checks"] if str(unknown) in check["name"]] == [None]
    assert f"NO  similarity {unknown} not measured (0 of 3 pairs" in describe(refused)
    assert list_versions(nights.model)[0]["scores"]["similarity"][str(unknown)] is None
    assert main(["versions", "--model", nights.model]) == 0
    assert "not measured (0 of 3 pairs" in capsys.readouterr().out
    unknown.write_text("x\ty\t1\n")
    with pytest.raises(UserError, match=r"^--similarity .*unknown.tsv: found 1 pairs"):
        nights.night(similarity=(str(unknown),))
    assert nights.asked == []


def test_a_refused_version_is_said_again_and_published_by_a_wider_gate(nights: Nights) -> None:
    first = nights.night()
    nights.add()
    refused = nights.night(min_cosine=1.0)
    assert (refused["status"], refused["live"]) == ("refused", first["version"])
    assert refused["reasons"][0].startswith("mean cosine: found ")
    again = nights.night(min_cosine=1.0)
    assert (again["status"], again["version"], nights.asked) == ("refused", refused["version"], ["list"])
    still = nights.night(min_cosine=1.0, min_overlap=1.0)
    assert (still["status"], len(still["reasons"]), nights.asked) == ("refused", 2, ["list"])
    wider = nights.night()
    assert (wider["status"], wider["version"], nights.asked) == ("published", refused["version"], ["list"])
    assert nights.night()["status"] == "nothing new"
    assert [(one["version"], one["state"]) for one in list_versions(nights.model)] == [
        (refused["version"], "live"), (first["version"], "previous"),
    ]  # fmt: skip


def test_a_refused_version_that_was_published_by_hand_counts_as_published(nights: Nights) -> None:
    nights.night()
    nights.add()
    refused = nights.night(min_cosine=1.0)
    roll_back(nights.model, refused["version"])
    assert nights.night(min_cosine=1.0)["status"] == "nothing new"
    roll_back(nights.model)
    assert nights.night(min_cosine=1.0)["status"] == "nothing new"


def test_no_more_versions_stay_than_are_kept(nights: Nights) -> None:
    published = [nights.night(keep=2)["version"]]
    refused = []
    for _ in range(3):
        nights.add()
        refused.append(nights.night(keep=2, min_cosine=1.0)["version"])
        nights.add()
        published.append(nights.night(keep=2)["version"])
    assert kept(nights) == {*published[-2:], *refused[-2:]}
    pointer = read_pointer(nights.model)
    assert pointer is not None
    assert (pointer.version, pointer.previous) == (published[-1], (published[-2],))
    for version in kept(nights):
        load_model(nights.model, version)


def test_runs_of_kept_versions_survive_a_cleaning_of_the_dataset(nights: Nights) -> None:
    first = nights.night(keep=2)
    nights.add()
    refused = nights.night(keep=2, min_cosine=1.0)
    data = f"{nights.folder}/data"
    assert clean.remove_old_runs(data, 1) == []  # the refused run is newer than the live version's
    nights.add()
    second = nights.night(keep=2)
    roll_back(nights.model)
    assert clean.remove_old_runs(data, 1) == []
    assert set(os.listdir(f"{data}/runs")) == {first["run"], refused["run"], second["run"]}
    for version in (first, refused, second):
        info = load_model(nights.model, version["version"]).info
        assert open_lineage(nights.model, info, None).run_id == version["run"]
    shutil.rmtree(nights.model)
    clean.remove_old_runs(data, 1)
    assert os.listdir(f"{data}/runs") == [second["run"]]


def test_a_warm_start_that_cannot_be_is_refused_before_the_night(nights: Nights) -> None:
    first = nights.night()
    expected = r"^--init-from live: found vectors of 8 dimensions, expected 12 as in --dim; --init-from none starts"
    with pytest.raises(UserError, match=expected):
        nights.night(dim=12)
    assert nights.asked == ["list"]
    with pytest.raises(UserError, match=r"^--init-from .*/none: found no model.*--init-from none"):
        nights.night(seed=2, init_from=f"{nights.folder}/none")
    cold = nights.night(dim=12, init_from="none")
    assert (cold["status"], cold["parent"]) == ("published", first["version"])
    nights.add()
    nights.prefix = "other"
    with pytest.raises(UserError, match=r"^--init-from live: no word of the new vocabulary.*--init-from none"):
        nights.night(dim=12)
    assert nights.under_way() == []


def test_a_vocabulary_of_other_rules_tells_what_to_do(nights: Nights) -> None:
    nights.fail = PipelineFailed("--vocab d: found a vocabulary of lowercase True, expected False", 1)
    with pytest.raises(PipelineFailed, match=r"retrain once without --only-new$"):
        nights.night()


def shown_at_a_terminal(monkeypatch: pytest.MonkeyPatch, script: str, quiet: bool) -> tuple[str, object]:
    """What a terminal shows while a pipeline runs; and what the call returned or raised."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    monkeypatch.setattr(pipeline_process, "_CHILD", script)
    before = os.dup(2)
    os.dup2(theirs, 2)
    try:
        with os.fdopen(theirs, "w") as out, monkeypatch.context() as patch:
            patch.setattr("sys.stderr", out)
            try:
                result: object = pipeline_process.run_pipeline(["list"], quiet=quiet)
            except PipelineFailed as failed:
                result = failed
            out.write("END")
            out.flush()
            shown = b""
            while not shown.endswith(b"END"):
                shown += os.read(ours, 1 << 16)
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(ours)
    return shown.decode().removesuffix("END"), result


@pytest.mark.parametrize("quiet", [False, True])
def test_the_pipelines_progress_is_seen_at_a_terminal(monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    said = "import os, sys; e = sys.stderr; e.write(f'\\rread 50% {e.isatty()}\\r    \\r\\n'); e.flush()\n"
    warned = said + 'e.write(\'warning: slow\\n\'); print(\'{"twice": [["a", "b"]]}\')'
    shown, result = shown_at_a_terminal(monkeypatch, warned, quiet)
    assert result == Printed((("a", "b"),))
    progress = "listing the corpus\n\rread 50% True\r    \r\n"
    assert shown == ("" if quiet else progress) + "warning: slow\n"
    failing = said + "os.write(int(sys.argv[2]), b'error: no text\\n'); sys.exit(2)"
    shown, failed = shown_at_a_terminal(monkeypatch, failing, quiet)
    assert (str(failed), shown) == ("no text", "" if quiet else progress)
    shown, failed = shown_at_a_terminal(monkeypatch, said + "e.write('Traceback\\n'); sys.exit(1)", quiet)
    assert "ended with status 1" in str(failed)
    assert shown.endswith("Traceback\n")


def stop(*_: Any) -> None:
    raise Stopped(signal.SIGTERM)


def test_an_unfinished_night_goes_on_only_as_it_was(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seed: int) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(steps, "train_candidate", stop)
            with pytest.raises(Stopped):
                nights.night(seed=seed)
        [name] = nights.under_way()
        return name

    begun = interrupted(seed=1)
    nights.add()  # which this night does not look at any more
    assert interrupted(seed=1) == begun
    assert nights.asked == []
    other = interrupted(seed=2)
    assert other != begun
    assert nights.asked == ["list", "run"]
    assert nights.night(seed=2)["status"] == "published"
    assert nights.asked == []  # the dataset is there
    assert sorted(os.listdir(f"{nights.model}/retrain")) == ["lock", "state.json"]


class Killed(BaseException):
    """What no code of ours catches."""


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize(
    ("module", "name", "over"),
    [
        (steps, "train_candidate", False), (steps, "train_candidate", True), (steps, "stage", True),
        (judgement, "check_corpus", True), (judgement, "write_report", False), (judgement, "publish", True),
        (state, "remember", False), (state, "remember", True),
    ],
)  # fmt: skip
def test_a_step_whose_output_is_there_is_not_done_again(
    nights: Nights, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, over: bool, refused: bool
) -> None:
    first, asked = nights.night(), list[str]()
    nights.add()
    step = getattr(module, name)

    def deadly(*arguments: Any, **options: Any) -> None:
        if over:
            step(*arguments, **options)
        raise Killed

    limits = {"min_cosine": 1.0} if refused else {}
    if not (refused and name == "publish"):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, deadly)
            with pytest.raises(Killed):
                nights.night(**limits)
        asked += nights.asked
        nights.add()  # which this night does not look at any more
    again = nights.night(**limits)
    assert [*asked, *nights.asked] == ["list", "run"]
    assert (again["status"], again["parent"]) == ("refused" if refused else "published", first["version"])
    assert again["files_read"] == 1
    assert kept(nights) == {first["version"], again["version"]}
    assert nights.under_way() == []
    live = read_pointer(nights.model)
    assert live is not None
    assert live.version == (first if refused else again)["version"]


def test_what_a_night_made_that_was_given_up_is_removed(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    first = nights.night()
    nights.add()
    with monkeypatch.context() as patch:
        patch.setattr(judgement, "check_corpus", stop)
        with pytest.raises(Stopped):
            nights.night()
    assert len(kept(nights)) == 2
    second = nights.night(seed=2)
    assert kept(nights) == {first["version"], second["version"]}


def test_a_damaged_history_costs_no_training(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    nights.night()
    nights.add()
    with monkeypatch.context() as patch:
        patch.setattr(steps, "stage", stop)
        with pytest.raises(Stopped):
            nights.night()
    path, under_way = Path(nights.model, "retrain", "state.json"), nights.under_way()
    good = path.read_bytes()
    path.write_bytes(b"{}")
    with pytest.raises(FormatError, match=r"state\.json: found format_version None"):
        nights.night()
    assert nights.under_way() == under_way
    path.write_bytes(good)
    assert nights.night()["status"] == "published"


@pytest.mark.parametrize(
    ("module", "name", "said"),
    [(steps, "stage", "another version became live"), (judgement, "swap", "was swapped by another publisher")],
)
def test_a_version_that_came_in_between_stays_and_is_built_on(
    nights: Nights, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, said: str
) -> None:
    first = nights.night()
    nights.add()
    step, by_hand = getattr(module, name), list[str]()

    def meanwhile(*arguments: Any) -> Any:
        model = load_model(nights.model)
        by_hand.append(save_model(nights.model, replace(model, input_VD=-model.input_VD), {}))
        return step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, meanwhile)
        with pytest.raises(PointerMovedError, match=said):
            nights.night()
    assert [load_model(nights.model).info["version"]] == by_hand
    second = nights.night()
    assert (second["status"], second["parent"]) == ("published", *by_hand)
    assert kept(nights) == {first["version"], *by_hand, second["version"]}


def test_a_signal_ends_it_with_its_status(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "train_candidate", stop)
    words = ["--input", "in/*", "--data", f"{nights.folder}/data", "--model", nights.model, "--quiet", "--dim", "8"]
    assert main(["retrain", *words]) == 128 + signal.SIGTERM
    assert len(nights.under_way()) == 1


@pytest.mark.parametrize("status", [1, 2])
def test_a_failing_pipeline_ends_the_night(nights: Nights, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    first = nights.night()
    nights.add()
    nights.fail = PipelineFailed("in/a.txt: found half of it, expected all", status)
    words = ["--input", "in/*", "--data", f"{nights.folder}/data", "--model", nights.model, "--quiet", "--dim", "8"]
    capsys.readouterr()
    assert main(["retrain", *words]) == status
    assert capsys.readouterr().err == "error: pipeline: in/a.txt: found half of it, expected all\n"
    assert nights.under_way() == []
    assert sorted(os.listdir(f"{nights.model}/retrain")) == ["lock", "state.json"]
    assert load_model(nights.model).info["version"] == first["version"]


def test_a_training_that_diverges_publishes_nothing(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    first = nights.night()
    nights.add()

    def diverged(*_: Any) -> None:
        raise UserError("training: found NaN or Inf in the input table")

    with monkeypatch.context() as patch:
        patch.setattr("trainer.training.command.require_finite", diverged)
        with pytest.raises(UserError, match="NaN"):
            nights.night()
    assert nights.under_way() == []
    assert load_model(nights.model).info["version"] == first["version"]
    assert nights.night()["status"] == "published"


def test_new_files_alone_need_the_list_of_the_old_ones(nights: Nights) -> None:
    nights.night()
    os.unlink(f"{nights.model}/versions/{load_model(nights.model).info['version']}/inputs.parquet")
    with pytest.raises(UserError, match="--only-new: found no list of the files"):
        nights.night(only_new=True)


@pytest.mark.parametrize(
    ("flags", "kept_flags"),
    [
        (["--phrases", "2", "--passes", "3"], ["--passes", "3"]),
        (["--phrases=2", "--phrase-min-count=3"], ["--phrase-min-count=3"]),
        (["--passes", "3"], ["--passes", "3"]),
    ],
)
def test_phrases_are_the_base_datasets(flags: list[str], kept_flags: list[str]) -> None:
    assert steps._without_phrases(flags) == kept_flags


def test_a_pipeline_that_cannot_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PipelineFailed, match=r"^the following arguments are required: --to") as failed:
        pipeline_process.run_pipeline(["list"])
    assert failed.value.status == 2
    monkeypatch.setattr(pipeline_process, "_CHILD", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(PipelineFailed, match="the pipeline ended with status -9"):
        pipeline_process.run_pipeline(["list"])


def test_the_lineage_names_what_a_version_comes_from(nights: Nights) -> None:
    first = nights.night()
    nights.add()
    second = nights.night()
    made = load_lineage(nights.model, second["version"])
    assert made is not None
    assert (made.parent, made.dataset.run) == (first["version"], second["run"])
    assert made.dataset.dataset_id == second["dataset_id"] == load_model(nights.model).info["lineage"]["dataset_id"]
    assert made.gate is not None
    assert made.gate.decision == "published"
    assert msgspec.to_builtins(made.gate.checks) == second["checks"]
    assert made.libraries["numpy"] == np.__version__
    inputs = {"file": "inputs.parquet", "files": 1, "read": 1, "sha256": made.inputs.sha256}
    written = json.loads(Path(nights.model, "versions", second["version"], "lineage.json").read_bytes())
    assert written["inputs"] == inputs
    assert written["settings"]["training"]["dim"] == 8
