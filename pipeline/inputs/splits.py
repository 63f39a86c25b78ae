"""Cutting large files into parts, which several workers read at once, so that each chunk stays what it is.

Plain text is cut at any byte. Records are cut between two of them: Parquet at row groups, JSON lines at line feeds.
Chunks are cut from the text of the records, whose size nothing but a reading tells: each span of records is measured
first, and the sums say which chunks begin in it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from pipeline.config import Config
from pipeline.inputs.chunks import CHUNK_BYTES, Chunk, chunk_after
from pipeline.inputs.content import HEAD_BYTES, has_old_lines, require_encoding, require_parquet, require_text
from pipeline.inputs.decompress import Limits, format_of
from pipeline.inputs.discover import InputFile, unreadable
from pipeline.inputs.parquet_rows import column_bytes, count_rows, open_parquet
from pipeline.inputs.records import record_rules
from pipeline.storage import storage
from pipeline.text.dead_letters import SetAside
from pipeline.text.encodings import UTF_8

#: Larger files are read in parts of about this many bytes, each by any worker, where their content can be split.
PART_BYTES = 64 << 20

#: What is batched together is read in one go, and opening a file costs about as much as reading so many bytes.
BATCH_BYTES, OPENING_BYTES = 8 << 20, 64 << 10


class ReadText(NamedTuple):
    """Text of a file that was read already: chunks, and what was set aside of the records between them."""

    chunks: tuple[Chunk, ...]
    aside: SetAside


class Span(NamedTuple):
    """Consecutive records of a file, which can be read by themselves.

    Attributes:
        begin: first row group of Parquet; of JSON lines, the byte at or after which the first line begins.
        end: where the next span begins; None for all to the file's end.
        bytes: stored ones, about.
        start: bytes of text in the file before it; 0 until all spans of the file are measured.
        size: bytes of its own text; None until it is measured.
    """

    begin: int
    end: int | None
    bytes: int
    start: int = 0
    size: int | None = None


class Part(NamedTuple):
    """Chunks of one file that are read together.

    Attributes:
        file: the file.
        first: number of the first chunk.
        end: number of the first chunk that is another part's; None for all to the file's end.
        text: what was read, where another worker did; None where it is to be read.
        span: the records in which the chunks begin; None where they are found without.
    """

    file: InputFile
    first: int = 0
    end: int | None = None
    text: ReadText | None = None
    span: Span | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the file, still to be read."""
        return self.first == 0 and self.end is None and self.text is None and self.span is None

    @property
    def bytes(self) -> int:
        """Stored bytes, about."""
        if self.span is not None:
            return self.span.bytes
        end = self.file.bytes if self.end is None else min(self.end * CHUNK_BYTES, self.file.bytes)
        return max(0, end - self.first * CHUNK_BYTES)


def split_text(file: InputFile, part_bytes: int = PART_BYTES) -> Iterator[Part]:
    """Cut a large file of UTF-8 lines into parts, if its content, not its name, is plain text.

    Raises:
        InputError: the file cannot be read, or is something else than text.
    """
    step = max(1, part_bytes // CHUNK_BYTES)
    if file.bytes <= step * CHUNK_BYTES or not _is_plain(file, "text"):
        yield Part(file)
        return
    firsts = range(0, -(-file.bytes // CHUNK_BYTES), step)
    for first in firsts[:-1]:
        yield Part(file, first, first + step)
    yield Part(file, firsts[-1])  # whatever the size listed: to the end that the file has when it is read


def split_records(file: InputFile, config: Config, part_bytes: int = PART_BYTES) -> list[Part]:
    """Cut a large file of records into spans that are still to be measured; one Part of all where it cannot be cut.

    Cut by the file alone, never by who reads it. Not cut: JSON lines that are compressed or in another encoding than
    UTF-8, and within a row group.

    Raises:
        InputError: the file cannot be read, or is something else than the records that it should hold.
    """
    if file.bytes <= part_bytes:
        return [Part(file)]
    if config.input_format == "parquet":
        spans = _cut_groups(file, config, part_bytes)
    elif config.encoding == UTF_8 and _is_plain(file, "jsonl"):
        spans = [Span(begin, begin + part_bytes, part_bytes) for begin in range(0, file.bytes, part_bytes)]
        last = spans[-1]
        spans[-1] = last._replace(end=None, bytes=file.bytes - last.begin)
    else:
        spans = []
    return [Part(file, span=span) for span in spans] if len(spans) > 1 else [Part(file)]


def number_chunks(parts: Sequence[Part], config: Config) -> list[Part]:
    """Return all spans of a file, measured, in order, each with the chunks that begin in it.

    Raises:
        InputError: its Parquet grows beyond the limit.
    """
    ordered = sorted(parts, key=_begin_of)
    sizes = [part.span.size or 0 for part in ordered if part.span is not None]
    starts = [0, *itertools.accumulate(sizes)]
    if config.input_format == "parquet":
        file = ordered[0].file
        Limits(config.max_decompression_ratio).check(file.bytes, starts[-1], storage.redact(file.uri), "Parquet")
    firsts = [chunk_after(start) for start in starts]
    return [
        part._replace(first=first, end=None if part is ordered[-1] else end, span=part.span._replace(start=start))
        for part, start, (first, end) in zip(ordered, starts, itertools.pairwise(firsts), strict=False)
        if part.span is not None
    ]


def batch_parts(parts: Iterable[Part], batch_bytes: int = BATCH_BYTES) -> Iterator[list[Part]]:
    """Group neighbours so that many small files are read together; a large part is read alone."""
    batch: list[Part] = []
    total = 0
    for part in parts:
        cost = part.bytes + OPENING_BYTES
        if batch and total + cost > batch_bytes:
            yield batch
            batch, total = [], 0
        batch.append(part)
        total += cost
    if batch:
        yield batch


def _begin_of(part: Part) -> int:
    assert part.span is not None
    return part.span.begin


def _cut_groups(file: InputFile, config: Config, part_bytes: int) -> list[Span]:
    """Join neighbouring row groups up to the size of a part, by what the footer says of the one column."""
    shown = storage.redact(file.uri)
    rules = record_rules(file, config)
    try:
        with storage.open_binary(file.uri) as stream:
            require_parquet(stream.read(HEAD_BYTES), shown)
            table = open_parquet(stream, rules)
            sizes = column_bytes(table, rules)
            if sum(count_rows(table)) != table.metadata.num_rows:
                return []  # damaged, which who reads it as a whole will say
    except OSError as error:
        raise unreadable(file, error) from None
    begins, total = [0], 0
    for number, size in enumerate(sizes):
        if total and total + size > part_bytes:
            begins.append(number)
            total = 0
        total += size
    ends = [*begins[1:], len(sizes)]
    spans = [Span(begin, end, sum(sizes[begin:end])) for begin, end in zip(begins, ends, strict=True)]
    return [*spans[:-1], spans[-1]._replace(end=None)]


def _is_plain(file: InputFile, wanted: str) -> bool:
    """Tell whether a file is UTF-8 whose lines end at line feeds, and not compressed."""
    try:
        head = storage.read_range(file.uri, 0, HEAD_BYTES)
    except OSError as error:
        raise unreadable(file, error) from None
    if format_of(head) is not None:
        return False
    shown = storage.redact(file.uri)
    require_encoding(head, shown, wanted, UTF_8)
    require_text(head, shown, wanted, ended=False)
    return not has_old_lines(head)
