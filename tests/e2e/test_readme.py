"""What the README shows is run: every command of its shell blocks, its Python, and the demo's script."""

from __future__ import annotations

import ast
import gzip
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.test_text_to_vectors import TOPICS, planted_text

pytestmark = [pytest.mark.e2e, pytest.mark.readme]
ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with a small corpus, in the names that the README uses."""
    root = tmp_path_factory.mktemp("readme")
    (root / "corpus").mkdir()
    text = planted_text(3000).replace("fox", "king").replace("apple", "queen")
    (root / "corpus" / "a.txt.gz").write_bytes(gzip.compress(text.encode()))
    (root / "wordsim.tsv").write_text("dog\tcat\t8\ndog\tking\t7\ndog\tplum\t1\nhammer\tfig\t0.5\n")
    (root / "questions.txt").write_text(": made\nking dog queen pear\n")
    return root


@pytest.fixture(scope="module")
def ran(folder: Path) -> list[str]:
    """Run all commands once, in order; return what they printed."""
    printed = []
    for line in "".join(blocks("sh")).splitlines():
        words = shlex.split(line)
        assert words[:2] == ["python", "-m"], f"the README shows a command that this test does not know: {line}"
        command = [sys.executable, *words[1:]]
        done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        printed.append(done.stdout)
    return printed


def test_every_command_works(ran: list[str], folder: Path) -> None:
    assert len(ran) == 7
    assert "published run" in ran[0]
    assert ran[1].startswith("verified run ")
    assert "trained version" in ran[2]
    assert ran[3].startswith("king  (count ")
    assert (folder / "vectors.txt").read_text().splitlines()[0] == f"{4 + 8 * len(TOPICS)} 100"
    assert (folder / "vectors.parquet").exists()


def test_the_python_example_works(ran: list[str], folder: Path) -> None:
    assert ran
    code = blocks("python")[0]
    code = "import warnings; warnings.simplefilter('error')\n" + code + "\nprint(len(batch['center_B']))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


def test_the_transforms_work_in_another_pipeline(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", blocks("python")[1]], cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [ast.literal_eval(line) for line in done.stdout.splitlines()]
    counts = Counter(gzip.decompress((folder / "corpus" / "a.txt.gz").read_bytes()).split())
    assert len(rows) > 10
    assert all(counts[row["token"]] == row["count"] for row in rows)


def test_the_demo_on_ones_own_text(folder: Path, tmp_path: Path) -> None:
    variables = {"CORPUS": f"{folder}/corpus/*.gz", "WORK": str(tmp_path), "PYTHON": sys.executable}
    done = subprocess.run(
        ["bash", str(ROOT / "deploy" / "demo.sh")], cwd=tmp_path, env=ENVIRONMENT | variables,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(count ") == 6


def test_the_architecture_page_names_every_file() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"[\w.-]+", page))
    files = [path for folder in ("pipeline", "trainer") for path in sorted((ROOT / folder).rglob("*.py"))]
    missing = [str(path.relative_to(ROOT)) for path in files if path.stem not in named | {"__init__", "__main__"}]
    assert missing == []


def test_the_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake (demo|test|bench|quality|engines)\b", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_measurements_that_it_names_exist() -> None:
    pages = [README, *(page.read_text(encoding="utf-8") for page in ROOT.glob("docs/*.md"))]
    named = re.findall(r"\b((?:bench|quality)\.[a-z]\w*)\b", "\n".join(pages))
    assert len(named) >= 5
    assert [name for name in named if not (ROOT / "tests" / f"{name.replace('.', '/')}.py").exists()] == []
