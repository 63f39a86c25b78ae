"""From a part of a file to its chunks: opened, decompressed, taken out of records, cut."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import IO

from pipeline import progress
from pipeline.config import Config
from pipeline.errors import InputError
from pipeline.inputs.chunks import WHITE_SPACE, Chunk, cut_chunks, read_from, read_until
from pipeline.inputs.content import HEAD_BYTES, require_parquet, text_of
from pipeline.inputs.decompress import Limits, read_blocks
from pipeline.inputs.discover import InputFile, unreadable
from pipeline.inputs.parquet_rows import BATCH_ROWS, count_rows, open_parquet, read_groups, read_parquet
from pipeline.inputs.records import RecordRules, pass_over, read_jsonl, record_rules
from pipeline.inputs.splits import Part, Span
from pipeline.storage import storage
from pipeline.text.items import MARK
from pipeline.text.normalize import DeadLetter
from pipeline.text.tokenize import ITEMS

#: What is read at once beyond a span: a chunk's rest is less than 1 MiB of text.
_BEYOND_BYTES = 256 << 10


def read_chunks(part: Part, config: Config, set_aside: Callable[[DeadLetter], None] = pass_over) -> Iterator[Chunk]:
    """Read a part's chunks, and report how much of it is read.

    ``set_aside`` takes the records without text, before or between the chunks or after the last one; those of a part
    that another worker read are in the part.

    Raises:
        InputError: the file is missing, unreadable or damaged, or holds a bad record under --encoding-errors fail.
    """
    if part.text is not None:
        yield from part.text.chunks
        return
    done = 0
    try:
        with storage.open_binary(part.file.uri) as stream:
            for chunk in _cut_chunks(stream, part, config, set_aside):
                yield chunk
                # Of a part, bytes read that belong to its neighbours count with them.
                before, done = done, stream.tell() if part.is_whole else done + len(chunk.data)
                progress.advance(done - before)
    except OSError as error:
        raise unreadable(part.file, error) from None


def measure_span(part: Part, config: Config) -> Part:
    """Read a part's records, and return it with the size of their text."""
    assert part.span is not None
    try:
        with storage.open_binary(part.file.uri) as stream:
            own, _ = _read_span(stream, part.file, part.span, config, pass_over)
            size = sum(map(len, own if config.input_format == "jsonl" else _limit(own, part.file, _limits(config))))
    except OSError as error:
        raise unreadable(part.file, error) from None
    return part._replace(span=part.span._replace(size=size))


def _cut_chunks(
    stream: IO[bytes], part: Part, config: Config, set_aside: Callable[[DeadLetter], None]
) -> Iterator[Chunk]:
    if part.is_whole:
        return cut_chunks(_read_text(stream, part.file, config, set_aside), spaces=_spaces(config))
    if part.span is not None:
        return _cut_span(stream, part, part.span, config, set_aside)
    blocks = _read_plain(stream, part, config.read_block_bytes)
    return cut_chunks(blocks, first=part.first, end=part.end)


def _cut_span(
    stream: IO[bytes], part: Part, span: Span, config: Config, set_aside: Callable[[DeadLetter], None]
) -> Iterator[Chunk]:
    """Yield the chunks that begin in a span; its bad records are set aside, not those read beyond it."""
    source, beyond = _read_span(stream, part.file, span, config, set_aside)
    own = _require_size(source, span.size, part.file)
    if part.first != part.end:
        text = itertools.chain(own, beyond)
        yield from cut_chunks(text, first=part.first, end=part.end, line_start=span.start, spaces=_spaces(config))
    for _ in own:  # no chunk begins in it, or records without text follow the last one
        pass


def _require_size(blocks: Iterable[bytes], size: int | None, file: InputFile) -> Iterator[bytes]:
    """Pass on a span's text, which must be as long as it was measured: the numbers of later chunks depend on it.

    Raises:
        InputError: it is not.
    """
    found = 0
    for block in blocks:
        found += len(block)
        yield block
    if found != size:
        raise InputError(f"{storage.redact(file.uri)}: changed while the run read it")


