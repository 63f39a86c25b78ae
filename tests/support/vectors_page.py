"""What docs/vectors.md shows, and a small model to run it on: shared by the tests of every environment."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.dataset.reader import open_dataset
from pipeline.dataset.vocabulary import Vocabulary, make_vocabulary
from tests.support.datasets import group_of, make_dataset
from tests.support.paths import ROOT
from trainer.models.store import Model, save_model

PAGE = (ROOT / "docs" / "vectors.md").read_text(encoding="utf-8")
WORDS = ["the", "king", "queen", "man", "woman", "bread", "naïve", "日本", "don't", '"']
TOKENS = [*WORDS, *(f"w{i}" for i in range(390))]
DIM = 20

#: Added to a snippet: what it found, for the test to compare.
REPORT = """
import json as _json, numpy as _numpy
_found = {name: [str(one) for one in globals()[name]] for name in ("tokens", "nearest") if name in globals()}
if "vectors" in globals() and "trainer" not in globals():
    _found["vectors"] = _numpy.asarray(vectors).tolist()
    _found["dtype"] = str(_numpy.asarray(vectors).dtype)
print(_json.dumps(_found))
"""


def blocks(language: str) -> list[str]:
    """The page's blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def imports(code: str) -> set[str]:
    """The packages that some code imports."""
    names = [alias.name for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


def make_model(folder: Path) -> Model:
    """Save a model at folder/model, with the dataset that its lineage names; its counts are not in the order of ids."""
    rng = np.random.default_rng(4)
    tables = rng.standard_normal((2, len(TOKENS), DIM)).astype(np.float32)
    vocabulary = make_vocabulary(TOKENS, (rng.permutation(len(TOKENS)) + 1).tolist())
    dataset = open_dataset(make_dataset(folder / "data", vocabulary, passes=[[[_pairs(rng)]]]))
    info = {"config": {}, "lineage": {"dataset_id": dataset.dataset_id}, "metrics": {}}
    model = Model(tables[0], tables[1], vocabulary, info)
    save_model(str(folder / "model"), model, {"data": str(folder / "data"), "data_run": dataset.run_id})
    return model


def _pairs(rng: np.random.Generator) -> Any:
    return group_of([list(rng.integers(0, len(WORDS), 8)) for _ in range(200)])


def run_shell(folder: Path) -> list[str]:
    """Run all commands of the page in order; return what each printed."""
    (folder / "bin").mkdir(exist_ok=True)
    shim = folder / "bin" / "pairstream"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m pairstream "$@"\n')
    shim.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    environment["PATH"] = f"{folder / 'bin'}:{environment['PATH']}"
    printed = []
    for line in "".join(blocks("sh")).splitlines():
        done = subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=folder, env=environment, capture_output=True,
                              text=True, check=False)  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        printed.append(done.stdout)
    return printed


def run_snippet(code: str, folder: Path, python: str | Path = sys.executable, report: bool = True) -> dict[str, Any]:
    """Run a block of Python in a folder; return what it found."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([str(python), "-c", code + REPORT * report], cwd=folder, env=environment, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, f"{code}\n{done.stderr}"
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def by_frequency(vocabulary: Vocabulary) -> list[int]:
    """The rows in the order of exported files."""
    counts = vocabulary.counts.tolist()
    return sorted(range(len(counts)), key=lambda row: -counts[row])


def require_exact(found: dict[str, Any], model: Model) -> None:
    """Hold what a snippet found against the model: the numbers bit for bit, the nearest words by brute force."""
    order = by_frequency(model.vocabulary)
    if "tokens" in found:
        assert found["tokens"] == [TOKENS[row] for row in order]
    if "vectors" in found:
        assert found["dtype"] == "float32"
        np.testing.assert_array_equal(np.array(found["vectors"], np.float32), model.input_VD[order])
    if "nearest" in found:
        unit = model.input_VD / np.linalg.norm(model.input_VD, axis=1, keepdims=True)
        scores = unit @ unit[TOKENS.index("king")]
        scores[TOKENS.index("king")] = -2
        assert found["nearest"] == [TOKENS[row] for row in np.argsort(-scores)[:5]]
    assert {"vectors", "nearest"} & found.keys()
