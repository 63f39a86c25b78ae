"""The page about a model: its scores, its words, how it was trained, what changed, and its corpus.

The dataset and the model before are looked for where the model says, and left out where they are no longer there; one
that a flag names must be there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.common.page.corpus import corpus_section
from pipeline.common.page.document import Section, render_page, settings_section
from pipeline.dataset.reader import Dataset, open_dataset, read_run
from pipeline.dataset.schema import FormatError
from pipeline.storage import storage
from trainer.evaluation.drift import measure_drift
from trainer.evaluation.eval_sets import EvalSets
from trainer.evaluation.scores import Score, score_model
from trainer.models import store
from trainer.models.mapped import map_model
from trainer.models.store import Model
from trainer.reports.drift import drift_section
from trainer.reports.quality import quality_section
from trainer.reports.training import training_section
from trainer.reports.words import frequency_section, map_section, neighbors_section


@dataclass(frozen=True)
class Report:
    """A page, and the scores on it."""

    page: bytes
    scores: list[Score]


def make_report(
    model_uri: str, version: str | None = None, *, data: str = "", compare: str = "",
    sets: EvalSets | None = None, words: Sequence[str] = (), opening: Sequence[Section] = (),
) -> Report:  # fmt: skip
    """Describe a version of a model.

    Args:
        model_uri: the model's folder.
        version: of it; None for the current one.
        data: the dataset that it was trained on; "" looks where the model says.
        compare: a version of the folder, or another model's folder; "" takes the version before, or what it began with.
        sets: to score both models on.
        words: whose neighbours to show; none for some frequent ones.
        opening: sections that come first.

    Raises:
        FormatError: a damaged model, or a dataset or model to compare with that was asked for and is none.
    """
    sets = sets or EvalSets()
    model = map_model(model_uri, version)
    run = _read_run(model_uri, str(model.info["version"]))
    previous, compared = _find_previous(model_uri, model, run, compare)
    scores = score_model(model, sets)
    sections = [
        *opening,
        *([quality_section(scores, score_model(previous, sets) if previous else [])] if scores else []),
        map_section(model),
        neighbors_section(model, words),
        frequency_section(model),
        training_section(model, run),
        *([drift_section(measure_drift(previous, model), compared)] if previous else []),
        *_corpus(data, run, str(model.info["lineage"].get("dataset_id", ""))),
        _origin(model, run),
    ]
    size, dim = model.input_VD.shape
    subtitle = f"{size:,} words of {dim} dimensions, version {model.info['version']}"
    published = str(run.get("published_at", ""))[:10]
    return Report(render_page("Word vectors", subtitle + (f", {published}" if published else ""), sections), scores)


def _read_run(model_uri: str, version: str) -> dict[str, Any]:
    """What varies from run to run is good to know, but a model is whole without it."""
    with contextlib.suppress(FormatError):
        return store.read_run(model_uri, version)
    return {}


def _find_previous(model_uri: str, model: Model, run: dict[str, Any], compare: str) -> tuple[Model | None, str]:
    """Load the model to compare with; also what to call it."""
    if compare:
        if "/" not in compare and storage.exists(storage.join(model_uri, "versions", compare, store.INFO)):
            return map_model(model_uri, compare), f"version {compare}"
        return map_model(compare), storage.redact(compare)
    previous, base = str(run.get("previous") or ""), str(run.get("init_from") or "")
    if previous and previous != model.info["version"]:
        with contextlib.suppress(FormatError, OSError):
            return map_model(model_uri, previous), f"version {previous}"
    if base:
        with contextlib.suppress(FormatError, OSError):
            started_from = map_model(base, str(run.get("init_version") or "") or None)
            if started_from.info != model.info:  # the folder's own latest may be this one by now
                return started_from, f"the model that it started from, {base}"
    return None, ""


def _corpus(data: str, run: dict[str, Any], dataset_id: str) -> list[Section]:
    """Describe the corpus: none where the dataset that the model names is not there, or is another one by now."""
    if data:
        return [_describe(_open(data, run, dataset_id))]
    with contextlib.suppress(FormatError, OSError):
        dataset = _open(str(run["data"]), run, dataset_id) if run.get("data") else None
        if dataset is not None and dataset.dataset_id == dataset_id:
            return [_describe(dataset)]
    return []


def _open(uri: str, run: dict[str, Any], dataset_id: str) -> Dataset:
    """Open the run that was trained on, or the published one where that is gone."""
    with contextlib.suppress(FormatError):
        dataset = open_dataset(uri, str(run.get("data_run") or "") or None)
        if dataset.dataset_id == dataset_id:
            return dataset
    return open_dataset(uri)


def _describe(dataset: Dataset) -> Section:
    about: dict[str, Any] = {}
    with contextlib.suppress(FormatError):
        about = read_run(dataset)
    return corpus_section(dataset.manifest, dataset.vocabulary(), about)


def _origin(model: Model, run: dict[str, Any]) -> Section:
    info = model.info
    facts = [
        ("version", str(info["version"])),
        ("published", str(run.get("published_at", ""))),
        ("dataset", str(info["lineage"].get("dataset_id", ""))),
        ("read from", " ".join(str(run.get(name) or "") for name in ("data", "data_run")).strip()),
        ("started from", str(run.get("init_from") or "")),
        ("machine", ", ".join(str(run[name]) for name in ("machine", "python") if run.get(name))),
        ("vectors SHA-256", info["files"][store.TABLES]["sha256"]),
    ]
    return settings_section(facts, info["config"], run.get("libraries") or {})
