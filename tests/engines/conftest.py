"""What the tests of engines share, and the table that they end with: seconds and digest of each engine's dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engines.flink import Cluster, flink_cluster
from tests.engines.support import dataset_sha256, make_corpus, run_pipeline

Record = Callable[[str, float, str], None]
_ROWS = pytest.StashKey[list[tuple[str, float, str]]]()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the text that every engine reads."""
    return make_corpus(tmp_path_factory.mktemp("engines") / "corpus")


@pytest.fixture(scope="session")
def record(request: pytest.FixtureRequest) -> Record:
    """``record(engine, seconds, sha256)`` adds a row to the table."""
    rows = request.config.stash.setdefault(_ROWS, [])

    def add(engine: str, seconds: float, sha256: str) -> None:
        rows.append((engine, seconds, sha256))

    return add


@pytest.fixture(scope="session")
def in_process(corpus: Path, record: Record, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest that every engine must come to: that of a run in one process."""
    output = tmp_path_factory.mktemp("engines") / "in-process"
    seconds = run_pipeline(corpus, output)
    record("in process (default)", seconds, digest := dataset_sha256(output))
    return digest


@pytest.fixture(scope="session")
def flink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Flink cluster of two TaskManagers."""
    with flink_cluster(tmp_path_factory.mktemp("flink")) as cluster:
        yield cluster


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table, where there is anything in it."""
    rows = config.stash.get(_ROWS, [])
    if not rows:
        return
    digests = {digest for _, _, digest in rows}
    terminalreporter.section("the same corpus on every engine")
    width = max(len(engine) for engine, _, _ in rows)
    terminalreporter.write_line(f"{'engine':{width}}  seconds  sha256 of the dataset")
    for engine, seconds, digest in rows:
        terminalreporter.write_line(f"{engine:{width}}  {seconds:7.1f}  {digest}")
    terminalreporter.write_line("all equal" if len(digests) == 1 else f"NOT equal: {len(digests)} different datasets")
