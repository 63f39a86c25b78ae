"""A bundle that raises, a bundle that runs twice, a step done again: the dataset's bytes stay what they were."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import job
from pipeline.config import Config
from pipeline.dataset.reader import Dataset, open_dataset
from pipeline.publishing import publish
from pipeline.transforms import phrases, text_to_pairs

DO_FNS = {
    "count": text_to_pairs._CountTokens,
    "merge": text_to_pairs._MergeCounts,
    "encode": text_to_pairs._EncodeChunks,
    "write": text_to_pairs._WriteShards,
    "phrases": phrases._CountPairs,
}


def run(source: Path, output: Path) -> Dataset:
    config = Config(
        (f"{source}/*",), str(output), min_count=2, passes=2, shard_pairs=3000, sample=0.05,
        phrases=1, phrase_threshold=(2.0,), phrase_min_count=2, max_dead_letter_fraction=1.0,
    )  # fmt: skip
    return open_dataset(str(output), job.run_job(config, ()).run_id)


def digests(dataset: Dataset) -> dict[str, str]:
    folder = Path(dataset.uri, "runs", dataset.run_id)
    varying = {"run.json", "listing.parquet"}
    files = [file for file in folder.rglob("*") if file.is_file() and file.name not in varying]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    for part in range(3):
        rows = (f"the fox {i % 7} saw a dog {(i * i + part) % 5} near house {i % 3}\n" for i in range(400))
        (folder / f"{part}.txt").write_text("".join(rows) + "y" * 1500 + " long\n" * (part == 0))
    return folder


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return digests(run(source, tmp_path_factory.mktemp("undisturbed")))


def disturb(
    kind: type[Any], monkeypatch: pytest.MonkeyPatch, attempt: Callable[[Any, Iterator[Any]], None]
) -> list[int]:
    """Let the first bundle of a DoFn be tried before it runs; what the attempt emits is lost, as a runner loses it."""
    original, calls = kind.process, list[int]()

    def process(self: Any, *arguments: Any) -> Iterator[Any]:
        if not calls:
            calls.append(1)
            attempt(self, original(self, *arguments))
            self.start_bundle()
        yield from original(self, *arguments)

    monkeypatch.setattr(kind, "process", process)
    return calls


@pytest.mark.parametrize("name", DO_FNS)
def test_a_bundle_that_raises_is_done_again(
    name: str, source: Path, undisturbed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def attempt(_do_fn: Any, outputs: Iterator[Any]) -> None:
        next(outputs, None)  # it got so far, then its worker lost it
        outputs.close()  # type: ignore[attr-defined]

    calls = disturb(DO_FNS[name], monkeypatch, attempt)
    assert digests(run(source, tmp_path)) == undisturbed
    assert calls == [1]


@pytest.mark.parametrize("name", DO_FNS)
def test_a_bundle_that_runs_twice(
    name: str, source: Path, undisturbed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def attempt(do_fn: Any, outputs: Iterator[Any]) -> None:
        assert [*outputs, *do_fn.finish_bundle()]

    calls = disturb(DO_FNS[name], monkeypatch, attempt)
    assert digests(run(source, tmp_path)) == undisturbed
    assert calls == [1]


@pytest.mark.parametrize(
    ("module", "step"),
    [
        (job, "write_vocabulary"),
        (publish, "plan_shards"),
        (publish, "publish"),
        (phrases, "_write_round"),
    ],
    ids=["vocabulary", "plan", "publish", "phrases"],
)
def test_a_step_done_again(
    module: Any, step: str, source: Path, undisturbed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = getattr(module, step), tmp_path / "calls"

    def twice(*arguments: Any) -> Any:
        with calls.open("a") as seen:  # a file, since the function may travel to its worker by value
            seen.write("once")
        original(*arguments)
        return original(*arguments)

    monkeypatch.setattr(module, step, twice)
    assert digests(run(source, tmp_path / "out")) == undisturbed
    assert calls.read_text() == "once"


def test_dead_letters_of_a_lost_attempt_are_counted_once(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disturb(text_to_pairs._CountTokens, monkeypatch, lambda do_fn, outputs: [*outputs, *do_fn.finish_bundle()].clear())
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_bytes(b"a b c a b c\n" * 1000 + b"\xff\n")
    assert run(tmp_path / "in", tmp_path / "out").manifest.corpus.dead_letters == {"invalid-utf-8": 1}
