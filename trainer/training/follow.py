"""Moving to the run that was published last, between two epochs (--follow-latest).

Shapes: V rows of the old vocabulary, D dimensions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.dataset.manifest import LATEST, parse_pointer
from pipeline.dataset.reader import open_dataset
from pipeline.dataset.vocabulary import Vocabulary
from pipeline.storage import storage
from trainer.data.order import pairs_to_come
from trainer.engines.base import Engine
from trainer.engines.choose import make_engine
from trainer.engines.init import initial_tables
from trainer.models.tensors import Array, copy_arrays, fill_arrays
from trainer.progress.meter import warn
from trainer.training.loop import Loop


def follow_latest(loop: Loop, epoch: int) -> None:
    """Let a loop read the newest run from an epoch on, if that run knows every word of the present one.

    Every process must call it. Where the run cannot be moved to, training stays with the old one and says why.
    """
    run = loop.processes.broadcast_text(_latest_run(loop.config.data) if loop.processes.rank == 0 else "")
    if run == loop.dataset.run_id:
        return
    dataset = open_dataset(loop.config.data, run)
    if dataset.dataset_id == loop.dataset.dataset_id:
        return
    vocabulary = dataset.vocabulary()
    rows_V = vocabulary.encode(loop.vocabulary.tokens)
    missing = np.flatnonzero(rows_V < 0)
    reason = ""
    if missing.size:
        first = loop.vocabulary.token(int(missing[0]))
        reason = (
            f"found no row for {missing.size} of {len(rows_V)} words (the first is {first!r}), expected all of them"
        )
    elif pairs_to_come(dataset, epoch, loop.config.epochs) == 0:
        reason = "it has no pairs"
    if reason:
        if loop.processes.rank == 0:
            warn(f"--follow-latest: stays with run {loop.dataset.run_id}: run {run}: {reason}")
        return
    loop.engine = carry_rows(loop, vocabulary, rows_V)
    loop.move(dataset, vocabulary, epoch)


def carry_rows(loop: Loop, vocabulary: Vocabulary, rows_V: npt.NDArray[np.int32]) -> Engine:
    """An engine for another vocabulary: known words keep their rows, others begin as at a training's start."""
    config, old = loop.config, loop.vocabulary
    if np.array_equal(rows_V, np.arange(len(vocabulary))) and np.array_equal(vocabulary.counts, old.counts):
        return loop.engine
    tables = initial_tables(config.init, len(vocabulary), config.dim, config.seed)
    new: dict[str, Array] = dict(zip(("input", "output"), (table_VD.copy() for table_VD in tables), strict=True))
    engine = make_engine(config, tables, vocabulary.counts)
    for name, array in copy_arrays(loop.engine.live()).items():
        if array.ndim == 2:
            new.setdefault(name, np.zeros((len(vocabulary), array.shape[1]), array.dtype))[rows_V] = array
        else:
            new[name] = array
    fill_arrays(engine.live(), new)
    return engine


def _latest_run(uri: str) -> str:
    path = storage.join(uri, LATEST)
    return parse_pointer(storage.read_bytes(path), storage.redact(path)).run