def _read_span(
    stream: IO[bytes], file: InputFile, span: Span, config: Config, set_aside: Callable[[DeadLetter], None]
) -> tuple[Iterator[bytes], Iterator[bytes]]:
    """Return the text of a span's records, and that of all after them, to be read next."""
    rules = record_rules(file, config, set_aside)
    # A bad record after the span ends the run where it is its reader's own.
    policy = "replace" if config.encoding_errors == "replace" else "dead-letter"
    others = dataclasses.replace(rules, encoding_errors=policy, set_aside=pass_over)
    if config.input_format == "parquet":
        table = open_parquet(stream, rules)
        own = read_groups(table, rules, span.begin, span.end)
        if span.end is None:
            return own, iter(())
        rows = sum(count_rows(table)[span.begin : span.end]) * _BEYOND_BYTES // (span.size or 1)
        return own, read_groups(table, others, span.end, None, min(max(1, rows), BATCH_ROWS))
    own = _read_lines(stream, span.begin, span.end, rules, config.read_block_bytes)
    more = min(_BEYOND_BYTES, config.read_block_bytes)
    return own, iter(()) if span.end is None else _read_lines(stream, span.end, None, others, more)


def _read_lines(
    stream: IO[bytes], begin: int, end: int | None, rules: RecordRules, block_bytes: int
) -> Iterator[bytes]:
    """Yield the text of JSON lines that begin at byte ``begin`` of a file or later, and before ``end``."""
    place = _find_line(stream, begin, block_bytes)
    if end is None or place < end:
        yield from read_jsonl(_read_until_line(stream, place, end, block_bytes), rules, place)


def _find_line(stream: IO[bytes], begin: int, block_bytes: int) -> int:
    """Return where the first line begins that does at ``begin`` or later; the file's end where none does."""
    if begin == 0:
        return 0
    place = stream.seek(begin - 1)
    while block := stream.read(block_bytes):
        feed = block.find(b"\n")
        if feed >= 0:
            return place + feed + 1
        place += len(block)
    return place


def _read_until_line(stream: IO[bytes], place: int, end: int | None, block_bytes: int) -> Iterator[bytes]:
    """Yield a file's bytes from ``place`` on, up to the first line that begins at ``end`` or later."""
    stream.seek(place)
    while block := stream.read(block_bytes):
        feed = -1 if end is None else block.find(b"\n", max(0, end - 1 - place))
        if feed >= 0:
            yield block[: feed + 1]
            return
        yield block
        place += len(block)


def _read_plain(stream: IO[bytes], part: Part, block_bytes: int) -> Iterator[bytes]:
    """Yield what must be read of plain text to find a part's chunks."""
    place = stream.seek(read_from(part.first))
    stop = None if part.end is None else read_until(part.end)
    while stop is None or place < stop:
        block = stream.read(block_bytes if stop is None else min(block_bytes, stop - place))
        if not block:
            return
        yield block
        place += len(block)


def _read_text(
    stream: IO[bytes], file: InputFile, config: Config, set_aside: Callable[[DeadLetter], None]
) -> Iterator[bytes]:
    shown, rules = storage.redact(file.uri), record_rules(file, config, set_aside)
    if config.input_format == "parquet":
        require_parquet(stream.read(HEAD_BYTES), shown)
        stream.seek(0)
        return _limit(read_parquet(stream, rules), file, _limits(config))
    blocks = read_blocks(stream, shown, config.read_block_bytes, _limits(config))
    text = text_of(blocks, shown, config.input_format, config.encoding)
    return read_jsonl(text, rules) if config.input_format == "jsonl" else text


def _spaces(config: Config) -> bytes:
    return MARK if config.tokenizer == ITEMS else WHITE_SPACE


def _limits(config: Config) -> Limits:
    return Limits(config.max_decompression_ratio, config.max_decompression_memory)


def _limit(blocks: Iterable[bytes], file: InputFile, limits: Limits) -> Iterator[bytes]:
    """Check the text of a Parquet file against the limit; a page of it, 2 GiB at most, is decompressed as a whole."""
    given = 0
    for block in blocks:
        given += len(block)
        limits.check(file.bytes, given, storage.redact(file.uri), "Parquet")
        yield block
