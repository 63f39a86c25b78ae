"""gensim's `save_word2vec_format`: word2vec's text and binary files, with gensim's options."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.common.outputs import open_output
from pipeline.dataset.schema import FormatError
from pipeline.storage import storage
from trainer.exporting.formats import WHITE_SPACE, Export, join_bytes, join_numbers, write_strings


def write_vectors(export: Export, uri: str, first_line: str, prefix: str, binary: bool, append: bool) -> None:
    """Write tokens and their vectors.

    Raises:
        FormatError: a token is empty or has white space in it, so that no reader of the format would find it.
    """
    _require_plain_tokens(export)
    with _opened(uri, append) as stream:
        stream.write(first_line.encode())
        for tokens, _, vectors_RD in export.blocks():
            named = pc.binary_join_element_wise(prefix, tokens, "")
            if binary:
                write_strings(
                    pc.binary_join_element_wise(named.cast(pa.binary()), join_bytes(vectors_RD), b" "), stream, ""
                )
            else:
                write_strings(pc.binary_join_element_wise(named, join_numbers(vectors_RD, " "), " "), stream)


def write_vocabulary(export: Export, uri: str, prefix: str, append: bool) -> None:
    """Write lines of a token and its count."""
    _require_plain_tokens(export)
    with _opened(uri, append) as stream:
        for tokens, counts_R, _ in export.blocks():
            named = pc.binary_join_element_wise(prefix, tokens, "")
            write_strings(pc.binary_join_element_wise(named, pa.array(counts_R).cast(pa.string()), " "), stream)


def _require_plain_tokens(export: Export) -> None:
    row = pc.index(pc.match_substring_regex(export.column, rf"^$|{WHITE_SPACE}"), True).as_py()
    if row >= 0:
        token = export.column[row].as_py()
        raise FormatError(f"found the token {token!r}, expected no white space for word2vec's format")


@contextlib.contextmanager
def _opened(uri: str, append: bool) -> Iterator[IO[bytes]]:
    """Open a file to add to, or a new one that takes the place of ``uri`` at the end."""
    if append:
        if not storage.is_local(uri):
            raise ValueError(f"{storage.redact(uri)}: found append=True, expected it with local files only")
        with open(storage.local_path(uri), "ab") as stream:
            yield stream
        return
    with open_output(uri) as stream:
        yield stream
