"""Cutting a file's text into chunks: the unit that every draw and every shuffle counts by.

Chunk k of a file holds the lines that begin in [k · 1 MiB, (k + 1) · 1 MiB) of its decompressed bytes. A line that
is longer than another 1 MiB after such a mark is cut there, so that no chunk is larger than about 2 MiB.
Where a mark cuts depends only on the 1 MiB after it: not on the blocks in which the file happens to be read, nor on
what comes before, so that any part of a large file can be read by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

CHUNK_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"
_LF = 0x0A
WHITE_SPACE = b" \t\v\f\r"


@dataclass(frozen=True)
class Chunk:
    """Consecutive text of one file.

    Attributes:
        index: the chunk's number in its file.
        offset: of its first byte in the decompressed file.
        data: the bytes, whole lines unless a very long line is cut.
        torn: it starts inside an overlong run without white space, or an overlong item.
        inside: it starts inside a line that was cut.
    """

    index: int
    offset: int
    data: bytes
    torn: bool = False
    inside: bool = False

    @property
    def lines(self) -> int:
        """Lines that begin in it."""
        from pipeline.text.scan_kernel import count_feeds

        return int(count_feeds(np.frombuffer(self.data, np.uint8))) + (not self.data.endswith(b"\n")) - self.inside


def read_from(first: int, size: int = CHUNK_BYTES) -> int:
    """Return the byte of a file from which it must be read to find chunk ``first`` and those after it.

    One chunk more, and the byte before it: a run without white space may be cut up to three bytes after a mark.
    """
    return max(0, (first - 1) * size - 1)


def read_until(end: int, size: int = CHUNK_BYTES) -> int:
    """Return the byte up to which a file must be read to find the end of chunk ``end - 1``."""
    return (end + 1) * size + 4


def chunk_after(start: int, size: int = CHUNK_BYTES) -> int:
    """Return the number of the first chunk whose mark is at byte ``start`` of a text or after it."""
    return -(-start // size)


def cut_chunks(
    blocks: Iterable[bytes],
    size: int = CHUNK_BYTES,
    first: int = 0,
    end: int | None = None,
    line_start: int | None = None,
    spaces: bytes = WHITE_SPACE,
) -> Iterator[Chunk]:
    """Yield the chunks of a file, in order, from its decompressed blocks; a byte-order mark is left out.

    Args:
        blocks: the file's bytes from ``read_from(first, size)`` on, at least to ``read_until(end, size)``.
        size: of a chunk.
        first: number of the first chunk to yield.
        end: number of the first chunk not to; None for all to the file's end.
        line_start: where the blocks begin instead, which is where a line does; ``first`` is chunk_after it then. No
            cut at a mark before it goes beyond it, since a line feed is there.
        spaces: where long lines may be cut: before any of these bytes.
    """
    source, buffer, ended = iter(blocks), bytearray(), False
    origin = begin = read_from(first, size)  # buffer[0] is byte `origin` of the file; a chunk starts at `begin`
    index, torn = max(0, first - 2), False
    if line_start:
        buffer += b"\n"
        origin = begin = line_start - 1
        index = first - 1
    while index != end:
        mark = (index + 1) * size
        while not ended and origin + len(buffer) < mark + size + 4:
            if buffer.find(b"\n", max(0, mark - 1 - origin), mark - origin + size) >= 0:
                break  # the cut is certain: what follows may be another part's, and dear to read
            block = next(source, None)
            ended = block is None
            buffer += block or b""
        stop, tears = _find_cut(buffer, mark - origin, size, spaces)
        if origin == 0 and index == 0 and buffer.startswith(BOM):
            begin = len(BOM)
        if stop > begin - origin and index >= first:
            inside = index > 0 and buffer[begin - origin - 1] != _LF
            with memoryview(buffer) as whole, whole[begin - origin : stop] as found:
                data = bytes(found)  # one copy; a slice of the buffer would be another
            yield Chunk(index, begin, data, torn, inside)
        if ended and stop == len(buffer):
            return
        begin, torn, index = max(begin, origin + stop), tears, index + 1
        # One byte before the next chunk stays: whether it is a line feed decides the next cut.
        drop = max(0, begin - 1 - origin)
        del buffer[:drop]
        origin += drop


def _find_cut(buffer: bytearray, mark: int, size: int, spaces: bytes) -> tuple[int, bool]:
    """Return where the chunk before ``mark`` ends, and whether that tears a run without white space.

    Args:
        buffer: the text; it ends ``size`` bytes after the mark or later, or with the file.
        mark: position in the buffer; before it where the last cut went a few bytes past this mark.
        size: how far after the mark to look.
        spaces: see cut_chunks.
    """
    feed = buffer.find(b"\n", max(0, mark - 1), mark + size)
    if feed >= 0:
        return feed + 1, False
    if len(buffer) <= mark + size:  # the file ends, and with it the line
        return len(buffer), False
    places = [buffer.find(byte, max(0, mark), mark + size) for byte in spaces]
    found = [position for position in places if position >= 0]
    if found:
        return min(found), False
    stop = mark + size
    while stop < min(len(buffer), mark + size + 3) and buffer[stop] & 0xC0 == 0x80:  # never inside a UTF-8 sequence
        stop += 1
    return stop, True
