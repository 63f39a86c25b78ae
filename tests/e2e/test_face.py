"""`import pairstream` and the command of that name, next to files of a user that are called as our packages are.

The command is that of a wheel, built from the source distribution and installed in an environment of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

import pairstream
from tests.support.paths import ROOT

TEXT = "".join(
    f"the {animal} ran to the {place} and back\n" for animal in ("fox", "dog", "cat") for place in ("den", "barn")
)
HIJACKER = "raise SystemExit('a file of the user was taken for the package')\n"
PLAIN = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
#: Everything of a checkout that a source distribution has.
SOURCE = (
    "pipeline", "trainer", "pairstream.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md",
    "CONTRIBUTING.md", "SECURITY.md", "Makefile", ".pre-commit-config.yaml", ".ci", "deploy", "docs", "tests",
)  # fmt: skip

pytestmark = pytest.mark.e2e


def build(source: Path, kind: str) -> Path:
    """Build an "sdist" or a "wheel" of a source tree, with the setuptools that is here."""
    code = f"import setuptools.build_meta as build; print(build.build_{kind}('dist'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, env=PLAIN, capture_output=True, text=True, check=True
    )
    return source / "dist" / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in SOURCE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)
    return build(source, "sdist")


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(place, filter="data")
    [source] = place.iterdir()
    return build(source, "wheel")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment with the wheel in it, and what it needs from the environment of the tests."""
    place = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    python = place / "bin" / "python"
    install = ["install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", python, *install], check=True)
    [site] = place.glob("lib/python*/site-packages")
    (site / "shared.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    return place / "bin"


@pytest.fixture
def folder(tmp_path: Path, installed: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT * 40)
    for name in ("trainer.py", "pipeline.py"):
        (tmp_path / name).write_text(HIJACKER)
    (tmp_path / "bin").symlink_to(installed)
    return tmp_path


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command."""
    return subprocess.run(
        ["bin/pairstream", *words], cwd=folder, env={**PLAIN, "PYTHONWARNINGS": "ignore"}, text=True,
        capture_output=True, check=False,
    )  # fmt: skip


def succeed(folder: Path, *words: str) -> str:
    done = command(folder, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_source_distribution_is_complete(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    files = [
        path for name in SOURCE for path in ((ROOT / name).rglob("*") if (ROOT / name).is_dir() else [ROOT / name])
    ]
    wanted = {str(path.relative_to(ROOT)) for path in files if path.is_file() and "__pycache__" not in path.parts}
    assert sorted(wanted - found) == []


def test_the_wheel_has_the_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"pairstream.py", "pipeline", "trainer"}
    for package in ("pipeline", "trainer"):
        wanted = {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*") if path.is_file()}
        assert {name for name in wanted if "__pycache__" not in name} <= set(names)


def test_the_installed_package_is_the_wheels(folder: Path, installed: Path) -> None:
    code = "import pairstream, trainer; print(pairstream.__file__, trainer.__file__)"
    done = subprocess.run(
        [installed / "python", "-I", "-c", code], cwd=folder, env=PLAIN, capture_output=True, text=True, check=True
    )
    assert all(Path(name).is_relative_to(installed.parent) for name in done.stdout.split())


def test_the_command_works_next_to_files_of_the_same_names(folder: Path) -> None:
    shape = ("--input", "text.txt", "--min-count", "1", "--sample", "0")
    workers = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    succeed(folder, "pipeline", *shape, "--output", "data")
    succeed(folder, "pipeline", *shape, "--output", "again", *workers)
    succeed(folder, "train", "--data", "data", "--model", "model", "--dim", "8", "--quiet")
    assert "dog" in succeed(folder, "neighbors", "--model", "model", "fox")
    one, other = (pairstream.open_dataset(str(folder / name)) for name in ("data", "again"))
    assert one.dataset_id == other.dataset_id
    settings = ("--data", "nightly", "--model", "live", "--input", "text.txt", "--dim", "8")
    assert json.loads(succeed(folder, "retrain", *settings, "--json"))["status"] == "published"


def test_the_command_says_what_it_is_and_what_was_meant(folder: Path) -> None:
    assert succeed(folder, "--version").startswith(f"pairstream {pairstream.__version__} ")
    help_text = succeed(folder, "--help")
    assert all(f"\n  {name} " in help_text for name in ("pipeline", "train", "neighbors", "retrain"))
    assert succeed(folder, "pipeline", "--help").startswith("usage: pairstream pipeline ")
    assert succeed(folder, "train", "--help").startswith("usage: pairstream train ")
    for words, meant in ((("trian",), "train"), (("train", "--modle", "m"), "--model")):
        done = command(folder, *words)
        assert done.returncode == 2
        assert f"did you mean {meant}?" in done.stderr


def test_debug_shows_the_traceback(folder: Path) -> None:
    words = ("neighbors", "--model", "nowhere", "fox")
    plain, full = command(folder, *words), command(folder, "--debug", *words)
    assert plain.stderr.count("\n") == 1
    assert full.stderr.startswith("Traceback")
    assert full.stderr.endswith(plain.stderr)


def test_from_text_to_vectors_in_python(folder: Path) -> None:
    data, model = str(folder / "data"), str(folder / "model")
    dataset = pairstream.prepare(str(folder / "text.txt"), data, min_count=1, sample=0.0, passes=2)
    assert (dataset.passes, dataset.total_tokens) == (2, 6 * 40 * 8)
    vectors = pairstream.train(data, model, dim=8, epochs=2)
    assert vectors.vector_size == 8
    np.testing.assert_array_equal(pairstream.load(model)["fox"], vectors["fox"])
    batches = list(pairstream.PairStream(data))
    assert sum(len(batch["center_B"]) for batch in batches) == dataset.pairs_in_pass(0)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = pairstream.nothing
