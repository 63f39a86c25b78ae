"""The code really travels: Beam's boot program installs it on the worker's side, as docs/flink.md says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.dataset.reader import open_dataset
from tests.engines.conftest import Record
from tests.engines.flink import Cluster
from tests.engines.install import go_tool, python_env
from tests.engines.servers import wait_until
from tests.engines.support import dataset_sha256, files_below, names_of, start_pipeline
from tests.support.paths import ROOT

pytestmark = pytest.mark.engines

NEEDED = ("msgspec", "numpy", "obstore", "pyarrow", "smart_open", "xxhash", "apache-beam", "numba", "regex",
          "zstandard")  # fmt: skip
SETUPTOOLS = "setuptools==80.9.0"
VERSION = "0.1.0+travelled"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A worker's side: Beam and what the pipeline needs, but no pairstream; the boot program; the page's script."""
    constraints = ROOT / ".ci" / ("constraints-3.10.txt" if sys.version_info < (3, 11) else "constraints.txt")
    pins = dict(line.split("==") for line in constraints.read_text().split() if "==" in line)
    wanted = [f"{name}=={pins[name]}" for name in NEEDED]
    python = python_env("worker", [*wanted, SETUPTOOLS, "-c", str(constraints)])
    folder = tmp_path_factory.mktemp("machine") / "bin"
    folder.mkdir()
    (folder / "python").write_text(f'#!/bin/sh\nexec "{python}" "$@"\n')  # a link would not find its environment
    (folder / "python").chmod(0o755)
    (folder / "container").symlink_to(
        go_tool("github.com/apache/beam/sdks/v2/python/container", f"v{pins['apache-beam']}")
    )
    [script] = re.findall(r"```sh\n(#!/bin/sh\n.*?)```", (ROOT / "docs" / "flink.md").read_text(), re.DOTALL)
    (folder / "worker").write_text(script)
    (folder / "worker").chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def package(machine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, of a version of its own."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pipeline", "trainer"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "LICENSE", "pairstream.py"):
        shutil.copy(ROOT / name, source / name)
    shutil.copy(ROOT / "pyproject.toml", source / "pyproject.toml")
    named = source / "pipeline" / "dataset" / "__init__.py"
    text = named.read_text(encoding="utf-8")
    assert text.count('\n__version__ = "0.1.0"\n') == 1
    named.write_text(text.replace('__version__ = "0.1.0"', f'__version__ = "{VERSION}"'), encoding="utf-8")
    code = "import setuptools.build_meta as build; print(build.build_sdist('dist'))"
    done = subprocess.run([machine / "python", "-c", code], cwd=source, capture_output=True, text=True, check=True)
    return source / "dist" / done.stdout.splitlines()[-1]


def test_the_package_is_installed_by_the_worker(
    flink: Cluster, machine: Path, package: Path, corpus: Path, in_process: str, record: Record, tmp_path: Path
) -> None:
    find = [machine / "python", "-c", "import pipeline"]
    missing = subprocess.run(find, cwd=tmp_path, env={}, capture_output=True, check=False)
    assert b"No module named 'pipeline'" in missing.stderr
    workers, output = tmp_path / "workers", tmp_path / "out"
    workers.mkdir()
    config = json.dumps({"command": str(machine / "worker"), "env": {"TMPDIR": str(workers)}})
    flags = ["--environment_type=PROCESS", f"--environment_config={config}", f"--extra_package={package}", "--no-wait"]
    before, started = flink.ended(), time.perf_counter()
    # From a folder that is not the workers', and the launcher does not wait: all that follows is the job's own work.
    submitted = start_pipeline(
        corpus.name, os.path.relpath(output, corpus.parent), *flink.job_flags, *flags, cwd=corpus.parent
    )
    _, error = submitted.communicate()
    assert (submitted.returncode, error[:14]) == (0, "submitted run "), error[-6000:]
    assert not (output / "LATEST.json").exists()
    wait_until(lambda: flink.ended() > before, 400)
    assert flink.last_job()["state"] == "FINISHED"
    seconds = time.perf_counter() - started
    record("Flink, workers that install", seconds, dataset_sha256(output))
    assert dataset_sha256(output) == in_process
    dataset = open_dataset(str(output))
    folder = output / "runs" / dataset.run_id
    assert json.loads((folder / "run.json").read_text())["versions"]["pairstream"] == VERSION
    assert files_below(folder) == {*names_of(dataset), "run.json", "listing.parquet"}
    # Workers are kept for a while; when their TaskManagers are killed, they go too, with all that they installed.
    assert len(list(workers.iterdir())) == 2
    for _ in range(2):
        flink.replace_task_manager()
    wait_until(lambda: not list(workers.iterdir()), 120)
