"""Damaged, truncated and oddly made compressed files."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import zlib
from collections.abc import Callable

import pytest
import zstandard

from pipeline.errors import InputError
from pipeline.inputs import decompress
from pipeline.inputs.decompress import read_blocks

TEXT = b"".join(b"line number %d of the text\n" % i for i in range(20_000))


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


FORMATS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd,
}  # fmt: skip
every_format = pytest.mark.parametrize("ending", FORMATS)


def read(data: bytes, ending: str, block_bytes: int = 4096) -> bytes:
    return b"".join(read_blocks(io.BytesIO(data), "corpus.txt" + ending, block_bytes))


@every_format
@pytest.mark.parametrize("block_bytes", [1, 7, 4096, 1 << 20])
def test_one_stream(ending: str, block_bytes: int) -> None:
    assert read(FORMATS[ending](TEXT), ending, block_bytes) == TEXT


@every_format
@pytest.mark.parametrize("block_bytes", [1, 4096, 1 << 20])
def test_many_members_one_after_the_other(ending: str, block_bytes: int) -> None:
    parts = [TEXT[:100], b"", TEXT[100:5000], TEXT[5000:]]
    assert read(b"".join(map(FORMATS[ending], parts)), ending, block_bytes) == TEXT


@every_format
@pytest.mark.parametrize(
    "kept", [lambda n: n // 2, lambda n: n * 99 // 100, lambda n: n - 1], ids=["half", "99 %", "last byte"]
)
def test_truncated(ending: str, kept: Callable[[int], int]) -> None:
    data = FORMATS[ending](TEXT)
    with pytest.raises(InputError, match=r"corpus\.txt.*truncated"):
        read(data[: kept(len(data))], ending)


@every_format
def test_second_member_truncated(ending: str) -> None:
    data = FORMATS[ending](TEXT)
    with pytest.raises(InputError, match=r"member 2.*truncated"):
        read(data + data[:-5], ending)


@every_format
def test_flipped_bit_in_the_data_or_checksum(ending: str) -> None:
    data = bytearray(FORMATS[ending](TEXT))
    data[len(data) // 2] ^= 0x10
    with pytest.raises(InputError, match=r"corpus\.txt"):
        read(bytes(data), ending)
    data = bytearray(FORMATS[ending](TEXT))
    data[-6 if ending == ".gz" else -2] ^= 1
    with pytest.raises(InputError, match=r"corpus\.txt"):
        read(bytes(data), ending)


@every_format
def test_garbage_behind_the_end(ending: str) -> None:
    with pytest.raises(InputError, match="after the end"):
        read(FORMATS[ending](TEXT) + b"garbage, and more of it", ending)


def test_padding_of_zero_bytes_is_no_garbage() -> None:
    assert read(gzip.compress(TEXT) + bytes(5000), ".gz") == TEXT


def test_skippable_zstd_frames_are_skipped() -> None:
    frame = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
    assert read(zstd(TEXT) + frame + zstd(TEXT), ".zst") == TEXT * 2


@every_format
def test_content_tells_the_format_when_the_name_lies(ending: str) -> None:
    assert read(FORMATS[ending](TEXT), ".txt") == TEXT
    assert read(TEXT, ending) == TEXT


@every_format
def test_an_empty_file_is_no_stream(ending: str) -> None:
    with pytest.raises(InputError, match="empty file"):
        read(b"", ending)
    assert read(b"", ".txt") == b""


@pytest.mark.parametrize("block_bytes", [1, 4096, 1 << 20])
def test_pzstd_puts_a_skippable_frame_first(block_bytes: int) -> None:
    parts = [TEXT[:5000], TEXT[5000:]]
    frames = [zstd(part) for part in parts]
    data = b"".join(b"\x50\x2a\x4d\x18\x04\0\0\0" + struct.pack("<I", len(frame)) + frame for frame in frames)
    assert read(data, ".zst", block_bytes) == TEXT
    large = b"\x5f\x2a\x4d\x18" + struct.pack("<I", 100_000) + bytes(100_000)
    assert read(large + zstd(TEXT), ".zst", 4096) == TEXT


def test_padding_between_members_is_not_copied_with_all_that_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = list[int]()

    def counting_bytes(*arguments: object) -> bytes:
        result = bytes(*arguments)  # type: ignore[call-overload]
        copied.append(len(result))
        return bytes(result)

    monkeypatch.setattr(decompress, "bytes", counting_bytes, raising=False)
    member = gzip.compress(b"x\n") + bytes(9)
    assert read(member * 2000, ".gz", 1 << 20) == b"x\n" * 2000
    assert sum(copied) < 2000 * 1024


def test_bgzip() -> None:
    """BGZF: members with an extra field, the last one empty."""

    def member(data: bytes) -> bytes:
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        body = packer.compress(data) + packer.flush()
        head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", len(body) + 25)
        return head + body + struct.pack("<II", zlib.crc32(data), len(data))

    blocks = [TEXT[start : start + 60_000] for start in range(0, len(TEXT), 60_000)]
    assert read(b"".join(map(member, [*blocks, b""])), ".gz") == TEXT
