"""The transforms in other people's pipelines: they take text as it is, and say what they cannot take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from pipeline.config import Config
from pipeline.inputs.chunks import CHUNK_BYTES
from pipeline.transforms.text_to_pairs import COUNTS, DEAD, CountTokens, MergeCounts
from pipeline.vocabulary.count import table_from_bytes

CONFIG = Config((), "", min_count=1, threads=1)


def count(elements: list[Any], folder: Path) -> tuple[dict[str, int], list[str]]:
    """Count the tokens of a PCollection: counts by token, and reasons of what was set aside."""
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        counted = pipeline | beam.Create(elements) | CountTokens(CONFIG)
        tables = counted[COUNTS] | MergeCounts(CONFIG) | beam.Map(table_from_bytes)
        rows = tables | beam.FlatMap(
            lambda table: [json.dumps([r["token"].decode(), r["count"]]) for r in table.to_pylist()]
        )
        rows | "WriteCounts" >> beam.io.WriteToText(f"{folder}/counts")
        (
            counted[DEAD]
            | beam.FlatMap(lambda aside: list(aside.tallies))
            | "WriteDead" >> beam.io.WriteToText(f"{folder}/dead")
        )
    counts, dead = ([line for path in folder.glob(f"{name}*") for line in path.read_text().splitlines()]
                    for name in ("counts", "dead"))  # fmt: skip
    return dict(map(json.loads, counts)), dead


@pytest.mark.parametrize("encode", [str, str.encode], ids=["str", "bytes"])
def test_strings_are_counted(encode: Any, tmp_path: Path) -> None:
    lines = ["\ufeffThe fox", "the dog\nsaw the fox\n", "", "naïve"]
    assert count([encode(line) for line in lines], tmp_path) == (
        {"the": 3, "fox": 2, "dog": 1, "saw": 1, "naïve": 1}, []
    )  # fmt: skip


def test_large_strings_and_bad_ones(tmp_path: Path) -> None:
    large = b"word " * CHUNK_BYTES
    assert count([large, b"a \xff", b"fox"], tmp_path) == ({"word": CHUNK_BYTES, "fox": 1}, ["invalid-utf-8"])


@pytest.mark.parametrize("elements", [[1, 2], [None], [{"text": "a"}], [("a", "b")]], ids=str)
def test_other_elements_are_a_type_error_before_the_pipeline_runs(elements: list[Any]) -> None:
    pipeline = beam.Pipeline(runner=FnApiRunner())
    with pytest.raises(TypeError, match=r"CountTokens: found a PCollection of .+, expected str, bytes or lists"):
        pipeline | beam.Create(elements) | CountTokens(CONFIG)


def test_elements_of_no_known_type_fail_clearly(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="CountTokens: found an element of type int, expected lists of Part"):
        count([1, "a"], tmp_path)


def test_text_is_no_list_of_items() -> None:
    config = Config((), "", min_count=1, threads=1, input_format="jsonl", tokenizer="items")
    pipeline = beam.Pipeline(runner=FnApiRunner())
    pipeline | beam.Create(["a b"]) | CountTokens(config)
    with pytest.raises(Exception, match="CountTokens: found text, expected lists of Part with --tokenizer items"):
        pipeline.run()
