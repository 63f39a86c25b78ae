"""--init-from: a model's folder, or a file, which is known by its first bytes."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from pipeline.dataset.schema import FormatError
from pipeline.dataset.vocabulary import make_vocabulary
from pipeline.storage import storage
from trainer.errors import UserError
from trainer.importing.fasttext import START, read_fasttext
from trainer.importing.scan import scanned
from trainer.importing.word2vec import read_word2vec
from trainer.models.pointer import LATEST
from trainer.models.store import TABLES, FileEntry, Model, load_model
from trainer.models.tensors import is_finite


def load_start(uri: str, version: str = "") -> Model:
    """Read what a training starts from.

    Of a file, `info` has its size and SHA-256 alone, as those of a model's tables; the output table has no rows where
    the file has none.

    Args:
        uri: a model's folder; or a file, maybe in gzip: word2vec's, text or binary, or fastText's .bin.
        version: of the folder; by default its live one.

    Raises:
        FormatError: it is neither, or damaged.
        UserError: a version of a file.
    """
    if not _is_file(uri):
        return load_model(uri, version or None)
    if version:
        raise UserError(f"--init-version: found {version} of a file, {storage.redact(uri)}, expected a model's folder")
    with scanned(uri) as (scan, counted):
        if scan.peek(len(START)) == START:
            model = read_fasttext(scan)
        else:
            words, input_VD = read_word2vec(scan)
            vocabulary = make_vocabulary(words, [0] * len(words))
            model = Model(input_VD, np.empty((0, input_VD.shape[1]), np.float32), vocabulary, {})
    tables = [model.input_VD, model.output_VD, *([model.subwords.rows_RD] if model.subwords else [])]
    if not all(map(is_finite, tables)):
        raise FormatError(f"{storage.redact(uri)}: found NaN or Inf, expected finite numbers")
    entry = FileEntry(bytes=counted.size, sha256=counted.sha256.hexdigest())
    return replace(model, info={"files": {TABLES: entry}})


def _is_file(uri: str) -> bool:
    if storage.is_local(uri):
        return os.path.isfile(storage.local_path(uri))
    return not storage.exists(storage.join(uri, LATEST)) and storage.exists(uri)
