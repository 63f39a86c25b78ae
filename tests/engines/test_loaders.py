"""Our files in the libraries that the development environment lacks: pandas, Polars, Faiss, hnswlib, TensorBoard."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest

from tests.e2e.test_vectors_page import ELSEWHERE, PYTHON
from tests.engines.install import debian, python_env
from tests.engines.servers import free_port, listens, started
from tests.support.vectors_page import (
    DIM,
    TOKENS,
    by_frequency,
    imports,
    make_model,
    require_exact,
    run_shell,
    run_snippet,
)
from trainer.models.store import Model

pytestmark = pytest.mark.engines

REQUIREMENTS = [
    "faiss-cpu==1.15.1",
    "hnswlib==0.8.0",
    "polars==2.1.0",
    "pandas==3.1.1",
    "pyarrow==25.0.1",
    "tensorboard==2.21.0",
    "numpy==2.4.6",
]
NAME = "vectors.tsv"  # TensorBoard calls a tensor by its file


@pytest.fixture(scope="module")
def python() -> Path:
    debian({"g++": "g++"})  # hnswlib comes as source
    return python_env("loaders", REQUIREMENTS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loaders")


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    made = make_model(folder)
    run_shell(folder)
    return made


@pytest.mark.parametrize("library", sorted(ELSEWHERE))
def test_the_page(library: str, python: Path, folder: Path, model: Model) -> None:
    snippets = [code for code in PYTHON if library in imports(code)]
    assert len(snippets) == 1
    found = run_snippet(snippets[0], folder, python)
    assert {"tokens", "vectors"} <= found.keys()
    require_exact(found, model)


@pytest.fixture(scope="module")
def tensorboard(python: Path, folder: Path, model: Model) -> Iterator[str]:
    port = free_port()
    command = [str(python.parent / "tensorboard"), "--logdir", "projector", "--host", "127.0.0.1", "--port", str(port)]
    with started(command, folder / "tensorboard.log", lambda: listens(port), cwd=folder):
        yield f"http://127.0.0.1:{port}/data/plugin/projector"


def fetch(url: str, **parameters: str) -> bytes:
    with urllib.request.urlopen(f"{url}?{urlencode(parameters)}", timeout=60) as answer:
        content: bytes = answer.read()
        return content


def test_tensorboard_shows_the_projector(tensorboard: str, model: Model) -> None:
    (run,) = json.loads(fetch(f"{tensorboard}/runs"))
    (embedding,) = json.loads(fetch(f"{tensorboard}/info", run=run))["embeddings"]
    assert embedding["tensorShape"] == [len(TOKENS), DIM]
    numbers = np.frombuffer(fetch(f"{tensorboard}/tensor", run=run, name=NAME), np.float32)
    order = by_frequency(model.vocabulary)
    np.testing.assert_array_equal(numbers.reshape(-1, DIM), model.input_VD[order])
    points = parse_metadata(fetch(f"{tensorboard}/metadata", run=run, name=NAME).decode())
    counts = model.vocabulary.counts
    assert points == [{"token": TOKENS[row], "count": str(counts[row])} for row in order]


def parse_metadata(text: str) -> list[dict[str, Any]]:
    """As the projector's own page does: a first line with a tab is a heading, blank lines are none."""
    lines = [line for line in text.split("\n") if line.strip()]
    heading = lines.pop(0).split("\t") if "\t" in lines[0] else ["label"]
    return [dict(zip(heading, line.split("\t"), strict=True)) for line in lines]
