"""The first step of a night: which files it reads; and what it begins with."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence

import pyarrow as pa

from pipeline.dataset.schema import canonical_json, sha256_hex
from pipeline.storage import storage
from trainer.errors import UserError
from trainer.models.lease import Lease
from trainer.models.pointer import LATEST, Pointer
from trainer.retraining import corpus as corpora
from trainer.retraining.config import RetrainConfig, Settings
from trainer.retraining.corpus import Corpus, as_seen, load_files, require_files, save_files
from trainer.retraining.lineage import known_files
from trainer.retraining.pipeline_process import run_pipeline
from trainer.retraining.state import READ, Night, clear, digest_of, folder_of, load_night

LISTED, KNOWN, SEEN_FILES = "listed.parquet", "known.parquet", "seen.parquet"
MOST_NOTES = 20


def find_night(settings: Settings, live: Pointer | None) -> Night | None:
    """The night to go on with: of these settings, begun with this live version, which may be its own by now."""
    night = load_night(settings.own.model, _name(settings))
    if night is None:
        return None
    published = live is not None and live.version == night.version
    return night if published or night.pointer_sha256 == digest_of(live) else None


def plan_night(settings: Settings, live: Pointer | None, lease: Lease) -> Night:
    """List the corpus, and write down what is to be read of it.

    Raises:
        PipelineFailed: the corpus cannot be listed.
        UserError: a file was changed, with --only-new; no list of files that the live model was trained on.
    """
    own, name = settings.own, _name(settings)
    clear(own.model)
    corpus = _list_corpus(own, name, live, lease)
    if corpus.passed:
        print(f"{len(corpus.read):,} files to read; {corpora.describe_passed(corpus.passed)}", file=sys.stderr)
    save_files(folder_of(own.model, name, READ), corpus.read)
    now, base = datetime.datetime.now(datetime.timezone.utc), digest_of(live)
    inputs = {"model": storage.absolute(own.model), "night": name, "base": base, "text": corpus.digest}
    return Night(
        name=name, run=f"retrain-{now:%Y%m%dT%H%M%SZ}-{sha256_hex(canonical_json(inputs))[:8]}",
        started=now.isoformat(timespec="seconds"), text=corpus.digest, settings=settings.digest, only_new=own.only_new,
        parent=live.version if live else "", pointer_sha256=base, data_sha256=data_digest(own.data),
        files=len(corpus.read), listed=len(corpus.listed), passed=corpus.passed,
    )  # fmt: skip


def data_digest(data_uri: str) -> str:
    """SHA-256 of a dataset's pointer, "" for none."""
    data = storage.read_pointer(storage.join(data_uri, LATEST))
    return "" if data is None else sha256_hex(data)


def _name(settings: Settings) -> str:
    return sha256_hex(canonical_json({"settings": settings.digest, "input": settings.own.input}))[:16]


def _list_corpus(own: RetrainConfig, name: str, live: Pointer | None, lease: Lease) -> Corpus:
    to = folder_of(own.model, name, LISTED)
    words = ["list", *(part for pattern in own.input for part in ("--input", pattern)), "--output", own.data]
    words += ["--to", to, *own.pipeline_flags]
    if not own.only_new:
        run_pipeline(words, lease.fds, own.quiet)
        return corpora.all_of(require_files(to))
    known, seen = _load_known(own, live), as_seen(load_files(folder_of(own.model, SEEN_FILES)))
    save_files(folder_of(own.model, name, KNOWN), pa.concat_tables([seen, known]))
    found = run_pipeline([*words, "--known", folder_of(own.model, name, KNOWN)], lease.fds, own.quiet)
    listed = require_files(to)
    merged = corpora.merge_seen(seen, listed, known)
    if not merged.equals(seen):
        save_files(folder_of(own.model, SEEN_FILES), merged)
    corpus = corpora.new_of(listed, known, seen, own.changed, found.twice)
    _say(corpus.notes)
    return corpus


def _say(notes: Sequence[str]) -> None:
    """Print a line about each file, but no flood of them."""
    for line in notes[:MOST_NOTES]:
        print(f"note: {line}", file=sys.stderr)
    if len(notes) > MOST_NOTES:
        print(f"note: {len(notes) - MOST_NOTES:,} more files like these", file=sys.stderr)


def _load_known(own: RetrainConfig, live: Pointer | None) -> pa.Table:
    if live is None:
        return as_seen(None)
    if (known := known_files(own.model, live.version)) is None:
        raise UserError(
            f"--only-new: found no list of the files that version {live.version} in {storage.redact(own.model)} was "
            "trained on, expected one that retrain made; retrain once without it"
        )
    return as_seen(known)
