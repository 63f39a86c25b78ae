"""docs/vectors.md: its commands, and its Python for the libraries of the development environment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.vectors_page import PAGE, blocks, imports, make_model, require_exact, run_shell, run_snippet
from trainer.models.store import Model

pytestmark = [pytest.mark.e2e, pytest.mark.readme]

ELSEWHERE = {"faiss", "hnswlib", "pandas", "polars"}  # tests/engines/test_loaders.py
PYTHON = blocks("python")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return make_model(folder)


@pytest.fixture(scope="module")
def printed(folder: Path, model: Model) -> list[str]:
    return run_shell(folder)


def test_the_commands(printed: list[str], folder: Path) -> None:
    words, expression, machine, explained, lines, _, _, scores, scores_json, *exports = printed
    assert [block.split("  ")[0] for block in words.split("\n\n")] == ["king", "queen"]
    assert expression.startswith("king - man + woman  (count ")
    assert len(json.loads(machine)["words"][0]["neighbors"]) == 10
    assert explained.count("\n      ") == 3
    assert [json.loads(line)["word"] for line in lines.splitlines()] == ["king", "king - man + woman"]
    assert "over 3 of 3 pairs known, 0 skipped" in scores
    assert "1 of 1 questions answered, 0 skipped" in scores
    assert json.loads(scores_json)["similarity"][0]["pairs"] == 3
    assert len(exports) == 7
    assert (folder / "projector" / "projector_config.pbtxt").read_text().startswith("embeddings {")


def test_every_program_has_a_snippet() -> None:
    headings = [line[4:] for line in PAGE.splitlines() if line.startswith("### ")]
    assert headings == [
        "gensim", "fastText", "pandas", "Polars", "DuckDB", "NumPy", "PyTorch", "Faiss", "hnswlib",
        "Embedding Projector",
    ]  # fmt: skip
    named = set().union(*map(imports, PYTHON))
    assert named >= {"gensim", "pandas", "polars", "duckdb", "safetensors", "torch", "faiss", "hnswlib", "trainer"}


@pytest.mark.parametrize("number", [i for i, code in enumerate(PYTHON) if not imports(code) & ELSEWHERE])
def test_the_python(number: int, printed: list[str], folder: Path, model: Model) -> None:
    assert printed
    if "trainer" in imports(PYTHON[number]):
        check = 'nearest = [token for token, _ in vectors.most_similar("king", topn=5)]\n'
        require_exact(run_snippet(PYTHON[number] + check, folder), model)
    else:
        require_exact(run_snippet(PYTHON[number], folder), model)
