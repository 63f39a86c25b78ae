"""Write a page about a model, one HTML file with plots: its words, its scores, how it was trained, what changed.

The dataset and the model before are looked for where the model says, and left out where they are no longer there; one
that a flag names must be there.
"""

# Other commands that write a page import this: the libraries that pages are made with come with reports.page alone.

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence

from pipeline.common.outputs import emit_result, refuse_inputs, refuse_owned, write_output
from pipeline.common.page.document import missing_extra
from pipeline.dataset.manifest import OWN
from pipeline.storage import storage
from trainer.errors import UserError
from trainer.evaluation.eval_sets import read_evalsets
from trainer.evaluation.scores import Score
from trainer.models import store

#: Words whose neighbours a page may show.
MOST_WORDS = 100


def require_page(path: str, flag: str, *, model: str, data: str = "", reads: Sequence[tuple[str, str]] = ()) -> None:
    """Refuse a place where no page can be: better now than when all is done.

    Raises:
        UserError: there is a folder, or a library that pages are made with is missing.
        OutputError: it is one of what the command reads; see `refuse_place`.
    """
    if missing := missing_extra():
        raise UserError(f"{flag}: {missing}")
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
    from trainer.reports.page import make_report

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
