"""The page about a run: what its corpus is like, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.common.outputs import write_output
from pipeline.common.page.corpus import corpus_section
from pipeline.common.page.document import render_page, settings_section
from pipeline.dataset.reader import Dataset, open_manifest, read_run
from pipeline.publishing.publish import Run


def write_report(run: Run, path: str) -> None:
    """Write the page of a run that is complete.

    Raises:
        FormatError: a file of the run is missing or not what names it.
        OSError: the page cannot be written.
    """
    dataset = open_manifest(run.config.output, run.run_id)
    page = render_corpus(dataset, read_run(dataset) | {"stage_seconds": run.stage_seconds})
    write_output(path, page)


def _tokenizer_of(made: Mapping[str, Any]) -> str:
    unicode = f", Unicode {made['unicode']}" if "unicode" in made else ""
    return f"{made.get('name')}, version {made.get('version')}{unicode}"


def render_corpus(dataset: Dataset, run: Mapping[str, Any]) -> bytes:
    """Render the page of a dataset from its run.json."""
    manifest = dataset.manifest
    facts = [
        ("dataset", dataset.dataset_id),
        ("run", dataset.run_id),
        ("started", str(run.get("started", ""))),
        ("runner", str(run.get("runner", ""))),
        ("input", ", ".join(map(str, run.get("input", [])))),
        ("tokenizer", _tokenizer_of(manifest.tokenizer)),
    ]
    sections = [
        corpus_section(manifest, dataset.vocabulary(), run),
        settings_section(facts, {**manifest.options}, run.get("versions", {})),
    ]
    return render_page("From text to pairs", f"Dataset {dataset.dataset_id[:16]}, run {dataset.run_id}", sections)
