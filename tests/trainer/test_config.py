"""Settings: names and defaults that are promised, checks, TOML, and what decides the bytes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from pipeline.common.flags import OneLineParser
from trainer.config import SHAPING, TrainConfig, add_arguments, read_config
from trainer.errors import UserError

PROMISED = {
    "dim": 100, "negatives": 5, "power": 0.75, "epochs": 1, "device": "auto", "threads": 0, "seed": 1,
    "optimizer": "sgd", "predict": "center", "exclude": "output", "init": "word2vec", "schedule": "linear",
    "resume": "auto", "overwrite": False, "json": False, "distinct_negatives": False, "init_from": "", "run": "",
}  # fmt: skip


def parse(*words: str) -> TrainConfig:
    parser = OneLineParser(prog="train", allow_abbrev=False)
    add_arguments(parser)
    return read_config(parser.parse_args(["--data", "d", "--model", "m", *words]))


def resolve(config: TrainConfig, has_cuda: bool = False) -> TrainConfig:
    return config.resolve(lambda: has_cuda, cores=3)


def test_the_defaults_are_those_promised() -> None:
    config = parse()
    assert {name: getattr(config, name) for name in PROMISED} == PROMISED


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["--dim", "7"], "dim", 7),
        (["--dim=7"], "dim", 7),
        (["--learning-rate", "0.1"], "learning_rate", 0.1),
        (["--overwrite"], "overwrite", True),
        (["--overwrite=false"], "overwrite", False),
        (["--json=true"], "json", True),
        (["--no-shuffle"], "shuffle", False),
        (["--exclude", "pair"], "exclude", "pair"),
    ],
)
def test_flags(words: list[str], field: str, value: Any) -> None:
    assert getattr(parse(*words), field) == value


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--dim", "0"], ["--dim", "found 0", "expected 1 to 65536"]),
        (["--power", "-1"], ["--power", "found -1.0", "0 or more"]),
        (["--power", "nan"], ["--power", "nan"]),
        (["--learning-rate", "inf"], ["--learning-rate", "finite"]),
        (["--epochs", "x"], ["--epochs", "'x'"]),
        (["--engine", "fast"], ["--engine", "fast", "fused"]),
        (["--engine", "fused", "--optimizer", "adam"], ["--optimizer", "adam", "--engine reference"]),
        (["--engine", "fused", "--batch-size", "8"], ["--batch-size", "--engine reference"]),
        (["--arithmetic", "fp16"], ["--arithmetic", "fp16", "fp32", "bf16"]),
        (
            ["--architecture", "cbow", "--arithmetic", "bf16"],
            ["--arithmetic: found bf16 with --architecture cbow", "fp32"],
        ),
        (["--overwrite", "--resume", "must"], ["--overwrite", "--resume must"]),
        (["--quick"], ["--quick"]),
        (["--epoch", "2"], ["--epoch"]),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    words: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(*words)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert all(part in error for part in parts), error


def test_data_and_model_are_required(capsys: pytest.CaptureFixture[str]) -> None:
    parser = OneLineParser(prog="train")
    add_arguments(parser)
    with pytest.raises(SystemExit):
        read_config(parser.parse_args(["--data", "d"]))
    assert "required: --model" in capsys.readouterr().err


def test_help_names_every_flag_and_its_default() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    text = " ".join(parser.format_help().split())
    assert "--learning-rate" in text
    assert "Numbers in a word's vector. Default: 100." in text
    assert "SUPPRESS" not in text


def test_a_file_gives_settings_and_flags_win(tmp_path: Path) -> None:
    path = tmp_path / "train.toml"
    path.write_text(
        'dim = 50\nlearning-rate = 1\nmin_learning_rate_fraction = 0.5\noverwrite = true\nmodel = "other"\n'
    )
    config = parse("--config", str(path), "--dim", "60")
    assert (config.dim, config.learning_rate, config.overwrite, config.model) == (60, 1.0, True, "m")
    assert config.min_learning_rate_fraction == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dim = ", "found no TOML"),
        ("dims = 3", "found the setting 'dims'"),
        ("dim = 3.5", "dim: found 3.5, expected int"),
        ("dim = true", "dim: found True, expected int"),
        ('seed = "1"', "seed: found '1', expected int"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "train.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        parse("--config", str(path))
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.toml"):
        parse("--config", str(tmp_path / "none.toml"))


@pytest.mark.parametrize(
    ("words", "cuda", "expected"),
    [
        ([], False, ("cpu", "fused", 0.04, 0, 3)),
        ([], True, ("cuda", "fused", 0.04, 0, 3)),
        (["--device", "cuda"], True, ("cuda", "fused", 0.04, 0, 3)),
        (["--engine", "reference"], True, ("cuda", "reference", 0.04, 4096, 3)),
        (["--optimizer", "adam"], False, ("cpu", "reference", 0.001, 256, 3)),
        (["--batch-size", "7"], False, ("cpu", "reference", 0.04, 7, 3)),
        (["--distinct-negatives"], False, ("cpu", "reference", 0.04, 256, 3)),
        (["--clip-norm", "1"], True, ("cuda", "reference", 0.04, 4096, 3)),
        (["--engine", "fused"], True, ("cuda", "fused", 0.04, 0, 3)),
        (["--engine", "fused"], False, ("cpu", "fused", 0.04, 0, 3)),
        (["--arithmetic", "bf16"], True, ("cuda", "fused", 0.04, 0, 3)),
        (["--architecture", "cbow"], True, ("cuda", "fused", 0.2, 0, 3)),
        (["--architecture", "cbow", "--no-cbow-mean"], False, ("cpu", "fused", 0.03, 0, 3)),
        (["--subwords", "3-6"], True, ("cpu", "fused", 0.04, 0, 3)),
        (["--device", "cpu"], True, ("cpu", "fused", 0.04, 0, 3)),
        (
            ["--engine", "reference", "--optimizer", "adam", "--threads", "1"],
            False,
            ("cpu", "reference", 0.001, 256, 1),
        ),
        (
            ["--engine", "reference", "--batch-size", "9", "--learning-rate", "2"],
            False,
            ("cpu", "reference", 2.0, 9, 3),
        ),
    ],
)
def test_choices_left_open_are_made(words: list[str], cuda: bool, expected: tuple[Any, ...]) -> None:
    found = resolve(parse(*words), cuda)
    assert (found.device, found.engine, found.learning_rate, found.batch_size, found.threads) == expected


@pytest.mark.parametrize(
    ("words", "sharing"),
    [
        ([], "pool"),
        (["--predict", "context"], "pair"),
        (["--engine", "reference"], "pair"),
        (["--optimizer", "adam", "--negative-sharing", "pair"], "pair"),
        (["--predict", "context", "--negative-sharing", "pool"], "pool"),
        (["--negative-sharing", "window"], "window"),
        (["--negative-sharing", "pair"], "pair"),
    ],
)
def test_who_shares_negatives(words: list[str], sharing: str) -> None:
    assert resolve(parse(*words)).negative_sharing == sharing
    assert "negative_sharing" in SHAPING


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--engine", "reference", "--negative-sharing", "pool"],
            "found pool with the reference engine, expected pair",
        ),
        (["--optimizer", "adam", "--negative-sharing", "window"], "found window with the reference engine"),
        (["--predict", "context", "--negative-sharing", "window"], "found window with --predict context"),
    ],
)
def test_sharing_that_cannot_be_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"--negative-sharing: {message}"):
        resolve(parse(*words))


@pytest.mark.parametrize("words", [[], ["--negative-sharing", "window"], ["--negative-sharing", "pair"]], ids=str)
def test_on_cuda_a_window_shares_negatives_or_nobody(words: list[str]) -> None:
    assert resolve(parse("--device", "cuda", *words), has_cuda=True).negative_sharing == (words[-1:] or ["window"])[0]
    with pytest.raises(UserError, match="--negative-sharing: found pool on cuda, expected pair or window"):
        resolve(parse("--device", "cuda", "--negative-sharing", "pool"), has_cuda=True)


def test_on_cuda_a_cbow_window_shares_negatives() -> None:
    words = "--device", "cuda", "--architecture", "cbow"
    assert resolve(parse(*words), has_cuda=True).negative_sharing == "window"
    with pytest.raises(UserError, match=r"--negative-sharing: found pool on cuda, expected window$"):
        resolve(parse(*words, "--negative-sharing", "pool"), has_cuda=True)


def test_the_compiled_engine_on_cuda_has_no_subwords() -> None:
    message = "--subwords: found the fused engine on cuda, expected --device cpu or --engine reference"
    with pytest.raises(UserError, match=message):
        resolve(parse("--subwords", "3-6", "--device", "cuda"), has_cuda=True)
    assert resolve(parse("--subwords", "3-6", "--engine", "reference"), has_cuda=True).device == "cuda"


def test_cuda_where_there_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="--device cuda: no usable CUDA device"):
        resolve(parse("--device", "cuda"))


@pytest.mark.parametrize("words", [["--device", "cpu"], ["--engine", "reference"], []], ids=str)
def test_bfloat16_is_for_the_fused_engine_on_cuda(words: list[str]) -> None:
    with pytest.raises(UserError, match=r"--arithmetic bf16: found --engine \w+ on \w+, expected --engine fused"):
        resolve(parse("--arithmetic", "bf16", *words), bool(words))


def test_what_shapes_the_bytes_makes_another_training() -> None:
    assert not set(SHAPING) & {
        "data",
        "model",
        "run",
        "threads",
        "json",
        "quiet",
        "checkpoint_minutes",
        "keep",
        "keep_versions",
        "resume",
    }
    others = {
        tuple(resolve(parse(*words)).shaping().items())
        for words in ([], ["--seed", "2"], ["--dim", "5"], ["--predict", "context"], ["--power", "1"])
    }
    assert len(others) == 5
    same = {
        tuple(resolve(parse(*words)).shaping().items())
        for words in ([], ["--threads", "1"], ["--keep", "9"], ["--learning-rate", "0.04"], ["--engine", "fused"])
    }
    assert len(same) == 1
