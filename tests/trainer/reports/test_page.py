"""Pages about models: whole whatever is missing, hostile tokens as text, equal bytes for equal input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.dataset.vocabulary import make_vocabulary
from tests.pipeline.common.test_page import HOSTILE
from tests.support.datasets import group_of, make_dataset
from tests.support.pages import figures_of, require_page
from trainer.cli import main, make_command_parser
from trainer.config import TrainConfig, read_config
from trainer.errors import UserError
from trainer.evaluation.eval_sets import read_evalsets
from trainer.models.store import Model, load_model, save_model
from trainer.reports.page import make_report
from trainer.training import command
from trainer.training.callbacks import Results

PAIRS = "w0\tw1\t9\nw2\tw3\t5\nw4\tw30\t1\nw5\tw6\t3\n"
QUESTIONS = ": capital\nw0 w1 w2 w3\nw4 w5 w6 w7\n: gram1\nw1 w2 w3 w4\n"


def model_of(tokens: list[str], dim: int = 8, seed: int = 1) -> Model:
    rng = np.random.default_rng(seed)
    tables = [rng.standard_normal((len(tokens), dim)).astype(np.float32) for _ in range(2)]
    vocabulary = make_vocabulary(tokens, [max(1, 1_000_000 // (rank + 1)) for rank in range(len(tokens))])
    info: dict[str, Any] = {"config": {"dim": dim, "device": "cpu"}, "lineage": {"dataset_id": "d"}, "metrics": {}}
    return Model(tables[0], tables[1], vocabulary, info)


def words(count: int) -> list[str]:
    return [*HOSTILE, *(f"w{number}" for number in range(count))]


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "sim.tsv").write_text(PAIRS)
    (tmp_path / "<b>questions.txt").write_text(QUESTIONS)
    return str(tmp_path / "sim.tsv"), str(tmp_path / "<b>questions.txt")


def history(points: int) -> dict[str, Any]:
    pairs = [1000 * (number + 1) for number in range(points)]
    return {
        "pairs": pairs, "seconds": [pair / 5e3 for pair in pairs], "loss": [4 / (n + 1) for n in range(points)],
        "learning_rate": [0.04 * (1 - n / points) for n in range(points)],
    }  # fmt: skip


def test_a_page_has_everything_and_hostile_tokens_are_text(tmp_path: Path, files: tuple[str, str]) -> None:
    uri = str(tmp_path / "model")
    old = save_model(uri, model_of(words(60)[5:], seed=2), {})
    run = {"history": history(300), "raw_words": 70_000, "seconds": 60.0, "threads": 2, "previous": old}
    now = model_of(words(60))
    losses = {"first_loss": 4.2, "loss": 1.5, "epoch_losses": [2.0, 1.6, 1.5]}
    now.info["metrics"] = {"epochs": 3, "pairs": 300_000, **losses}
    save_model(uri, now, run)
    sets = read_evalsets(files[:1], files[1:])
    found = make_report(uri, sets=sets, words=[HOSTILE[0], "東京", "nowhere"])
    page = require_page(found.page)
    assert figures_of(page) == [
        "scores", "sections-1", "word-map", "norms", "similarity", "loss", "learning-rate", "speed", "cosines",
    ]  # fmt: skip
    assert [score.name for score in found.scores] == ["sim", "<b>questions", "capital", "gram1"]
    text = page.all_text()
    assert HOSTILE[0] in [bdi.text for bdi in page.find("bdi")]
    assert "</svg>" in [row.find("td")[0].all_text() for row in page.find("tr") if row.find("td")]
    assert "nowhere" in page.find("section", id="neighbors")[0].all_text()
    assert f"version {old}" in text
    assert "New words: 5; gone: 0" in text
    assert "w3" in [bdi.text for bdi in page.find("bdi")]
    assert {"word": HOSTILE[3], "rank": 0}.items() <= page.data_of("word-map")[0].items()
    before = [row for row in page.data_of("scores") if row["name"].startswith("sim")]
    assert all(row["before"] is not None and row["scored"] == "4 of 4" for row in before)
    assert [row["value"] for row in page.data_of("loss") if "end" in row] == [2.0, 1.6, 1.5]
    assert "The axis is cropped: the loss comes from 4.200." in text
    assert found.page == make_report(uri, sets=sets, words=[HOSTILE[0], "東京", "nowhere"]).page


@pytest.mark.parametrize("size", [1, 2, 3, 12])
def test_a_model_of_hardly_a_word_has_a_page(tmp_path: Path, size: int, files: tuple[str, str]) -> None:
    model = model_of([f"w{number}" for number in range(size)])
    version = save_model(str(tmp_path / "m"), model, {})
    save_model(str(tmp_path / "other"), model_of(["w0"], dim=2), {})
    page = require_page(make_report(str(tmp_path / "m"), sets=read_evalsets(*[[file] for file in files])).page)
    assert "nan" not in page.all_text().lower()
    scored = ["scores", "sections-1"] if size == 12 else []
    assert figures_of(page) == [*scored, "word-map", "norms", "similarity"]
    assert ("No score: too few words of the sets are known." in page.all_text()) == (not scored)
    compared = require_page(make_report(str(tmp_path / "m"), compare=str(tmp_path / "other")).page)
    assert "nothing to compare" in compared.all_text()
    itself = require_page(make_report(str(tmp_path / "m"), compare=version).page)
    assert "Both have the same words" in itself.all_text()


def test_zero_vectors_have_a_page(tmp_path: Path) -> None:
    model = model_of(words(30))
    model.input_VD[:] = 0
    version = save_model(str(tmp_path), model, {})
    page = require_page(make_report(str(tmp_path), compare=version).page)
    assert "nan" not in page.all_text().lower()


def test_the_model_that_it_started_from_is_the_one_before(tmp_path: Path) -> None:
    base, uri = str(tmp_path / "base"), str(tmp_path / "m")
    save_model(base, model_of(words(20), seed=3), {})
    save_model(uri, model_of(words(20)), {"init_from": base, "previous": "v"})
    page = require_page(make_report(uri, words=["w1 - w2 + w3", "w1 - nowhere"]).page)
    assert f"the model that it started from, {base}" in page.find("section", id="drift")[0].all_text()
    neighbors = page.find("section", id="neighbors")[0]
    assert [heading.all_text() for heading in neighbors.find("h3")] == ["w1 - w2 + w3"]
    assert "Not in the vocabulary: w1 - nowhere" in neighbors.all_text()
    save_model(uri, model_of(words(20), seed=4), {"init_from": uri})  # whose live version it became
    assert not require_page(make_report(uri).page).find("section", id="drift")


def test_a_million_words_have_a_small_page(tmp_path: Path) -> None:
    save_model(str(tmp_path), model_of([f"w{number}" for number in range(1_000_000)], dim=2), {})
    page = make_report(str(tmp_path)).page
    require_page(page)
    assert len(page) < 1_300_000  # of which the library that draws is 0.9


def test_only_what_was_asked_for_must_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = {"data": str(tmp_path / "gone"), "data_run": "r", "previous": "gone", "init_from": str(tmp_path / "gone")}
    save_model(str(tmp_path / "m"), model_of(words(5)), run)
    page = require_page(make_report(str(tmp_path / "m")).page)
    assert not page.find("section", id="corpus")
    assert not page.find("section", id="drift")
    base = ["report", "--model", str(tmp_path / "m"), "--to", str(tmp_path / "p.html")]
    for flag in ("--data", "--compare"):
        assert main([*base, flag, str(tmp_path / "gone")]) == 1
        assert capsys.readouterr().err.startswith(f"error: {tmp_path}/gone")
    assert not (tmp_path / "p.html").exists()


def test_the_command_says_what_it_wrote(
    tmp_path: Path, files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(str(tmp_path / "m"), model_of(words(20)), {})
    base = ["report", "--model", str(tmp_path / "m"), "--to", str(tmp_path / "page.html")]
    assert main([*base, "--similarity", files[0], "--words", "w1,東京", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    data = (tmp_path / "page.html").read_bytes()
    assert result["bytes"] == len(data)
    assert set(result["scores"]) == {"sim"}
    headings = [heading.find("bdi")[0].text for heading in require_page(data).find("h3") if heading.find("bdi")]
    assert headings == ["w1", "東京"]
    assert main([*base, "--words", ",".join(["w1"] * 101)]) == 1
    assert "--words: found 101 words, expected at most 100" in capsys.readouterr().err
    assert main([*base[:-1], str(tmp_path)]) == 1
    assert "--to: found a folder" in capsys.readouterr().err


# --- of a training


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(5)
    groups = [group_of([list(rng.integers(0, 12, 8)) for _ in range(20)]) for _ in range(4)]
    return make_dataset(tmp_path_factory.mktemp("report") / "data", passes=[[groups[:2], groups[2:]]] * 2)


def config_of(data: str, model: Path, **changes: Any) -> TrainConfig:
    plain = {"dim": 6, "epochs": 2, "threads": 1, "device": "cpu", "quiet": True}
    return TrainConfig(data=data, model=str(model), **{**plain, **changes})


def test_a_training_writes_its_page_with_corpus_and_scores(data: str, tmp_path: Path, files: tuple[str, str]) -> None:
    report = str(tmp_path / "page.html")
    flags = {"report": report, "similarity": files[:1], "analogies": files[1:]}
    result = command.train(config_of(data, tmp_path / "m", **flags))
    assert result["report"] == report
    assert set(result["scores"]) == {"sim", "<b>questions"}
    page = require_page(Path(report).read_bytes())
    wanted = ["scores", "sections-1", "word-map", "norms", "similarity", "loss", "learning-rate", "speed",
              "rank-frequency", "coverage"]  # fmt: skip
    assert figures_of(page) == wanted
    Path(report).unlink()
    again = command.train(config_of(data, tmp_path / "m", **flags))
    assert again["status"] == "finished before"
    assert again["scores"] == result["scores"]
    assert figures_of(require_page(Path(report).read_bytes())) == wanted
    command.train(config_of(data, tmp_path / "m", seed=2, overwrite=True, **flags))
    assert f"version {result['version']}" in require_page(Path(report).read_bytes()).all_text()


def test_evaluation_files_come_from_flags_or_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.toml").write_text('data = "d"\nmodel = "m"\nsimilarity = ["a.tsv", "b.tsv"]\n')
    parser = make_command_parser("train")
    from_file = ["--config", str(tmp_path / "one.toml")]
    assert read_config(parser.parse_args(from_file)).similarity == ("a.tsv", "b.tsv")
    flags = ["--similarity", "c.tsv", "--similarity", "d.tsv"]
    assert read_config(parser.parse_args([*from_file, *flags])).similarity == ("c.tsv", "d.tsv")
    assert read_config(parser.parse_args(from_file)).analogies == ()
    (tmp_path / "one.toml").write_text("similarity = [1]\n")
    assert main(["train", *from_file]) == 1
    assert "similarity: found [1], expected" in capsys.readouterr().err


def test_what_cannot_be_is_said_before_the_training(data: str, tmp_path: Path) -> None:
    for changes, said in (
        ({"report": str(tmp_path)}, "--report: found a folder"),
        ({"report": "p.html", "similarity": ("gone.tsv",)}, "--similarity: no file gone.tsv"),
    ):
        with pytest.raises(UserError, match=said):
            command.train(config_of(data, tmp_path / "m", **changes))
    assert not (tmp_path / "m" / "versions").exists()


def test_of_several_processes_the_first_alone_looks_and_writes(data: str, tmp_path: Path) -> None:
    config = config_of(data, tmp_path / "m", report=str(tmp_path), tensorboard="logs", similarity=("gone.tsv",))
    other = Results(config, rank=1)
    assert other.of_finished({"version": "v"}) == {}
    with pytest.raises(UserError, match="--report: found a folder"):
        Results(config, rank=0)


def test_what_a_report_asks_for_does_not_change_the_model(data: str, tmp_path: Path) -> None:
    command.train(config_of(data, tmp_path / "plain"))
    command.train(config_of(data, tmp_path / "shown", report=str(tmp_path / "p.html")))
    plain, shown = (load_model(str(tmp_path / name)).info for name in ("plain", "shown"))
    assert plain == shown


def test_a_missing_library_is_said_before_the_work(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    said = "the page needs the module 'vl_convert': pip install 'pairstream[report]'\n"
    model, page = str(tmp_path / "m"), str(tmp_path / "page.html")
    assert main(["train", "--data", data, "--model", model, "--report", page, "--quiet"]) == 1
    assert capsys.readouterr().err == f"error: --report: {said}"
    assert main(["report", "--model", model, "--to", page]) == 1
    assert capsys.readouterr().err == f"error: --to: {said}"
    assert not (tmp_path / "m" / "versions").exists()


def test_tensorboard_is_missed_before_the_training(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trainer.training.tensorboard.importlib.util.find_spec", lambda name: None)
    words = ["train", "--data", data, "--model", str(tmp_path / "m"), "--tensorboard", str(tmp_path / "logs")]
    assert main([*words, "--quiet"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: --tensorboard: no module 'tensorboard'; `pip install")
    assert not (tmp_path / "m" / "versions").exists()
