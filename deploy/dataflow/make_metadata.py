"""Write metadata.json, the Flex Template's parameters, from the pipeline's own flags; run it when these change."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pipeline.common.flags import parse_flag, parse_size
from pipeline.config import make_parser

TARGET = Path(__file__).with_name("metadata.json")
#: Flags for those who sit before the launcher: a template's has no one there, and never waits (main.py).
NOT_HERE = frozenset({"help", "version", "wait", "json", "report"})
_URI = r"(gs|s3|az|abfss?)://[^,]+"
_NUMBER = r"[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?"
#: What a text must look like, where its kind alone does not say it.
_TEXTS = {
    "input": f"{_URI}(,{_URI})*",
    "input_list": f"({_URI})?",
    "output": _URI,
    "vocab": f"({_URI})?",
    "text_field": ".+",
    "encoding": r"[A-Za-z0-9][A-Za-z0-9_.-]*",
    "run_id": r"([A-Za-z0-9_-][A-Za-z0-9._-]*)?",
    "phrase_threshold": f"{_NUMBER}(,{_NUMBER})*",
    "elisions": "([a-z]{2}(,[a-z]{2})*)?",
}
_IMAGE = {
    "name": "sdk_container_image",
    "label": "Worker image",
    "helpText": "The template's own image, which the workers run too: it holds the pipeline.",
    "isOptional": False,
    "regexes": [r"^[a-z0-9][a-z0-9.:-]*(/[a-z0-9._-]+)+(:[A-Za-z0-9._-]+|@sha256:[0-9a-f]{64})$"],
}


def make_metadata() -> dict[str, Any]:
    """Describe the template as Dataflow reads it."""
    actions = [action for action in make_parser()._actions if action.dest not in NOT_HERE and action.const is not False]
    return {
        "name": "pairstream",
        "description": "Builds a dataset of skip-gram pairs from sharded text, and publishes it.",
        "streaming": False,
        "parameters": [*map(describe, actions), _IMAGE],
    }


def describe(action: argparse.Action) -> dict[str, Any]:
    """Turn one flag into a parameter: its name with underscores, its help, default and form."""
    help_text = " ".join((action.help or "").split()).replace(" Default: %(default)s.", "").replace("%%", "%")
    found: dict[str, Any] = {
        "name": action.dest,
        "label": action.dest.replace("_", " ").capitalize(),
        "helpText": help_text,
        "isOptional": not action.required,
        "regexes": [f"^{form_of(action)}$"],
    }
    default = action.default
    if default not in (None, "", []):
        found["defaultValue"] = str(default).lower() if isinstance(default, bool) else str(default)
    return found


def form_of(action: argparse.Action) -> str:
    """Return the regular expression of a flag's values.

    Raises:
        ValueError: a text without a form in this file.
    """
    if action.choices:
        return f"({'|'.join(map(str, action.choices))})"
    if action.type is parse_flag:
        return "(true|false)"
    if action.dest in _TEXTS:
        return _TEXTS[action.dest]
    forms = {int: "[0-9]+", float: _NUMBER, parse_size: "[0-9]+(Ki|Mi|Gi)?"}
    if action.type not in forms:
        raise ValueError(f"--{action.dest}: found no form of its values, expected one in {Path(__file__).name}")
    return forms[action.type]


def to_json(metadata: dict[str, Any]) -> str:
    """Encode for people."""
    return json.dumps(metadata, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(to_json(make_metadata()), encoding="utf-8")
