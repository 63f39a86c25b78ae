"""The list of a run's input files, as a file: a million of them go through neither the job graph nor a shuffle."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.tables import encode_table
from pipeline.errors import InputError
from pipeline.inputs.discover import InputFile
from pipeline.inputs.text_digests import Text
from pipeline.storage import storage
from pipeline.storage.retry import StoreError

LISTING = "listing.parquet"

#: Equal shares in which the list is read, each by one worker: so many elements the job starts from.
SHARES = 64

_SCHEMA = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("modified", pa.timestamp("us", "UTC")),
    ]
)
_TEXT_FIELDS = (
    pa.field("place", pa.string()), pa.field("digest", pa.string()), pa.field("text_bytes", pa.int64()),
)  # fmt: skip
_COLUMNS = ["uri", "name", "bytes"]
_GROUP_ROWS = 1 << 13


def save_texts(files: Sequence[InputFile], places: Sequence[str], texts: Sequence[Text]) -> pa.Buffer:
    """Encode a list for retraining: besides the columns of a listing, where each file really is, and its text."""
    columns = [[getattr(file, name) for file in files] for name in _SCHEMA.names]
    columns += [list(places), [text.digest for text in texts], [text.bytes for text in texts]]
    return encode_table(pa.table(columns, schema=pa.schema([*_SCHEMA, *_TEXT_FIELDS])))


def save_listing(files: Iterable[InputFile], sink: IO[bytes] | pa.NativeFile) -> tuple[int, int]:
    """Write the files, which come by ordinal, a row each; return how many there are, and their stored bytes."""
    source, rows, size = iter(files), 0, 0
    with pq.ParquetWriter(sink, _SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        while some := list(itertools.islice(source, _GROUP_ROWS)):
            columns = [[getattr(file, name) for file in some] for name in _SCHEMA.names]
            writer.write_table(pa.table(columns, schema=_SCHEMA))
            rows, size = rows + len(some), size + sum(file.bytes for file in some)
    return rows, size


def read_share(uri: str, share: int, shares: int = SHARES) -> Iterator[InputFile]:
    """Read one of equal shares of a listing, and no more of the file than it takes.

    Raises:
        InputError: the listing is missing or damaged.
    """
    with _opened(uri) as file:
        rows = file.metadata.num_rows
        first, end = rows * share // shares, rows * (share + 1) // shares
        for start in range(first - first % _GROUP_ROWS, end, _GROUP_ROWS):
            begin, stop = max(first, start), min(end, start + _GROUP_ROWS)
            group = file.read_row_group(start // _GROUP_ROWS, columns=_COLUMNS, use_threads=False)
            yield from files_of(group.slice(begin - start, stop - begin), begin)


def read_listing(uri: str) -> pa.Table:
    """Read a whole listing: uri, name and bytes by ordinal.

    Raises:
        InputError: the listing is missing or damaged.
    """
    with _opened(uri) as file:
        return file.read(columns=_COLUMNS, use_threads=False)


def read_table(uri: str) -> pa.Table:
    """Read any table of files.

    Raises:
        InputError: it is missing or damaged.
    """
    with _opened(uri) as file:
        return file.read(use_threads=False)


def load_listing(uri: str) -> Iterator[InputFile]:
    """Read a list of files that another command made (--input-list), with their times.

    Raises:
        InputError: it is missing, damaged or empty, or has other columns.
    """
    path = storage.redact(uri)
    with _opened(uri) as file:
        if not file.schema_arrow.remove_metadata().equals(_SCHEMA):
            raise InputError(f"--input-list {path}: found columns {file.schema_arrow.names}, expected {_SCHEMA.names}")
        if not file.metadata.num_rows:
            raise InputError(f"--input-list {path}: no file is in it")
        first = 0
        for batch in file.iter_batches(_GROUP_ROWS, use_threads=False):
            for ordinal, row in enumerate(batch.to_pylist(), first):
                yield InputFile(ordinal, **row)
            first += len(batch)


def files_of(table: pa.Table, first: int = 0) -> Iterator[InputFile]:
    """Turn rows of a listing into files, the first of which has the ordinal ``first``."""
    columns = [table[name].to_pylist() for name in _COLUMNS]
    for ordinal, (uri, name, size) in enumerate(zip(*columns, strict=True), first):
        yield InputFile(ordinal, uri, name, size)


@contextlib.contextmanager
def _opened(uri: str) -> Iterator[pq.ParquetFile]:
    try:
        with storage.open_binary(uri) as stream:
            yield pq.ParquetFile(stream, page_checksum_verification=True)
    except StoreError as error:
        raise InputError(str(error)) from None
    except (OSError, pa.ArrowException) as error:
        detail = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(f"{storage.redact(uri)}: found {detail}, expected the list of the run's input files") from None
