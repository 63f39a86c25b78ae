"""The pipeline's command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.options import parse_arguments
from pipeline.spill import FileSpill, InlineSpill

BASE = ["--input", "a/*.gz", "--output", "out"]


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--window", "0"], "argument --window: found 0, expected 1 to 1000"),
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
        (["--min-cuont", "3"], "unrecognized arguments: --min-cuont 3"),
        (["--direct_num_workers=-1"], "argument --direct_num_workers: found -1, expected 0 or more"),
        (["--direct_running_mode=fast"], "argument --direct_running_mode: invalid choice: 'fast'"),
        (["--win", "3"], "unrecognized arguments: --win 3"),
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
    spill = InlineSpill() if kind == "inline" else FileSpill(str(tmp_path / "spill"))
    payloads = [b"one", b"", b"three" * 1000]
    travellers = [spill.put(payload) for payload in payloads]
    spill.close()
    travellers.append(spill.put(b"four"))
    spill.close()
    assert [spill.get(traveller) for traveller in travellers] == [*payloads, b"four"]
