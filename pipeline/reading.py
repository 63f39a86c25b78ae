"""From a part of a file to its chunks: opened, decompressed, taken out of records, cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import IO

from pipeline import progress
from pipeline.chunks import Chunk, cut_chunks, read_from, read_until
from pipeline.content import HEAD_BYTES, require_parquet, text_of
from pipeline.dataset import storage
from pipeline.decompress import Limits, read_blocks
from pipeline.inputs import InputFile, Part, unreadable
from pipeline.options import Config
from pipeline.records import RecordRules, read_jsonl, read_parquet
from pipeline.text import DeadLetter


def read_chunks(part: Part, config: Config, set_aside: Callable[[DeadLetter], None]) -> Iterator[Chunk]:
    """Read a part's chunks, and report how much of it is read.

    Args:
        part: to read.
        config: format of its content.
        set_aside: takes the records without text, before or between the chunks; those of a part that another worker
            read are in the part.

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


def _cut_chunks(
    stream: IO[bytes], part: Part, config: Config, set_aside: Callable[[DeadLetter], None]
) -> Iterator[Chunk]:
    if part.is_whole:
        return cut_chunks(_read_text(stream, part.file, config, set_aside))
    blocks = _read_plain(stream, part, config.read_block_bytes)
    return cut_chunks(blocks, first=part.first, end=part.end)


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
    shown = storage.redact(file.uri)
    limits = Limits(config.max_decompression_ratio, config.max_decompression_memory)
    rules = RecordRules(shown, config.text_field, config.encoding_errors, set_aside)
    if config.input_format == "parquet":
        require_parquet(stream.read(HEAD_BYTES), shown)
        stream.seek(0)
        return _limit(read_parquet(stream, rules), file, limits)
    blocks = read_blocks(stream, shown, config.read_block_bytes, limits)
    text = text_of(blocks, shown, config.input_format, config.encoding)
    return read_jsonl(text, rules) if config.input_format == "jsonl" else text


def _limit(blocks: Iterable[bytes], file: InputFile, limits: Limits) -> Iterator[bytes]:
    """Hold the text of a Parquet file against the limit; of it a page, 2 GiB at most, is decompressed as a whole."""
    given = 0
    for block in blocks:
        given += len(block)
        limits.check(file.bytes, given, storage.redact(file.uri), "Parquet")
        yield block
