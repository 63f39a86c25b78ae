"""Reading a whole Parquet file that came from elsewhere: its columns, its checksums, and how much it may grow."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.schema import FormatError, require_schema

#: Decoded bytes for each stored one, beyond FREE_BYTES: a few bytes that decode to a terabyte are not a table of ours.
LARGEST_RATIO, FREE_BYTES = 1000, 64 << 20
_BATCH_ROWS = 1 << 16


def encode_table(table: pa.Table, **options: object) -> pa.Buffer:
    """Encode a table as a Parquet file; ``options`` are those of write_table, besides page checksums and zstd."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True, **options)
    return sink.getvalue()


def read_table(data: bytes | pa.Buffer, schema: pa.Schema, path: str) -> pa.Table:
    """Decode the bytes of a Parquet file; ``path`` names them in errors."""
    batches = list(read_batches(data, schema, path))
    return pa.Table.from_batches(batches, batches[0].schema if batches else schema)


def read_batches(data: bytes | pa.Buffer, schema: pa.Schema, path: str) -> Iterator[pa.RecordBatch]:
    """Decode the bytes of a Parquet file piece by piece; ``path`` names them in errors.

    Raises:
        FormatError: no Parquet, other columns, a failed page checksum, text that is not UTF-8, a decompression bomb.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        require_schema(file.schema_arrow, schema, path)
        decoded, stored = 0, memoryview(data).nbytes
        # Without threads: of those one might outlive the process.
        for batch in file.iter_batches(_BATCH_ROWS, use_threads=False):
            decoded += batch.nbytes
            require_ratio(decoded, stored, path)
            batch.validate(full=True)
            yield batch
    except (pa.ArrowException, OSError, UnicodeDecodeError, ValueError) as error:
        raise FormatError(f"{path}: found an unreadable Parquet file ({first_line(error)})") from None


def require_ratio(decoded: int, stored: int, path: str) -> None:
    """Refuse a decompression bomb.

    Raises:
        FormatError: it is one.
    """
    if decoded > FREE_BYTES + LARGEST_RATIO * stored:
        raise FormatError(
            f"{path}: found {decoded:,} bytes in {stored:,} stored ones, expected at most {LARGEST_RATIO} times as many"
        )


def first_line(error: BaseException) -> str:
    """Say on one line what a library says on several."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
