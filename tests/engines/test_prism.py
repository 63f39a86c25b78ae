"""Beam's local runner Prism, at Beam's own version, gives the same bytes as one process."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from tests.engines.conftest import Record
from tests.engines.install import go_tool
from tests.engines.support import dataset_sha256, files_below, run_pipeline

pytestmark = pytest.mark.engines


def test_the_same_bytes(corpus: Path, in_process: str, record: Record, tmp_path: Path) -> None:
    prism = go_tool("github.com/apache/beam/sdks/v2/go/cmd/prism", f"v{importlib.metadata.version('apache-beam')}")
    seconds = run_pipeline(corpus, tmp_path / "out", "--runner=PrismRunner", f"--prism_location={prism}")
    record("Prism", seconds, dataset_sha256(tmp_path / "out"))
    assert dataset_sha256(tmp_path / "out") == in_process
    assert not [name for name in files_below(tmp_path) if name.endswith((".tmp", ".bin", "lease.json"))]
