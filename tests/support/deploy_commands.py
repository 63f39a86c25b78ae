"""Command lines out of manifests, units and documents: cut into words, and parsed by the product's own parsers."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.common.flags import OneLineParser, with_dashes
from pipeline.config import parse_arguments
from pipeline.publishing.commands import COMMANDS as MAINTENANCE
from pipeline.publishing.commands import parse_command
from tests.support.paths import ROOT
from trainer.cli import COMMANDS as TRAINER

KUBERNETES = ROOT / "deploy" / "kubernetes"


def objects(path: Path) -> list[dict[str, Any]]:
    """All objects of a file of manifests."""
    return [found for found in yaml.safe_load_all(path.read_text(encoding="utf-8")) if found]


def manifests() -> dict[tuple[str, str], dict[str, Any]]:
    """Every object of every folder, by kind and name."""
    files = [path for path in sorted(KUBERNETES.glob("*/*.yaml")) if path.name != "kustomization.yaml"]
    return {(found["kind"], found["metadata"]["name"]): found for path in files for found in objects(path)}


def pod_of(workload: Mapping[str, Any]) -> dict[str, Any]:
    """The pod's template of a Deployment, a Job or a CronJob."""
    spec = workload["spec"]
    template: dict[str, Any] = (spec["jobTemplate"]["spec"] if workload["kind"] == "CronJob" else spec)["template"]
    return template


def command_of(container: Mapping[str, Any], places: Mapping[str, str]) -> list[str]:
    """A container's command and arguments, with $(NAME) filled in as Kubernetes does."""

    def fill(word: str) -> str:
        return re.sub(r"\$\((\w+)\)", lambda match: places[match[1]], word)

    return [fill(word) for word in [*container.get("command", []), *container.get("args", [])]]


def parse(words: Sequence[str]) -> argparse.Namespace | Any:
    """Parse `pairstream …`, `python -m pipeline …` or `python -m trainer …`, also started by torchrun.

    Raises:
        SystemExit: wrong usage, as the command itself would end.
        ValueError: it is none of these.
    """
    program = re.sub(r"[\d.]+$", "", words[0].rsplit("/", 1)[-1])
    if program == "torchrun":
        from torch.distributed.run import get_args_parser

        launch = get_args_parser().parse_args(list(words[1:]))
        if not launch.module:
            raise ValueError(f"found {shlex.join(words)}, expected torchrun -m MODULE")
        return parse(["python", "-m", launch.training_script, *launch.training_script_args])
    if program == "pairstream":
        return _parse_pipeline(words[2:]) if words[1] == "pipeline" else _parse_trainer(words[1], words[2:])
    if program != "python" or words[1] != "-m":
        raise ValueError(f"found {shlex.join(words)}, expected pairstream or python -m")
    if words[2] == "pipeline":
        return _parse_pipeline(words[3:])
    if words[2] != "trainer":
        raise ValueError(f"found the module {words[2]}, expected pipeline or trainer")
    return _parse_trainer(words[3], words[4:])


def _parse_pipeline(words: Sequence[str]) -> Any:
    if words[0] in MAINTENANCE:
        return parse_command(words)
    return parse_arguments(words[1:] if words[0] == "run" else words)[0]


def _parse_trainer(command: str, words: Sequence[str]) -> argparse.Namespace:
    parser = OneLineParser(prog=command, allow_abbrev=False)
    importlib.import_module(TRAINER[command][0]).add_arguments(parser)
    return parser.parse_args(with_dashes(words, parser))
