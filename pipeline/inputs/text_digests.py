"""Digests of input files' texts, to find a text that is known under another name or compression.

A digest is that of a dataset's inputs.parquet: over the decompressed text, whatever the file is called. A file is
opened only where its digest can matter: not if it is known by place, size and time, and not if it is plain text of a
length that no other text has.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa
import xxhash

from pipeline.config import Config
from pipeline.inputs.chunks import BOM
from pipeline.inputs.decompress import LONGEST_MAGIC, format_of
from pipeline.inputs.discover import InputFile, unreadable
from pipeline.inputs.read import read_chunks
from pipeline.inputs.splits import Part
from pipeline.storage import storage
from pipeline.text.encodings import UTF_8

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_MOST_THREADS = 16


class Text(NamedTuple):
    """Digest and length in bytes of a file's text; None for what is not known."""

    digest: str | None
    bytes: int | None


#: A file's place, stored bytes, and time.
Stamp = tuple[str, int, datetime | None]


def load_known(table: pa.Table) -> dict[Stamp, Text]:
    """Index a table of files that were read before: uri (a place), bytes, modified, digest, text_bytes."""
    rows = table.select(["uri", "bytes", "modified", "digest", "text_bytes"]).to_pylist()
    return {(row["uri"], row["bytes"], row["modified"]): Text(row["digest"], row["text_bytes"]) for row in rows}


def find_texts(
    files: Sequence[InputFile], places: Sequence[str], known: Mapping[Stamp, Text], config: Config
) -> list[Text]:
    """Return the texts of files, as far as it takes to find those that are equal to known ones or to each other.

    ``places`` says where each is when all links are followed.

    Raises:
        InputError: a file cannot be read.
    """
    stamps = [(place, file.bytes, file.modified) for place, file in zip(places, files, strict=True)]
    found = {row: known[stamp] for row, stamp in enumerate(stamps) if stamp in known and stamp[2] is not None}
    fresh = [row for row in range(len(files)) if row not in found]
    lengths = {text.bytes for text in known.values()}
    threads = min(_MOST_THREADS, config.threads or os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        plain = dict(zip(fresh, pool.map(lambda row: _plain_length(files[row], config), fresh), strict=True))
        first = [row for row in fresh if plain[row] is None or None in lengths]
        found.update(zip(first, pool.map(lambda row: digest_text(files[row], config), first), strict=True))
        lengths |= {found[row].bytes for row in first}
        same = Counter(plain[row] for row in fresh)
        second = [row for row in fresh if row not in found and (plain[row] in lengths or same[plain[row]] > 1)]
        found.update(zip(second, pool.map(lambda row: digest_text(files[row], config), second), strict=True))
    return [found[row] if row in found else Text(None, plain[row]) for row in range(len(files))]


def digest_text(file: InputFile, config: Config) -> Text:
    """Read a whole file; "" is the digest of no text.

    Raises:
        InputError: it cannot be read.
    """
    digests, size = list[str](), 0
    for chunk in read_chunks(Part(file), config):
        digests.append(xxhash.xxh3_128_hexdigest(chunk.data))
        size += len(chunk.data)
    return Text(xxhash.xxh3_128_hexdigest("".join(digests).encode()) if digests else "", size)


def _plain_length(file: InputFile, config: Config) -> int | None:
    """Return the length of a file's text where its stored size tells it."""
    if config.input_format != "text" or config.encoding != UTF_8:
        return None
    try:
        head = storage.read_range(file.uri, 0, max(LONGEST_MAGIC, len(BOM)))
    except OSError as error:
        raise unreadable(file, error) from None
    if not head or format_of(head) or head.startswith(_UTF_16):
        return None
    return file.bytes - (len(BOM) if head.startswith(BOM) else 0)
