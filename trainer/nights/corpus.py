"""What there is to read: the corpus as the pipeline lists it, and which of its files the live model has not read."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset import storage
from pipeline.dataset.schema import FormatError
from trainer.errors import UserError

COLUMNS = ("uri", "name", "bytes", "modified")


@dataclass(frozen=True, eq=False)
class Corpus:
    """Input files.

    Attributes:
        listed: all of them: uri, name, bytes (stored), modified (UTC).
        read: those to read.
    """

    listed: pa.Table
    read: pa.Table

    @property
    def digest(self) -> str:
        """SHA-256 over what is to be read: URI, size and time of each file."""
        sha = hashlib.sha256()
        for row in self.read.select(["uri", "bytes", "modified"]).to_pylist():
            modified = row["modified"].isoformat() if row["modified"] else ""
            sha.update(f"{row['uri']}\0{row['bytes']}\0{modified}\n".encode())
        return sha.hexdigest()


def all_of(listed: pa.Table) -> Corpus:
    """Read everything."""
    return Corpus(listed, listed)


def new_of(listed: pa.Table, known: pa.Table | None, changed: str) -> Corpus:
    """Read files that are not known, or were changed if ``changed`` is "new".

    A file is the same if it has the URI, size and time that it had. Known files that are gone do not matter.

    Args:
        listed: the corpus.
        known: `uri`, `bytes`, `modified` of the files that the live model was trained on; None for no live model.
        changed: "fail" or "new".

    Raises:
        UserError: a file was changed, and that is not allowed.
    """
    if known is None:
        return all_of(listed)
    seen = {row["uri"]: (row["bytes"], row["modified"]) for row in known.to_pylist()}
    rows = listed.select(["uri", "bytes", "modified"]).to_pylist()
    fresh = [row["uri"] not in seen for row in rows]
    other = [row["uri"] in seen and seen[row["uri"]] != (row["bytes"], row["modified"]) for row in rows]
    if any(other) and changed == "fail":
        first = rows[other.index(True)]["uri"]
        raise UserError(
            f"{first}: found that it was changed since the live model read it ({sum(other)} such file"
            f"{'s' * (sum(other) > 1)}), expected --only-new files to stay as they are; --changed new reads it again"
        )
    return Corpus(listed, listed.filter(pa.array([a or b for a, b in zip(fresh, other, strict=True)], pa.bool_())))


def load_files(uri: str) -> pa.Table | None:
    """Read a table of files; None where there is none.

    Raises:
        FormatError: it is damaged.
    """
    try:
        data = storage.read_bytes(uri)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return pq.read_table(io.BytesIO(data), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        detail = " ".join(str(error).split())
        raise FormatError(f"{storage.redact(uri)}: found no list of files ({detail}), expected one") from None


def save_files(uri: str, table: pa.Table) -> bytes:
    """Write a table of files, as --input-list reads it; return the bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    data: bytes = sink.getvalue().to_pybytes()
    storage.write_bytes(uri, data)
    return data
