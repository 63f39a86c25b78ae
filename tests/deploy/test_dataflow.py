"""The Flex Template's parameters are the pipeline's flags, and the systemd units run a command that there is."""

from __future__ import annotations

import configparser
import importlib.util
import json
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipeline.config import make_parser
from tests.support.deploy_commands import parse
from tests.support.paths import ROOT

pytestmark = pytest.mark.unit

DATAFLOW = ROOT / "deploy" / "dataflow"
SYSTEMD = ROOT / "deploy" / "systemd"
METADATA = json.loads((DATAFLOW / "metadata.json").read_text(encoding="utf-8"))
PARAMETERS = {parameter["name"]: parameter for parameter in METADATA["parameters"]}
#: Values of each kind that a person may type: those that are right, those that are not.
SAMPLES: dict[str, tuple[list[str], list[str]]] = {
    "input": (["gs://b/a.txt", "gs://b/x/*.gz,gs://b/y/**"], ["", "/local/*.txt", "gs://", "gs://b/a,", ",gs://b/a"]),
    "output": (["gs://b/data", "s3://b/d"], ["", "data", "gs://", "gs://a,gs://b"]),
    "input_list": (["", "gs://b/list.parquet"], ["list.parquet", "gs://"]),
    "vocab": (["", "gs://b/data"], ["data", "gs://"]),
    "text_field": (["text", "my field"], [""]),
    "encoding": (["utf-8", "cp1252", "shift_jis"], ["", "utf 8", "-"]),
    "run_id": (["night-1", "20260101T000000Z-0a"], [".hidden", "a/b", "a b"]),
    "elisions": (["", "fr", "fr,it"], ["french", "fr,", "fr it"]),
    "phrase_threshold": (["100", "1e2", "200"], ["", "-1", "200,", "much"]),
    "sdk_container_image": (["europe-west4-docker.pkg.dev/p/r/i:0.1.0"], ["", "image", "gs://b/i", "a/b"]),
}
KINDS: dict[Any, tuple[list[str], list[str]]] = {
    int: (["2", "10"], ["", "-1", "1.5", "1Mi", "ten"]),
    float: (["0", "1e-3", "0.5", ".5"], ["", "-1", "half", "1e"]),
    "parse_size": (["1048576", "16Mi", "1024Ki"], ["", "16M", "-1", "1.5Mi"]),
    "parse_flag": (["true", "false"], ["", "yes", "1", "True "]),
}


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_metadata", DATAFLOW / "make_metadata.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def samples(name: str) -> tuple[list[str], list[str]]:
    action = next((action for action in make_parser()._actions if action.dest == name), None)
    if name in SAMPLES or action is None:
        return SAMPLES[name]
    if action.choices:
        return [str(choice) for choice in action.choices], ["", "none of them", str(next(iter(action.choices))) + "x"]
    return KINDS.get(action.type) or KINDS[getattr(action.type, "__name__", "")]


def test_the_parameters_are_the_flags(maker: ModuleType) -> None:
    assert (DATAFLOW / "metadata.json").read_text(encoding="utf-8") == maker.to_json(maker.make_metadata()), (
        "run python deploy/dataflow/make_metadata.py"
    )
    flags = {action.dest for action in make_parser()._actions} - {"help", "version", "wait", "json", "report"}
    assert flags | {"sdk_container_image"} == set(PARAMETERS)


def test_they_are_described_as_google_asks() -> None:
    """https://cloud.google.com/dataflow/docs/reference/rest/v1b3/TemplateMetadata: names, types, what is required."""
    kinds = {"name": str, "label": str, "helpText": str, "isOptional": bool, "regexes": list, "defaultValue": str}
    assert METADATA.keys() == {"name", "description", "streaming", "parameters"}
    for parameter in METADATA["parameters"]:
        assert {"name", "label", "helpText"} <= parameter.keys() <= kinds.keys()
        assert all(isinstance(value, kinds[name]) for name, value in parameter.items())
        assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_]*", parameter["name"])
        assert parameter["helpText"].endswith(".")
        assert "%" not in parameter["helpText"]


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_each_form_takes_what_the_pipeline_takes(name: str) -> None:
    [form] = PARAMETERS[name]["regexes"]
    good, bad = samples(name)
    good = [*good, *([PARAMETERS[name]["defaultValue"]] if "defaultValue" in PARAMETERS[name] else [])]
    assert [value for value in good if not re.fullmatch(form, value)] == []
    assert [value for value in bad if re.fullmatch(form, value)] == []
    needed = {"input": "gs://b/a", "output": "gs://b/o"}
    needed |= {"input_format": "jsonl"} if name in ("text_field", "tokenizer") else {}
    for value in good:
        words = [f"--{key}={text}" for key, text in {**needed, name: value}.items() if text]
        parse(["python", "-m", "pipeline", *words])  # ends the test by SystemExit where it is wrong usage


def test_optional_is_what_has_a_default() -> None:
    assert {name for name, found in PARAMETERS.items() if not found["isOptional"]} == {
        "input", "output", "sdk_container_image",
    }  # fmt: skip
    for action in make_parser()._actions:
        if action.const is not False and "defaultValue" in PARAMETERS.get(action.dest, {}):
            assert PARAMETERS[action.dest]["defaultValue"].lower() == str(action.default).lower()


def unit(path: Path) -> configparser.ConfigParser:
    found = configparser.ConfigParser(strict=False, interpolation=None)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read(path)
    return found


def test_the_nightly_unit_runs_a_command_that_parses() -> None:
    service = unit(SYSTEMD / "pairstream-retrain.service")["Service"]
    words = [re.sub(r"\$\{(\w+)\}", r"/place/\1", word) for word in shlex.split(service["ExecStart"])]
    parsed = parse(words)
    assert (parsed.data, parsed.model) == ("/place/DATA", "/place/MODEL")
    assert service["RestartPreventExitStatus"] == "2 3"
    assert service["SuccessExitStatus"] == "4 130 143"
    timer = unit(SYSTEMD / "pairstream-retrain.timer")["Timer"]
    assert timer["Persistent"] == "true"
