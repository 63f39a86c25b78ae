"""What there is to read: the corpus as the pipeline lists it, and which of its files the live model has not read."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.schema import FormatError
from pipeline.dataset.tables import encode_table
from pipeline.storage import storage
from trainer.errors import UserError

COLUMNS = ["uri", "name", "bytes", "modified"]
UNCHANGED, SAME_TEXT, SAME_FILE, EMPTY = "unchanged", "same_text", "same_file", "empty"
#: Why files are not read, in words.
PASSED = {UNCHANGED: "unchanged", SAME_TEXT: "with text that is known", SAME_FILE: "matched twice", EMPTY: "empty"}

#: A list of files whose texts were looked at.
SEEN = pa.schema(
    [
        ("uri", pa.string()), ("bytes", pa.int64()), ("modified", pa.timestamp("us", "UTC")), ("digest", pa.string()),
        ("text_bytes", pa.int64()),
    ]
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Corpus:
    """Input files.

    Attributes:
        listed: all of them: uri, name, bytes (stored), modified (UTC).
        read: those to read.
        passed: how many are not, by reason.
        notes: a line about each file that is worth one.
    """

    listed: pa.Table
    read: pa.Table
    passed: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

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


def new_of(
    listed: pa.Table, known: pa.Table, seen: pa.Table, changed: str, twice: Sequence[Sequence[str]] = ()
) -> Corpus:
    """Read files whose text is not known.

    A file is unchanged if it has the place, size and time that it had. Any other is looked at: text that is known, or
    that another new file has, is not read again. A known name with other text is a changed file.

    Args:
        listed: the corpus, with `place`, `digest` and `text_bytes`; a digest is null where the text is surely new.
        known: `uri` (a place), `bytes`, `modified`, `digest` of the files that the live model was trained on.
        seen: the same of files that earlier nights looked at.
        changed: what to do about changed files: "fail" or "new".
        twice: files that were matched again, not listed: URI and place.

    Raises:
        UserError: a file was changed, and that is not allowed.
    """
    names = {row["digest"]: row["uri"] for row in known.to_pylist() if row["digest"]}
    rows = known.to_pylist() + [row for row in seen.to_pylist() if row["digest"] in names]
    stamps = {(row["uri"], row["bytes"], row["modified"]) for row in rows}
    places = {row["uri"] for row in rows}
    fresh, read, notes, other = dict[str, str](), list[bool](), list[str](), list[str]()
    passed = Counter(dict.fromkeys(PASSED, 0))
    for row in listed.to_pylist():
        reason, digest, uri = "", row["digest"], storage.redact(row["uri"])
        if row["modified"] is not None and (row["place"], row["bytes"], row["modified"]) in stamps:
            reason = UNCHANGED
        elif digest == "":
            reason = EMPTY
        elif digest in names or digest in fresh:
            reason = SAME_TEXT
            whose = f"{names[digest]}, which was read before" if digest in names else f"{fresh[digest]}, also new"
            notes.append(f"{uri}: not read, for it has the text of {storage.redact(whose)}")
        else:
            if row["place"] in places:
                other.append(uri)
            if digest is not None:
                fresh[digest] = row["uri"]
        passed[reason] += 1
        read.append(not reason)
    if other and changed == "fail":
        raise UserError(
            f"{other[0]}: changed since the live model read it ({len(other)} such file"
            f"{'s' * (len(other) > 1)}), and what was counted cannot be "
            "taken back; --changed new reads it again, as new text; without --only-new all is read again"
        )
    notes += [f"{uri}: changed since the live model read it, read again as new text" for uri in other]
    notes += [
        f"{storage.redact(uri)}: not read again, for it is the file {storage.redact(place)}" for uri, place in twice
    ]
    del passed[""]
    passed[SAME_FILE] += len(twice)
    return Corpus(listed, listed.select(COLUMNS).filter(pa.array(read, pa.bool_())), dict(passed), tuple(notes))


def describe_passed(passed: Mapping[str, int]) -> str:
    """Say in words how many files are not read, and why."""
    total = sum(passed.values())
    return f"{total:,} not: {', '.join(f'{passed.get(name, 0):,} {text}' for name, text in PASSED.items())}"


def merge_seen(seen: pa.Table, listed: pa.Table, known: pa.Table) -> pa.Table:
    """Remember the texts of files that are listed, and the names under which known texts were seen."""
    table = listed.select(["place", "bytes", "modified", "digest", "text_bytes"]).rename_columns(SEEN.names).cast(SEEN)
    found = {row["digest"] for row in known.to_pylist() if row["digest"]}
    rows = [row for row in seen.to_pylist() if row["digest"] in found] + table.to_pylist()
    unique = {(row["uri"], row["bytes"], row["modified"]): row for row in rows if row["digest"] is not None}
    return pa.Table.from_pylist(list(unique.values()), schema=SEEN)


def as_seen(table: pa.Table | None) -> pa.Table:
    """Return a list of files with the columns of SEEN, each named by its place; none for None."""
    if table is None:
        return SEEN.empty_table()
    columns = {field.name: table[field.name] for field in SEEN if field.name in table.column_names}
    columns["uri"] = pa.array([storage.absolute(uri) for uri in table["uri"].to_pylist()], pa.string())
    missing = {field.name: pa.nulls(len(table), field.type) for field in SEEN if field.name not in columns}
    return pa.table({**columns, **missing}).select(SEEN.names).cast(SEEN)


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


def require_files(uri: str) -> pa.Table:
    """Read a table of files that this night has written."""
    table = load_files(uri)
    assert table is not None
    return table


def save_files(uri: str, table: pa.Table) -> bytes:
    """Write a table of files, as --input-list reads it; return the bytes."""
    data = bytes(encode_table(table))
    storage.write_bytes(uri, data)
    return data
