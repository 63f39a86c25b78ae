"""Decompression that knows where a stream ends and how much it may grow: no short read, no bomb.

gzip, bzip2, xz and zstd carry checksums, which their libraries verify; what they leave to the caller is to notice
that a stream stopped before its end, to go on with the next member or frame, and to stop where a few bytes would
fill the memory or keep a worker busy for days.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

import zstandard

from pipeline.errors import InputError

#: Decompressed bytes that a decoder gives at once; also about what is yielded at once.
_STEP_BYTES = 1 << 20

#: Padding is searched in pieces of this size.
_PADDING_BYTES = 512

#: A file may always grow to this size: a ratio says nothing about a few bytes.
FREE_BYTES = 64 << 20


@dataclass(frozen=True)
class Limits:
    """What a compressed file may take.

    Attributes:
        ratio: decompressed bytes for each stored one, beyond FREE_BYTES; 0 for no limit.
        memory: bytes that a decoder may need.
    """

    ratio: int = 1000
    memory: int = 256 << 20

    def check(self, stored: int, given: int, name: str, kind: str) -> None:
        """Refuse a file of which ``stored`` bytes became ``given`` ones.

        Raises:
            InputError: it grows beyond the limit.
        """
        if self.ratio and given > FREE_BYTES + self.ratio * stored:
            raise InputError(
                f"{name}: found {given:,} bytes in {stored:,} bytes of {kind} data, expected at most "
                f"{self.ratio} times as many (--max-decompression-ratio)"
            )


_Decoder = Any  # zlib's, bz2's, lzma's or zstandard's


def _feed_bounded(decoder: _Decoder, data: memoryview | bytes) -> bytes:
    result: bytes = decoder.decompress(data, _STEP_BYTES)
    return result


def _feed_all(decoder: _Decoder, data: memoryview | bytes) -> bytes:
    result: bytes = decoder.decompress(data)
    return result


class _Format(NamedTuple):
    """How to know a format and to feed its decoder.

    Attributes:
        make: returns a decoder that may need so many bytes of memory.
        feed: gives a decoder some bytes, and asks for _STEP_BYTES at most, if that can be asked.
        feed_bytes: compressed bytes to give at once.
    """

    magic: bytes
    extension: str
    make: Callable[[int], _Decoder]
    feed: Callable[[_Decoder, memoryview | bytes], bytes] = _feed_bounded
    feed_bytes: int = 16 << 10


def _make_zstd(memory: int) -> _Decoder:
    return zstandard.ZstdDecompressor(max_window_size=min(memory, 1 << 31)).decompressobj()


def _make_xz(memory: int) -> _Decoder:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memory)


_FORMATS = {
    "gzip": _Format(b"\x1f\x8b", ".gz", lambda _: zlib.decompressobj(16 + zlib.MAX_WBITS)),
    "bzip2": _Format(b"BZh", ".bz2", lambda _: bz2.BZ2Decompressor()),
    "xz": _Format(b"\xfd7zXZ\x00", ".xz", _make_xz),
    # Its decoder takes no limit of output: four bytes may decode to 128 KiB, and 1 KiB for 32 MiB.
    "zstd": _Format(b"\x28\xb5\x2f\xfd", ".zst", _make_zstd, _feed_all, 1 << 10),
}
_TOO_LARGE = ("Memory usage limit", "too much memory")  # what xz and zstd say where the limit is passed
LONGEST_MAGIC = max(len(kind.magic) for kind in _FORMATS.values())


def format_of(head: bytes) -> str | None:
    """Name the compression of a file by its first LONGEST_MAGIC bytes, None for plain content."""
    if _is_skippable_frame(head):  # pzstd puts one before each frame of data
        return "zstd"
    return next((name for name, kind in _FORMATS.items() if head.startswith(kind.magic)), None)


def read_blocks(stream: IO[bytes], name: str, block_bytes: int, limits: Limits | None = None) -> Iterator[bytes]:
    """Yield a file's decompressed bytes in order, in blocks of any size up to some 32 MiB.

    The format is told by the first bytes, not by the name, which may be wrong.

    Args:
        stream: the raw bytes.
        name: of the file, for errors and to tell an empty file from a compressed one that lost everything.
        block_bytes: raw bytes read at once.
        limits: of what decompression may take; by default those of Limits.

    Raises:
        InputError: a compressed stream is truncated or damaged, or followed by something else, or beyond the limits.
    """
    head = stream.read(max(block_bytes, LONGEST_MAGIC))
    promised = next((kind for kind, its in _FORMATS.items() if name.endswith(its.extension)), None)
    if not head and promised:
        raise InputError(f"{name}: found an empty file, expected {promised} data")
    kind = format_of(head)
    if kind is not None:
        yield from _join(_decompress(stream, head, name, kind, block_bytes, limits or Limits()))
        return
    while head:
        yield head
        head = stream.read(block_bytes)


def _join(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield some hundred KiB at once, however little a step gives."""
    waiting, size = list[bytes](), 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _STEP_BYTES // 4:
            yield b"".join(waiting)
            waiting, size = [], 0
    if size:
        yield b"".join(waiting)


