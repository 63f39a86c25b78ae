"""What the README and docs/python.md show is run: every command and snippet, and the demo's script."""

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

from tests.e2e.test_text_to_vectors import planted_text
from tests.support.paths import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.readme]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON_PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def run(command: list[str], folder: Path, environment: dict[str, str] = ENVIRONMENT) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with a small corpus, in the names that the pages use."""
    root = tmp_path_factory.mktemp("readme")
    (root / "corpus").mkdir()
    text = planted_text(3000).replace("fox", "king").replace("apple", "queen")
    (root / "corpus" / "a.txt.gz").write_bytes(gzip.compress(text.encode()))
    return root


def test_every_command_works(tmp_path: Path) -> None:
    (tmp_path / "wordsim.tsv").write_text("thread\tthreads\t9\nfile\tfilename\t8\ninteger\tthread\t1\n")
    (tmp_path / "questions.txt").write_text(": made\nthread threads file files\n")
    printed = []
    for line in "".join(blocks("sh")).splitlines():
        words = shlex.split(line)
        if words[0] == "python":  # the demo's corpus; that of the standard library alone is quicker
            run([str(ROOT / words[1]), *words[2:], "--source", str(Path(os.__file__).parent)], tmp_path)
        else:
            assert words[0] == "pairstream", f"the README shows a command that this test does not know: {line}"
            printed.append(run(["-m", *words], tmp_path))
    assert len(printed) == 8
    assert "published run" in printed[0]
    assert "trained version" in printed[1]
    shown = re.findall(r"^    (\w+)  \(count [\d,]+\)$", README, re.MULTILINE)
    assert re.findall(r"^(\w+)  \(count [\d,]+\)$", printed[2], re.MULTILINE) == shown
    assert len(shown) == 2
    assert printed[3].startswith("verified run ")
    assert (tmp_path / "vectors.txt").read_text().splitlines()[0].endswith(" 100")
    assert (tmp_path / "vectors.parquet").exists()


def test_the_python_of_its_page_works(folder: Path) -> None:
    vectors, loop, transforms = blocks("python", PYTHON_PAGE)
    run(["-W", "ignore", "-c", vectors + "\nassert 'king' in vectors and dataset.passes == 5"], folder)
    code = "import warnings; warnings.simplefilter('error')\n" + loop + "\nprint(len(batch['center_B']))"
    assert int(run(["-c", code], folder, {**os.environ, "PYTHONPATH": str(ROOT)})) > 0
    rows = [ast.literal_eval(line) for line in run(["-W", "ignore", "-c", transforms], folder).splitlines()]
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
    assert len(README.split()) < 1200
    named = re.findall(r"\b((?:bench|quality)\.[a-z]\w*)\b", "\n".join(pages))
    assert len(named) >= 5
    assert [name for name in named if not (ROOT / "tests" / f"{name.replace('.', '/')}.py").exists()] == []
