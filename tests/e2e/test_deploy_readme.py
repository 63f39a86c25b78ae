"""What deploy/README.md and docs/scaling.md show is run, or its block says what it needs, and its commands parse."""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.test_text_to_vectors import planted_text
from tests.support.deploy_commands import KUBERNETES, parse
from tests.support.paths import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.readme]
PAGES = [ROOT / "deploy" / "README.md", ROOT / "docs" / "scaling.md"]
#: Programs of others, which only blocks that need something call.
FOREIGN = {"docker", "gcloud", "install", "journalctl", "kubectl", "pip", "systemctl"}


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[list[str]]:
    lines = block.replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip() and not line.startswith("#")]


ALL = [(page, block) for page in PAGES for block in blocks(page)]
MARKED = [command for _, block in ALL if block.startswith("# needs: ") for command in commands(block)]
PLAIN = [command for page, block in ALL if not block.startswith("# needs: ") for command in commands(block)]


def test_there_is_something_to_look_at() -> None:
    assert len(ALL) >= 9
    assert len(MARKED) >= 25
    assert all(page.exists() for page in PAGES)


def test_what_needs_nothing_is_run(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt.gz").write_bytes(gzip.compress(planted_text(3000).encode()))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    for words in PLAIN:
        if words[:2] == ["python", "-m"] and words[2].startswith("tests.bench"):
            assert (ROOT / f"{words[2].replace('.', '/')}.py").exists()
            continue  # a measurement: it needs real corpora, and minutes
        assert words[0] == "pairstream", f"this test does not know how to run {shlex.join(words)}"
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stderr}"
    assert (tmp_path / "vectors.parquet").exists()


@pytest.mark.parametrize("words", MARKED, ids=lambda words: shlex.join(words)[:60])
def test_what_cannot_be_run_here_parses(words: list[str]) -> None:
    program = words[0].rsplit("/", 1)[-1]
    if program in ("torchrun", "pairstream"):
        parse(words)
    elif words[:3] != ["python3", "-m", "venv"]:
        assert program in FOREIGN
    for word in words:
        if re.match(r"(deploy|\.ci)/", word) or word.startswith("--metadata-file="):
            assert (ROOT / word.split("=")[-1]).exists(), word


def test_each_folder_of_kubernetes_is_shown() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    folders = {path.parent.name for path in KUBERNETES.glob("*/kustomization.yaml")}
    assert set(re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE)) == folders
    applied = [words[-1].rsplit("/", 1)[-1] for words in MARKED if words[:3] == ["kubectl", "apply", "-k"]]
    assert set(applied) == folders - {"training-gpu"}


def test_every_image_is_built() -> None:
    built = {
        words[words.index("--target") + 1]
        for words in MARKED
        if words[:2] == ["docker", "build"] and "--target" in words
    }
    named = re.findall(r"^FROM runtime AS (\S+)$", (ROOT / "deploy/images/Dockerfile").read_text(), re.MULTILINE)
    assert built == set(named)


def test_the_template_is_started_with_parameters_that_it_has() -> None:
    metadata = json.loads((ROOT / "deploy/dataflow/metadata.json").read_text(encoding="utf-8"))
    forms = {parameter["name"]: parameter["regexes"][0] for parameter in metadata["parameters"]}
    [started] = [words for words in MARKED if words[:4] == ["gcloud", "dataflow", "flex-template", "run"]]
    given = started[started.index("--parameters") + 1]
    assert given.startswith("^;^")
    values = dict(part.split("=", 1) for part in given[3:].split(";"))
    assert {name for name, value in values.items() if not re.fullmatch(forms[name], value)} == set()
    assert {p["name"] for p in metadata["parameters"] if not p["isOptional"]} <= values.keys()


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        headings = {
            re.sub(r"[^\w-]", "", line.lower().replace(" ", "-")) for line in re.findall(r"^#+ (.*)$", text, re.M)
        }
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = target.partition("#")
            assert not path or path.startswith("https://") or (page.parent / path).exists(), target
            assert path or anchor in headings, target
