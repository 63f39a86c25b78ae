"""Imports point one way: between programs, between packages, and to heavy libraries."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

HEAVY = ("apache_beam", "torch", "numba", "triton")
REPORTS = ("altair", "sklearn", "vl_convert")

#: Packages and modules of the top level, each below those that it may import. A set is one floor.
FLOORS: dict[str, tuple[set[str], ...]] = {
    "pipeline": (
        {"errors", "native"}, {"storage"}, {"dataset"}, {"common", "text"}, {"config", "checks"},
        {"progress", "results"}, {"pairs"}, {"vocabulary"}, {"phrases", "inputs"}, {"stages"}, {"transforms"},
        {"publishing", "runners"}, {"job"}, {"cli"}, {"__main__"},
    ),
    "trainer": (
        {"errors"}, {"distributed", "subwords", "toml"}, {"config"}, {"progress"}, {"data"}, {"models"}, {"vectors"},
        {"exporting", "evaluation"}, {"importing", "keyed_vectors"}, {"neighbors"}, {"reports"}, {"engines"},
        {"checkpoints"}, {"training"}, {"retraining"}, {"versions"}, {"cli"}, {"__main__"},
    ),
}  # fmt: skip
#: What the trainer may import of the pipeline.
SHARED = ("pipeline.dataset", "pipeline.common", "pipeline.storage")
BEAM = ("pipeline.transforms", "pipeline.job", "pipeline.runners")
#: Beam's own flags, and the stores that only Beam can list.
BEAM_FOR_FLAGS_AND_FILES = ("pipeline.cli", "pipeline.config", "pipeline.publishing.commands", "pipeline.storage")
TORCH = (
    "trainer.data.pair_stream",
    "trainer.distributed",
    "trainer.engines",
    "trainer.models.tensors",
    "trainer.training.tensorboard",
)


def files_of(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(file: Path) -> Iterator[str]:
    """Yield each module that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_below(name: str, packages: tuple[str, ...]) -> bool:
    return any((name + ".").startswith(package + ".") for package in packages)


def loaded_by(modules: list[str], heavy: tuple[str, ...] = HEAVY) -> set[str]:
    """Import modules in a fresh interpreter; return the heavy packages that came along."""
    code = f"import sys, {', '.join(modules)}; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def modules_below(*folders: str) -> list[str]:
    """Names of all modules of some packages, entry points (which start work) left out."""
    names = [module_of(file) for folder in folders for file in files_of(folder)]
    return [name for name in names if not name.endswith("__main__")]


def test_the_trainer_needs_no_beam() -> None:
    assert "apache_beam" not in loaded_by(modules_below("trainer"))


def test_the_pipeline_needs_no_torch() -> None:
    assert "torch" not in loaded_by(modules_below("pipeline"))


def test_what_both_share_needs_neither() -> None:
    assert loaded_by(modules_below("pipeline/dataset", "pipeline/common", "pipeline/storage")) == set()


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("pipeline.text.tokenize", set()),
        ("pipeline.text.normalize", set()),
        ("pipeline.config", set()),
        ("pipeline.pairs.windows", {"numba"}),
    ],
)
def test_pure_functions_come_without_heavy_libraries(module: str, allowed: set[str]) -> None:
    assert loaded_by([module]) <= allowed


def test_a_command_that_writes_no_page_needs_none_of_its_libraries() -> None:
    modules = ("pipeline.job", "trainer.training.command", "trainer.retraining.command", "trainer.reports.command")
    assert loaded_by(list(modules), REPORTS) == set()


@pytest.mark.parametrize("package", FLOORS)
def test_every_package_stands_on_a_floor(package: str) -> None:
    found = {module_of(file).split(".")[1] for file in files_of(package) if module_of(file) != package}
    assert found == set().union(*FLOORS[package])


@pytest.mark.parametrize("package", FLOORS)
def test_packages_import_only_what_stands_below_them(package: str) -> None:
    floor = {name: number for number, names in enumerate(FLOORS[package]) for name in names}
    wrong = []
    for file in files_of(package):
        own = module_of(file).split(".")
        for name in imports_of(file):
            parts = name.split(".")
            if len(own) > 1 and parts[0] == package and len(parts) > 1 and parts[1] in floor and parts[1] != own[1]:
                same_floor = {own[1], parts[1]} == {"config", "checks"}  # the one is the other's second half
                if floor[parts[1]] >= floor[own[1]] and not same_floor:
                    wrong.append((module_of(file), name))
    assert wrong == []


def test_the_trainer_imports_only_what_both_share() -> None:
    ours = [(module_of(file), name) for file in files_of("trainer") for name in imports_of(file)]
    assert [(file, name) for file, name in ours if is_below(name, ("pipeline",)) and not is_below(name, SHARED)] == []


def test_the_pipeline_imports_nothing_of_the_trainer() -> None:
    ours = [(module_of(file), name) for file in files_of("pipeline") for name in imports_of(file)]
    assert [(file, name) for file, name in ours if is_below(name, ("trainer",))] == []


@pytest.mark.parametrize(("library", "where"), [("apache_beam", (*BEAM, *BEAM_FOR_FLAGS_AND_FILES)), ("torch", TORCH)])
def test_heavy_libraries_are_imported_where_they_belong(library: str, where: tuple[str, ...]) -> None:
    files = [*files_of("pipeline"), *files_of("trainer")]
    users = {module_of(file) for file in files if any(is_below(name, (library,)) for name in imports_of(file))}
    assert [user for user in sorted(users) if not is_below(user, where)] == []


@pytest.mark.parametrize("package", FLOORS)
def test_no_folder_holds_more_than_a_newcomer_can_read(package: str) -> None:
    folders = {file.parent for file in files_of(package)}
    counts = {str(folder.relative_to(ROOT)): len([*folder.glob("*.py")]) - 1 for folder in folders}
    assert {folder: count for folder, count in counts.items() if count > 12} == {}
    assert sum(len([*(ROOT / name).glob("*.py")]) for name in FLOORS) <= 16


@pytest.mark.parametrize("package", ["pipeline", "trainer"])
def test_tests_lie_where_the_code_does(package: str) -> None:
    folders = {path.name for path in (ROOT / package).iterdir() if (path / "__init__.py").exists()}
    tested = {path.parent.name for path in (ROOT / "tests" / package).glob("*/test_*.py")}
    assert tested <= folders
    stray = [path.name for path in (ROOT / "tests" / package).glob("test_*.py")]
    assert [name for name in stray if not (ROOT / package / name.removeprefix("test_")).exists()] == []
