"""Write a model's vectors for other programs, most frequent token first.

word2vec, word2vec-bin: the text and binary files that gensim and word2vec.c read. parquet: columns token, count,
vector. safetensors: tensors vectors, counts, token_bytes and token_offsets. fasttext: the .bin of fastText and gensim,
with n-grams where the model has subwords. projector: a folder with vectors.tsv and metadata.tsv for the Embedding
Projector. feast: Parquet with token, event_timestamp, vector, count, version; in a folder, one file a version, so that
a feature store sees at any time the vectors of that time.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
from collections.abc import Callable
from typing import IO

from pipeline.common.outputs import emit_result, open_output, refuse_owned
from pipeline.storage import storage
from trainer.errors import UserError
from trainer.exporting import formats
from trainer.exporting.fasttext import write_fasttext
from trainer.models.mapped import map_model
from trainer.models.store import OWN, Model, read_run
from trainer.vectors.search import add_model_arguments, frequency_order, pick_table

_FILE_WRITERS: dict[str, Callable[[formats.Export, IO[bytes]], None]] = {
    "word2vec": formats.write_word2vec,
    "word2vec-bin": formats.write_word2vec_bin,
    "parquet": formats.write_parquet,
    "safetensors": formats.write_safetensors,
}
FORMATS = (*_FILE_WRITERS, "fasttext", "projector", "feast")


def export_model(
    model: Model, form: str, to: str, vectors: str = "input", timestamp: datetime.datetime | None = None
) -> str:
    """Write the vectors to ``to``, a file's path or URI, for `projector` a folder's; return where they are.

    A file that was there is replaced: a reader sees the whole new file or what was there before; pipes and devices are
    written to; see `pipeline.common.outputs`. For `feast`, ``to`` may be a
    folder as well, one that is there or a name that ends in "/": then it gets a file of this version and time.

    Args:
        model: what to write; `feast` needs a loaded model, whose info names its version.
        form: one of FORMATS.
        to: where to.
        vectors: which table, or their mean.
        timestamp: when the vectors came to be, with a time zone; `feast` needs it.

    Raises:
        FormatError: a token that the format cannot hold.
        UserError: an unknown format or table, one that the format cannot have, or a folder where a file is to be, or
            the other way round.
    """
    vocabulary = model.vocabulary
    order_V = frequency_order(vocabulary.counts)
    export = formats.Export(pick_table(model, vectors), vocabulary.column, vocabulary.counts, order_V)
    try:
        if form == "projector":
            names = [storage.join(to, name) for name in formats.PROJECTOR]
            with open_output(names[0]) as vectors_file, open_output(names[1]) as metadata:
                formats.write_projector(export, vectors_file, metadata)
        elif form == "feast":
            if timestamp is None:
                raise UserError("--timestamp: found none, expected the time for --format feast")
            version = str(model.info["version"])
            to = _feast_file(to, timestamp, version)
            with open_output(to) as stream:
                formats.write_feast(export, stream, timestamp, version)
        elif form == "fasttext":
            with open_output(to) as stream:
                write_fasttext(export, model, vectors, stream)
        elif form in _FILE_WRITERS:
            with open_output(to) as stream:
                _FILE_WRITERS[form](export, stream)
        else:
            raise UserError(f"--format: found {form!r}, expected one of {', '.join(FORMATS)}")
    except IsADirectoryError:
        raise UserError(f"--to: found a folder at {to}, expected the name of a file") from None
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"--to: found a file at {error.filename}, expected a folder") from None
    return to


def parse_timestamp(text: str) -> datetime.datetime:
    """Read an ISO 8601 time, as UTC; one without a time zone is UTC already."""
    try:
        # Python 3.10 does not know "Z".
        time = datetime.datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
        return (time if time.tzinfo else time.replace(tzinfo=datetime.timezone.utc)).astimezone(datetime.timezone.utc)
    except ValueError:
        raise UserError(f"--timestamp: found {text!r}, expected an ISO 8601 time like 2025-01-31T04:05:06Z") from None
    except OverflowError:
        raise UserError(f"--timestamp: found {text!r}, expected a time from year 1 to 9999 in UTC") from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    parser.add_argument("--format", required=True, choices=FORMATS, help="what to write")
    parser.add_argument(
        "--to", required=True, metavar="PATH",
        help="the file to write; for projector a folder; for feast either: a folder gets a file of each version",
    )  # fmt: skip
    parser.add_argument("--version", metavar="ID", help="a version of the model (the current one)")
    parser.add_argument(
        "--timestamp", metavar="TIME", help="event_timestamp of --format feast, ISO 8601 (when the model was published)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the file and say so."""
    if args.timestamp is not None and args.format != "feast":
        raise UserError(f"--timestamp: found with --format {args.format}, expected only with --format feast")
    timestamp = parse_timestamp(args.timestamp) if args.timestamp is not None else None
    _refuse_model(args.to, args.format, args.model)
    model = map_model(args.model, args.version)
    if args.format == "feast" and timestamp is None:
        timestamp = parse_timestamp(str(read_run(args.model, model.info["version"]).get("published_at")))
    to = export_model(model, args.format, args.to, args.vectors, timestamp)
    tokens, dim = model.input_VD.shape
    result = {"to": to, "format": args.format, "vectors": args.vectors, "tokens": tokens, "dim": dim}
    if timestamp is not None:
        result |= {"version": model.info["version"], "timestamp": timestamp.isoformat()}
    done = f"wrote {tokens:,} tokens, {dim} dimensions, {args.vectors} vectors, as {args.format} to {_shown(to)}"
    emit_result(json.dumps(result) if args.json else done, done, to)
    return 0


def _refuse_model(to: str, form: str, model_uri: str) -> None:
    for place in [storage.join(to, name) for name in formats.PROJECTOR] if form == "projector" else [to]:
        refuse_owned("--to", place, "--model", model_uri, OWN)


def _feast_file(to: str, timestamp: datetime.datetime, version: str) -> str:
    """Return ``to``, or where it is a folder, a file of this version in it: the names' order is that of the times."""
    if not to.endswith("/") and not (storage.is_local(to) and os.path.isdir(storage.local_path(to))):
        return to
    time = timestamp.astimezone(datetime.timezone.utc)  # %Y has no zeros before the year 1000
    return storage.join(to, f"{time.year:04}{time:%m%dT%H%M%SZ}-{version}.parquet")


def _shown(uri: str) -> str:
    return os.path.normpath(storage.local_path(uri)) if storage.is_local(uri) else storage.redact(uri)
