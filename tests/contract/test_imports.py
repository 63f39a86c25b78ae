"""The two sides meet in pipeline.dataset alone: neither needs the other's stack."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("apache_beam", "torch", "numba", "triton")


def modules_below(*folders: str) -> list[str]:
    """Names of all modules of some packages, entry points (which start work) left out."""
    files = [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return [name for name in names if not name.endswith("__main__")]


def loaded_by(modules: list[str]) -> set[str]:
    """Import modules in a fresh interpreter; return the heavy packages that came along."""
    code = f"import sys, {', '.join(modules)}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_trainer_needs_no_beam() -> None:
    assert "apache_beam" not in loaded_by(modules_below("trainer"))


def test_the_pipeline_needs_no_torch() -> None:
    assert "torch" not in loaded_by(modules_below("pipeline"))


def test_the_contract_needs_neither() -> None:
    assert loaded_by(modules_below("pipeline/dataset")) == set()


@pytest.mark.parametrize(
    "module", ["pipeline.text.tokenize", "pipeline.pairs.windows", "pipeline.text.normalize", "pipeline.config"]
)
def test_pure_functions_come_without_beam_torch_and_numba(module: str) -> None:
    if module == "pipeline.pairs.windows":
        pytest.importorskip("numba")
    assert loaded_by([module]) <= ({"numba"} if module == "pipeline.pairs.windows" else set())


@pytest.mark.parametrize(
    ("package", "allowed"), [("trainer", ("trainer", "pipeline.dataset")), ("pipeline", ("pipeline",))]
)
def test_imports_point_one_way(package: str, allowed: tuple[str, ...]) -> None:
    wrong = []
    for file in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            ours = [name for name in names if name.split(".")[0] in ("pipeline", "trainer")]
            wrong += [
                (file.name, name) for name in ours if not (name + ".").startswith(tuple(a + "." for a in allowed))
            ]
    assert wrong == []
