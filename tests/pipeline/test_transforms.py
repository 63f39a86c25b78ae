"""The transforms in other people's pipelines: they take text as it is, and say what they cannot take."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from pipeline.chunks import CHUNK_BYTES
from pipeline.counting import table_from_bytes
from pipeline.options import Config
from pipeline.transforms import COUNTS, DEAD, CountTokens, MergeCounts

CONFIG = Config((), "", min_count=1, threads=1)


def count(elements: list[Any]) -> tuple[dict[str, int], list[str]]:
    """Count the tokens of a PCollection: counts by token, and reasons of what was set aside."""
    counts, reasons = _run(elements)
    return {str(row["token"], "utf-8"): row["count"] for row in counts}, reasons


def _run(elements: list[Any]) -> tuple[list[dict[str, Any]], list[str]]:
    import json
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            counted = pipeline | beam.Create(elements) | CountTokens(CONFIG)
            tables = counted[COUNTS] | MergeCounts(CONFIG)
            rows = tables | beam.Map(table_from_bytes) | beam.FlatMap(lambda table: table.to_pylist())
            (
                rows
                | beam.Map(lambda row: json.dumps([row["token"].hex(), row["count"]]))
                | "C" >> beam.io.WriteToText(f"{folder}/counts")
            )
            counted[DEAD] | beam.Map(lambda item: item[1][1].reason) | "D" >> beam.io.WriteToText(f"{folder}/dead")
        lines = {
            kind: [line for path in Path(folder).glob(f"{kind}*") for line in path.read_text().splitlines()]
            for kind in ("counts", "dead")
        }
    found = [json.loads(line) for line in lines["counts"]]
    return [{"token": bytes.fromhex(token), "count": number} for token, number in found], lines["dead"]


@pytest.mark.parametrize("encode", [str, str.encode], ids=["str", "bytes"])
def test_strings_are_counted(encode: Any) -> None:
    lines = ["\ufeffThe fox", "the dog\nsaw the fox\n", "", "naïve"]
    assert count([encode(line) for line in lines]) == (
        {"the": 3, "fox": 2, "dog": 1, "saw": 1, "naïve": 1}, []
    )  # fmt: skip


def test_large_strings() -> None:
    large = "word " * CHUNK_BYTES
    assert count([large, "fox"]) == ({"word": CHUNK_BYTES, "fox": 1}, [])


@pytest.mark.parametrize("elements", [[1, 2], [None], [{"text": "a"}], [("a", "b")]], ids=str)
def test_other_elements_are_a_type_error_before_the_pipeline_runs(elements: list[Any]) -> None:
    pipeline = beam.Pipeline(runner=FnApiRunner())
    with pytest.raises(TypeError, match=r"CountTokens: found a PCollection of .+, expected str, bytes or lists"):
        pipeline | beam.Create(elements) | CountTokens(CONFIG)


def test_elements_of_no_known_type_fail_clearly() -> None:
    with pytest.raises(Exception, match="CountTokens: found an element of type int, expected lists of Part"):
        count([1, "a"])
