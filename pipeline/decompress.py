"""Decompression that knows where a stream ends: a truncated or damaged file is an error, never a short read.

gzip, bzip2, xz and zstd carry checksums, which their libraries verify; what they leave to the caller is to notice
that a stream stopped before its end, and to go on with the next member or frame.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

import zstandard

from pipeline.errors import InputError

#: Compressed bytes handed to a decompressor at once: small, so that one step cannot expand without bound.
_STEP_BYTES = 64 << 10


def _gzip() -> Any:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


def _zstd() -> Any:
    return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()


_FORMATS: dict[str, tuple[bytes, Callable[[], Any]]] = {
    "gzip": (b"\x1f\x8b", _gzip),
    "bzip2": (b"BZh", bz2.BZ2Decompressor),
    "xz": (b"\xfd7zXZ\x00", lzma.LZMADecompressor),
    "zstd": (b"\x28\xb5\x2f\xfd", _zstd),
}
LONGEST_MAGIC = max(len(magic) for magic, _ in _FORMATS.values())
_EXTENSIONS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}


def format_of(head: bytes) -> str | None:
    """Name the compression of a file by its first LONGEST_MAGIC bytes, None for plain content."""
    return next((kind for kind, (magic, _) in _FORMATS.items() if head.startswith(magic)), None)


def read_blocks(stream: IO[bytes], name: str, block_bytes: int) -> Iterator[bytes]:
    """Yield a file's decompressed bytes in order, in blocks of any size.

    The format is told by the first bytes, not by the name, which may lie.

    Args:
        stream: the raw bytes.
        name: of the file, for errors and to tell an empty file from a compressed one that lost everything.
        block_bytes: raw bytes read at once.

    Raises:
        InputError: a compressed stream is truncated or damaged, or followed by something else.
    """
    head = stream.read(max(block_bytes, LONGEST_MAGIC))
    promised = next((kind for ending, kind in _EXTENSIONS.items() if name.endswith(ending)), None)
    if not head and promised:
        raise InputError(f"{name}: found an empty file, expected {promised} data")
    kind = format_of(head)
    if kind is None:
        while head:
            yield head
            head = stream.read(block_bytes)
        return
    yield from _decompress(stream, head, name, kind, block_bytes)


def _decompress(stream: IO[bytes], head: bytes, name: str, kind: str, block_bytes: int) -> Iterator[bytes]:
    magic, make = _FORMATS[kind]
    decoder, pending, members = make(), head, 0
    while True:
        if not pending:
            pending = stream.read(block_bytes)
            if not pending:
                break
        if decoder.eof:
            pending = _next_member(pending, stream, magic, name, kind)
            if not pending:
                return
            decoder = make()
        step, pending = pending[:_STEP_BYTES], pending[_STEP_BYTES:]
        try:
            data = decoder.decompress(step)
        except (zlib.error, OSError, EOFError, lzma.LZMAError, zstandard.ZstdError) as error:
            raise InputError(f"{name}: found damaged {kind} data ({error}), expected a whole stream") from None
        if decoder.eof:
            members += 1
            pending = decoder.unused_data + pending
        if data:
            yield data
    if not decoder.eof:
        raise InputError(f"{name}: found the end of the file inside {kind} member {members + 1}: it is truncated")


def _next_member(pending: bytes, stream: IO[bytes], magic: bytes, name: str, kind: str) -> bytes:
    """Return the bytes of the next member, b"" where only padding follows."""
    if kind in ("gzip", "xz"):  # both may be padded with zero bytes, as tape and block devices do
        while not (rest := pending.lstrip(b"\0")):
            pending = stream.read(_STEP_BYTES)
            if not pending:
                return b""
        pending = rest
    pending += stream.read(LONGEST_MAGIC) if len(pending) < LONGEST_MAGIC else b""
    if kind == "zstd" and _is_skippable_frame(pending):
        return pending
    if not pending.startswith(magic):
        raise InputError(f"{name}: found {pending[:8]!r} behind the end of the {kind} data, expected nothing")
    return pending


def _is_skippable_frame(data: bytes) -> bool:
    """Tell a zstd frame that holds no data (0x184D2A50 to 0x184D2A5F, little-endian)."""
    return data[1:4] == b"\x2a\x4d\x18" and 0x50 <= data[0] <= 0x5F
