"""What all command lines share: paths below a home, texts that are not empty, names and versions."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline
import trainer
from pipeline.common.flags import expand_home
from pipeline.config import parse_arguments
from pipeline.dataset.schema import FORMAT_VERSION
from tests.reference import parsers
from tests.support.paths import ROOT
from trainer.cli import make_command_parser
from trainer.config import read_config
from trainer.retraining.config import read_settings

TEXTS = [
    (name, action.option_strings[0])
    for name, parser in parsers()
    for action in parser._actions
    if action.option_strings and action.nargs is None and action.type is None and action.choices is None
]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/me")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("~", "/home/of/me"), ("~/x", "/home/of/me/x"), ("~root/x", os.path.expanduser("~root/x")), ("./~/x", "./~/x"),
        ("a/~/x", "a/~/x"), ("file:///~/x", "file:///~/x"), ("s3://~/x", "s3://~/x"), ("x~", "x~"),
    ],
)  # fmt: skip
def test_a_tilde_at_the_start_is_a_home(path: str, found: str) -> None:
    assert expand_home(path) == found


def test_an_unknown_user_is_named() -> None:
    with pytest.raises(ValueError, match=r"no user 'no-such-user'; for a file of that name write \./~no-such-user/x"):
        expand_home("~no-such-user/x")


def test_each_path_of_the_pipeline_is_expanded() -> None:
    flags = ("output", "input-list", "vocab", "report")
    words = [f"--{flag}=~/x" for flag in flags]
    config, _ = parse_arguments(["--input=~/a,~/b/*", "--input", "~/c", *words])
    assert config.input == ("/home/of/me/a", "/home/of/me/b/*", "/home/of/me/c")
    assert {config.output, config.input_list, config.vocab, config.report} == {"/home/of/me/x"}


def test_each_path_of_training_is_expanded_from_flags_and_files(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('data = "~/d"\nsimilarity = ["~/s", "~/t"]\ninit_from = "~/i"\n')
    parser = make_command_parser("train")
    args = parser.parse_args(["--config", f"{tmp_path}/c.toml", "--model=~/m", "--report=~/r", "--tensorboard=~/b"])
    config = read_config(args)
    assert (config.data, config.model, config.init_from) == ("/home/of/me/d", "/home/of/me/m", "/home/of/me/i")
    assert config.similarity == ("/home/of/me/s", "/home/of/me/t")
    assert (config.report, config.tensorboard) == ("/home/of/me/r", "/home/of/me/b")


def test_each_path_of_retraining_is_expanded_from_flags_and_files(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('input = ["~/c/*", "d"]\ndata = "~/d"\n')
    args = make_command_parser("retrain").parse_args(["--config", f"{tmp_path}/c.toml", "--model=~/m"])
    own = read_settings(args).own
    assert (own.input, own.data, own.model) == (("/home/of/me/c/*", "d"), "/home/of/me/d", "/home/of/me/m")


@pytest.mark.parametrize(
    ("command", "flag"),
    [("export", "to"), ("export", "model"), ("report", "to"), ("report", "data"), ("report", "compare"),
     ("evaluate", "similarity"), ("neighbors", "data"), ("rollback", "model"), ("versions", "model")],
)  # fmt: skip
def test_each_path_of_the_other_commands_is_expanded(command: str, flag: str) -> None:
    parser = make_command_parser(command)
    for action in parser._actions:
        action.required = False
    found = vars(parser.parse_args([f"--{flag}=~/x"]))[flag]
    assert found in ("/home/of/me/x", ["/home/of/me/x"])


@pytest.mark.parametrize(("name", "flag"), TEXTS)
@pytest.mark.parametrize("text", ["", " "])
def test_no_text_may_be_empty(name: str, flag: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser: argparse.ArgumentParser = dict(parsers())[name]
    with pytest.raises(SystemExit) as stop:
        parser.parse_known_args([f"{flag}={text}"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: argument {flag}: found {text!r}, expected a ")


@pytest.mark.parametrize("flag", ["--sample", "--max-dead-letter-fraction"])
@pytest.mark.parametrize("text", ["inf", "nan", "-inf", "1e999"])
def test_numbers_of_the_pipeline_are_finite(flag: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse_arguments(["--input", "a", "--output", "b", f"{flag}={text}"])
    assert stop.value.code == 2
    assert f"argument {flag}: found " in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--power", "--learning-rate", "--checkpoint-minutes", "--clip-norm"])
@pytest.mark.parametrize("text", ["inf", "nan", "-1"])
def test_numbers_of_training_are_finite(flag: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    args = make_command_parser("train").parse_args(["--data", "a", "--model", "b", f"{flag}={text}"])
    with pytest.raises(SystemExit) as stop:
        read_config(args)
    assert stop.value.code == 2
    assert f"error: {flag}: found " in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--lease-minutes", "--min-token-ratio"])
@pytest.mark.parametrize("text", ["inf", "nan", "-1"])
def test_numbers_of_retraining_are_finite(flag: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--input", "i", "--data", "a", "--model", "b", f"{flag}={text}"]
    with pytest.raises(SystemExit) as stop:
        read_settings(make_command_parser("retrain").parse_args(words))
    assert stop.value.code == 2
    assert f"error: {flag}: found " in capsys.readouterr().err


@pytest.mark.parametrize("package", ["pipeline", "trainer"])
def test_the_usage_names_what_was_typed_and_versions_are_one(package: str) -> None:
    def run(name: str, *words: str) -> str:
        code = f"import sys; sys.argv[0] = {name!r}\nfrom {package}.__main__ import run; sys.exit(run())"
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert run(f"/opt/bin/pairstream-{package}", "--help").startswith(f"usage: pairstream-{package} ")
    assert run(f"/x/{package}/__main__.py", "--help").startswith(f"usage: python -m {package} ")
    sub = "verify" if package == "pipeline" else "export"
    assert run(f"pairstream-{package}", sub, "--help").startswith(f"usage: pairstream-{package} {sub} ")
    text = run(package, "--version")
    assert text == f"pairstream {pipeline.__version__} (dataset and model format {FORMAT_VERSION})\n"
    assert trainer.__version__ == pipeline.__version__