def _decompress(
    stream: IO[bytes], head: bytes, name: str, kind: str, block_bytes: int, limits: Limits
) -> Iterator[bytes]:
    decoder, members, stored, given = _FORMATS[kind].make(limits.memory), 1, 0, 0
    pending = memoryview(head)  # which no member copies, however short it is
    while pending or (pending := memoryview(stream.read(block_bytes))):
        if decoder.eof:
            pending = _next_member(pending, stream, name, kind)
            if not pending:
                return
            decoder, members = _FORMATS[kind].make(limits.memory), members + 1
        fed = 0
        try:
            for fed, data in _steps(decoder, pending, _FORMATS[kind]):
                given += len(data)
                limits.check(stored + fed, given, name, kind)
                yield data
        except (zlib.error, OSError, EOFError, lzma.LZMAError, zstandard.ZstdError) as error:
            raise _damaged(error, name, kind, limits) from None
        fed -= len(decoder.unused_data)
        stored, pending = stored + fed, pending[fed:]
    if not decoder.eof:
        raise InputError(f"{name}: found the end of the file inside {kind} member {members}: it is truncated")


def _steps(decoder: _Decoder, data: memoryview, kind: _Format) -> Iterator[tuple[int, bytes]]:
    """Feed a decoder until the bytes or its stream end; yield how many were fed, and what a step gave."""
    for start in range(0, len(data), kind.feed_bytes):
        piece: memoryview | bytes = data[start : start + kind.feed_bytes]
        fed = start + len(piece)
        while True:
            result = kind.feed(decoder, piece)
            yield fed, result
            piece = getattr(decoder, "unconsumed_tail", b"")
            if decoder.eof or (not piece and len(result) < _STEP_BYTES) or kind.feed is _feed_all:
                break
        if decoder.eof:
            return


def _damaged(error: Exception, name: str, kind: str, limits: Limits) -> InputError:
    if any(words in str(error) for words in _TOO_LARGE):
        return InputError(
            f"{name}: found {kind} data that takes more memory to decompress than {limits.memory:,} bytes, "
            "expected less (--max-decompression-memory)"
        )
    return InputError(f"{name}: found damaged {kind} data ({error}), expected a whole stream")


def _next_member(pending: memoryview, stream: IO[bytes], name: str, kind: str) -> memoryview:
    """Return the bytes from the next member on, none where only padding follows."""
    if kind in ("gzip", "xz"):  # both may be padded with zero bytes, as tape and block devices do
        pending = _skip_zeros(pending, stream)
        if not pending:
            return pending
    if len(pending) < LONGEST_MAGIC:
        pending = memoryview(bytes(pending) + stream.read(LONGEST_MAGIC))
    head = bytes(pending[:8])
    if not head.startswith(_FORMATS[kind].magic) and not (kind == "zstd" and _is_skippable_frame(head)):
        raise InputError(f"{name}: found {head!r} after the end of the {kind} data, expected nothing")
    return pending


def _skip_zeros(pending: memoryview, stream: IO[bytes]) -> memoryview:
    """Skip zero bytes. What follows them is not copied: a block may hold many short members with padding between."""
    while pending and pending[0] == 0:
        piece = bytes(pending[:_PADDING_BYTES])
        pending = pending[len(piece) - len(piece.lstrip(b"\0")) :] or memoryview(stream.read(64 << 10))
    return pending


def _is_skippable_frame(data: bytes) -> bool:
    """Tell a zstd frame that holds no data (0x184D2A50 to 0x184D2A5F, little-endian)."""
    return data[1:4] == b"\x2a\x4d\x18" and 0x50 <= data[0] <= 0x5F
