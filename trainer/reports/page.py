"""Write a page about a model, one HTML file with plots: its words, its scores, how it was trained, what changed.

The dataset and the model before are looked for where the model says, and left out where they are no longer there; one
that a flag names must be there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.common.outputs import emit_result, refuse_inputs, refuse_owned, write_output
from pipeline.common.page.corpus import corpus_section
from pipeline.common.page.document import Section, render_page
from pipeline.common.page.settings import settings_section
from pipeline.dataset.manifest import OWN
from pipeline.dataset.reader import Dataset, open_dataset, read_run
from pipeline.dataset.schema import FormatError
from pipeline.storage import storage
from trainer.errors import UserError
from trainer.evaluation.drift import measure_drift
from trainer.evaluation.eval_sets import EvalSets, read_evalsets
from trainer.evaluation.scores import Score, score_model
from trainer.models import store
from trainer.models.mapped import map_model
from trainer.models.store import Model
from trainer.reports.drift import drift_section
from trainer.reports.quality import quality_section
from trainer.reports.training import training_section
from trainer.reports.words import MOST_WORDS, map_section, neighbors_section


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


def require_page(path: str, flag: str, *, model: str, data: str = "", reads: Sequence[tuple[str, str]] = ()) -> None:
    """Refuse a place where no page can be: better now than when all is done.

    Raises:
        UserError: there is a folder.
        OutputError: it is one of what the command reads; see `refuse_place`.
    """
    refuse_place(path, flag, model=model, data=data, reads=reads)
    if storage.is_local(path) and os.path.isdir(storage.local_path(path)):
        raise UserError(f"{flag}: found a folder at {path}, expected the name of a file")


def refuse_place(
    place: str, flag: str, *, model: str, data: str = "", reads: Sequence[tuple[str, str]] = ()
) -> None:  # fmt: skip
    """Refuse to write onto the files of a model or a dataset, or onto others that a command reads.

    Args:
        place: where to write.
        flag: what names it.
        model: the model's folder.
        data: the dataset's folder; "" for none.
        reads: flags, and the files or globs that they name.

    Raises:
        OutputError: it is one of those.
    """
    refuse_inputs(flag, place, reads)
    refuse_owned(flag, place, "--model", model, store.OWN)
    refuse_owned(flag, place, "--data", data, OWN)


def reads_of(similarity: Sequence[str], analogies: Sequence[str]) -> list[tuple[str, str]]:
    """Pair evaluation files with the flags that name them."""
    return [("--similarity", path) for path in similarity] + [("--analogies", path) for path in analogies]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``report``."""
    parser.add_argument("--model", required=True, metavar="DIR", help="the model's folder: a path or a URI")
    parser.add_argument("--version", metavar="ID", help="a version of it (the current one)")
    parser.add_argument("--data", metavar="URI", help="the dataset that it was trained on (where the model says)")
    parser.add_argument(
        "--compare", metavar="MODEL",
        help="a version, or another model's folder, to compare with (the previous one, or what it started from)",
    )  # fmt: skip
    parser.add_argument("--similarity", action="append", default=[], metavar="FILE", help="lines: word word score")
    parser.add_argument("--analogies", action="append", default=[], metavar="FILE", help="Google's question format")
    parser.add_argument("--words", metavar="WORD,WORD", help="whose neighbours to show (some frequent ones)")
    parser.add_argument("--to", required=True, metavar="PATH", help="the HTML file to write: a path or a URI")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Write the page and say so.

    Raises:
        UserError: a wrong flag.
        FormatError: a damaged model or dataset.
    """
    reads = reads_of(args.similarity, args.analogies)
    require_page(args.to, "--to", model=args.model, data=args.data or "", reads=reads)
    words = [word for word in (args.words or "").split(",") if word]
    if len(words) > MOST_WORDS:
        raise UserError(f"--words: found {len(words)} words, expected at most {MOST_WORDS}")
    sets = read_evalsets(args.similarity, args.analogies)
    found = make_report(
        args.model, args.version, data=args.data or "", compare=args.compare or "", sets=sets, words=words
    )  # fmt: skip
    write_output(args.to, found.page)
    result = {"to": storage.redact(args.to), "bytes": len(found.page), "scores": summary(found.scores)}
    done = f"wrote {len(found.page):,} bytes to {storage.redact(args.to)}"
    emit_result(json.dumps(result) if args.json else done, done, args.to)
    return 0


def summary(scores: Sequence[Score]) -> dict[str, float]:
    """Return each set's score by its name, without sections and without sets of which too little is known."""
    return {score.name: round(score.value, 4) for score in scores if not score.part and score.value is not None}
