"""The pipeline's command line."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from pipeline.checks import RANGES
from pipeline.config import Config, parse_arguments
from pipeline.errors import ConfigError
from pipeline.stages.spill import FileSpill, Spill

pytestmark = pytest.mark.unit

BASE = ["--input", "a/*.gz", "--output", "out"]
ITEMS = ["--input-format=jsonl", "--tokenizer=items"]


def test_the_defaults_are_a_contract() -> None:
    config, rest = parse_arguments(BASE)
    assert rest == []
    assert config.shaping_options() == {
        "min_count": 5, "max_vocab": 0, "window": 5, "fixed_window": False, "sample": 1e-3, "passes": 1,
        "shard_pairs": 16 * 2**20, "seed": 1, "tokenizer": "unicode", "lowercase": True, "normalize": "NFC",
        "encoding_errors": "dead-letter", "max_sentence_tokens": 10_000, "max_token_bytes": 1_000,
        "compression": "zstd",
    }  # fmt: skip
    assert config.max_dead_letter_fraction == 0.001


def test_records_shape_the_bytes_only_where_they_are_read() -> None:
    assert not {"input_format", "text_field", "encoding"} & parse_arguments(BASE)[0].shaping_options().keys()
    config, _ = parse_arguments([*BASE, "--input-format=jsonl", "--text_field=body"])
    assert config.shaping_options().items() >= {"input_format": "jsonl", "text_field": "body"}.items()


def test_phrases_shape_the_bytes_only_where_they_are_joined() -> None:
    config, _ = parse_arguments([*BASE, "--phrase-threshold", "7", "--phrase-min-count", "3"])
    assert config.shaping_options() == parse_arguments(BASE)[0].shaping_options()
    config, _ = parse_arguments([*BASE, "--phrases", "2"])
    expected = {"phrases": 2, "phrase_threshold": [100.0, 100.0], "phrase_min_count": 5}
    assert config.shaping_options().items() >= expected.items()
    config, _ = parse_arguments([*BASE, "--phrases=2", "--phrase_threshold=200,99.5"])
    assert config.phrase_thresholds == (200.0, 99.5)
    assert config.shaping_options()["phrase_threshold"] == [200.0, 99.5]


def test_what_makes_no_difference_is_not_in_the_manifest() -> None:
    config, _ = parse_arguments([*BASE, *ITEMS, "--window=0"])
    options = config.shaping_options()
    assert options.items() >= {"tokenizer": "items", "window": 0, "max_sentence_tokens": 1024}.items()
    assert not {"lowercase", "normalize", "fixed_window"} & options.keys()
    more = ["--no-lowercase", "--normalize=none", "--fixed-window", "--max-sentence-tokens=1024"]
    assert parse_arguments([*BASE, *ITEMS, "--window=0", *more])[0].shaping_options() == options
    assert parse_arguments([*BASE, "--window=0", "--max-sentence-tokens=80"])[0].max_sentence_tokens == 80


def test_templates_pass_one_value_a_parameter() -> None:
    config, _ = parse_arguments(
        ["--input=a,b", "--output=o", "--fixed_window=true", "--lowercase=false", "--min_count=2"]
    )
    assert config.input == ("a", "b")
    assert (config.fixed_window, config.lowercase, config.min_count) == (True, False, 2)


def test_flags_and_their_opposites() -> None:
    config, _ = parse_arguments([*BASE, "--no-lowercase", "--fixed-window", "--input", "b", "--shard-pairs", "64Ki"])
    assert (config.lowercase, config.fixed_window, config.input) == (False, True, ("a/*.gz", "b"))
    assert config.shard_pairs == 65536


def test_beams_flags_are_left_to_beam() -> None:
    assert parse_arguments([*BASE, "--runner=FlinkRunner", "--job_name=x"])[1] == [
        "--runner=FlinkRunner",
        "--job_name=x",
    ]


def test_the_manifest_says_elisions_only_where_there_are_some() -> None:
    assert "elisions" not in Config(("a",), "b").shaping_options()
    assert Config(("a",), "b", elisions="IT, fr,fr").shaping_options()["elisions"] == "fr,it"
    assert Config(("a",), "b", tokenizer="unicode-v1").shaping_options()["tokenizer"] == "unicode"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--window", "-1"], "argument --window: found -1, expected 0 to 1000"),
        (["--tokenizer=items"], "--tokenizer: found items with --input-format text, which has no lists: expected"),
        ([*ITEMS, "--phrases=1"], "argument --phrases: found 1, expected 0 with --tokenizer items"),
        ([*ITEMS, "--elisions=fr"], "argument --elisions: cannot be used with --tokenizer items"),
        ([*ITEMS, "--normalize=NFKC"], "argument --normalize: found NFKC with --tokenizer items, whose tokens stay"),
        (
            ["--window=0", "--max-sentence-tokens=1025"],
            "argument --max-sentence-tokens: found 1025, expected 2 to 1024 with --window 0: a sentence of n tokens",
        ),
        (["--sample", "nan"], "argument --sample: found nan, expected 0 or more"),
        (["--phrases", "11"], "argument --phrases: found 11, expected 0 to 10"),
        (["--phrase-min-count", "0"], "argument --phrase-min-count: found 0, expected 1 or more"),
        (["--phrase-threshold", "a,1"], "--phrase-threshold: found 'a,1', expected numbers from 0 on, such as 100"),
        (["--phrase-threshold", "inf"], "--phrase-threshold: found 'inf', expected numbers from 0 on"),
        (["--phrase-threshold", "-1"], "--phrase-threshold: found '-1', expected numbers from 0 on"),
        (
            ["--phrases=1", "--phrase-threshold=2,1"],
            "found 2 values, expected one, or one for each round of --phrases 1",
        ),
        (["--shard-pairs", "16M"], "argument --shard-pairs: found '16M', expected a number such as"),
        (["--input-format", "csv"], "argument --input-format: invalid choice: 'csv'"),
        (["--tokenizer", "bpe"], "argument --tokenizer: invalid choice: 'bpe'"),
        (["--min-cuont", "3"], "unrecognized arguments: --min-cuont 3; did you mean --min-count?"),
        (["--direct_num_workers=-1"], "argument --direct_num_workers: found -1, expected 0 or more"),
        (["--direct_running_mode=fast"], "argument --direct_running_mode: invalid choice: 'fast'"),
        (["--win", "3"], "unrecognized arguments: --win 3; did you mean --window?"),
        (["--min_cuont=3"], "unrecognized arguments: --min_cuont=3; did you mean --min-count?"),
        (["--runer=x"], "unrecognized arguments: --runer=x; did you mean --runner?"),
        (["--qqqqqq"], "unrecognized arguments: --qqqqqq (--help"),
        (["/dev/null", "/dev"], "unrecognized arguments: /dev/null /dev; for several files, quote the glob (--input"),
        (["--sample", "inf"], "argument --sample: found inf, expected 0 or more and finite"),
        (["--sample=-1"], "argument --sample: found -1.0, expected 0 or more"),
        (["--max-dead-letter-fraction", "nan"], "--max-dead-letter-fraction: found nan, expected 0 to 1"),
        (["--min-count", "9" * 30], "argument --min-count: found 999"),
        (["--text-field", "text"], "--text-field: found 'text' with --input-format text, which has no fields"),
        (["--text_field=body"], "--text-field: found 'body' with --input-format text, which has no fields"),
        (["--encoding", "utf-61"], "--encoding: found 'utf-61', expected one of Python's text encodings, as utf-16"),
        (["--encoding", "rot13"], "--encoding: found 'rot13', expected one of"),
        (["--encoding=cp1252", "--input-format=parquet"], "--encoding: cannot be used with --input-format parquet"),
        (["--lowercase=maybe"], "argument --lowercase: found 'maybe', expected true or false"),
    ],
)
def test_wrong_usage_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse_arguments([*BASE, *words])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("kind", ["inline", "file"])
def test_payloads_come_back(kind: str, tmp_path: Path) -> None:
    spill = Spill() if kind == "inline" else FileSpill(str(tmp_path / "spill"))
    payloads = [b"one", b"", b"three" * 1000]
    handles = [spill.put(payload) for payload in payloads]
    spill.close()
    handles.append(spill.put(b"four"))
    spill.close()
    assert [spill.get(handle) for handle in handles] == [*payloads, b"four"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": -1}, "--window: found -1, expected 0 to 1000"),
        ({"tokenizer": "foo"}, "--tokenizer: found 'foo', expected one of unicode, unicode-v1, whitespace, items"),
        ({"elisions": "fr,xx"}, "--elisions: found 'xx', expected some of ca, fr, ga, it, with commas"),
        ({"elisions": "fr", "tokenizer": "whitespace"}, "--elisions: cannot be used with --tokenizer whitespace"),
        ({"window": 2.5}, "--window: found 2.5, expected a whole number"),
        ({"window": True}, "--window: found True, expected a whole number"),
        ({"min_count": "5"}, "--min-count: found '5', expected a whole number"),
        ({"sample": math.nan}, "--sample: found nan"),
        ({"sample": "1e-3"}, "--sample: found '1e-3', expected a number"),
        ({"lowercase": "no"}, "--lowercase: found 'no', expected true or false"),
        ({"input": "a.txt"}, "--input: found 'a.txt', expected a sequence of globs"),
        ({"output": None}, "--output: found None, expected a string"),
        ({"normalize": "NFD"}, "--normalize: found 'NFD', expected one of NFC, NFKC, none"),
        ({"phrase_threshold": (math.inf,)}, "--phrase-threshold: found (inf,), expected numbers from 0 on"),
        ({"phrases": 1, "phrase_threshold": (2, 1)}, "--phrase-threshold: found 2 values, expected one, or one"),
        ({"text_field": "body"}, "--text-field: found 'body' with --input-format text"),
        ({"encoding": "base64"}, "--encoding: found 'base64'"),
    ],
)
def test_a_config_is_checked_wherever_it_is_made(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Config(**{"input": ("a",), "output": "o"} | options)
    assert str(error.value).startswith(message)
    with pytest.raises(ConfigError):
        dataclasses.replace(Config(("a",), "o"), **options)


def test_every_number_has_a_range() -> None:
    numbers = {field.name for field in dataclasses.fields(Config) if type(field.default) in (int, float)}
    assert numbers == set(RANGES)


def test_equal_settings_are_one_config() -> None:
    assert Config(["a"], "o", sample=0, encoding="UTF8") == Config(("a",), "o", sample=0.0, encoding="utf_8_sig")  # type: ignore[arg-type]
    assert Config(("a",), "o", encoding="latin1").shaping_options()["encoding"] == "iso8859-1"


def test_commas_in_names_of_folders(tmp_path: Path) -> None:
    (tmp_path / "a,b").mkdir()
    (tmp_path / "a,b" / "x.txt").touch()
    (tmp_path / "c.txt").touch()

    def inputs(value: str) -> tuple[str, ...]:
        return parse_arguments(["--input", value, "--output", "o"])[0].input

    assert inputs(f"{tmp_path}/a,b/*.txt") == (f"{tmp_path}/a,b/*.txt",)
    assert inputs(f"{tmp_path}/a,b/x.txt") == (f"{tmp_path}/a,b/x.txt",)
    assert inputs(f"{tmp_path}/c.txt,{tmp_path}/*.txt") == (f"{tmp_path}/c.txt", f"{tmp_path}/*.txt")
    assert inputs("s3://b/a,b/*.txt,gs://c/d,e.txt") == ("s3://b/a,b/*.txt", "gs://c/d,e.txt")
