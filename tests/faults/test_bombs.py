"""A few bytes that decompress to many: the file ends the run at a stated limit, in bounded memory."""

from __future__ import annotations

import bz2
import io
import itertools
import lzma
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipeline.cli import main
from pipeline.errors import InputError
from pipeline.inputs.decompress import FREE_BYTES, Limits, read_blocks
from tests.support.paths import ROOT

MIB = 1 << 20


def gzip_bomb() -> Iterator[bytes]:
    """A stream of zero bytes that never ends; the most that deflate can do is 1 to 1032."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    yield packer.compress(bytes(64 * MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    segment = packer.compress(bytes(64 * MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    yield from itertools.repeat(segment)


def bzip2_bomb() -> Iterator[bytes]:
    """Streams of 100 MiB."""
    yield from itertools.repeat(bz2.compress(bytes(100 * MIB)))


def xz_bomb() -> Iterator[bytes]:
    """Streams of 100 MiB."""
    yield from itertools.repeat(lzma.compress(bytes(100 * MIB), preset=0))


def zstd_bomb() -> Iterator[bytes]:
    """A frame of blocks of 4 bytes, each of which says "128 KiB of zero bytes"."""
    yield b"\x28\xb5\x2f\xfd\x00\x38"
    yield from itertools.repeat((131072 << 3 | 1 << 1).to_bytes(3, "little") + b"\0")


BOMBS = {"gzip": gzip_bomb, "bzip2": bzip2_bomb, "xz": xz_bomb, "zstd": zstd_bomb}
every_bomb = pytest.mark.parametrize("kind", BOMBS)


class Bomb(io.RawIOBase):
    """A file that goes on for ever."""

    def __init__(self, kind: str) -> None:
        self._pieces, self._rest = BOMBS[kind](), bytearray()

    def read(self, size: int = -1) -> bytes:
        while len(self._rest) < size:
            self._rest += next(self._pieces)
        data = bytes(self._rest[:size])
        del self._rest[:size]
        return data


def explode(kind: str) -> tuple[str, int, int]:
    """Return the error, the bytes that came before it, and the largest block."""
    total = largest = 0
    try:
        for block in read_blocks(Bomb(kind), "corpus.txt", MIB):
            total, largest = total + len(block), max(largest, len(block))
    except InputError as error:
        return str(error), total, largest
    raise AssertionError("it never ends")


@every_bomb
def test_a_bomb_ends_at_the_ratio_in_bounded_memory(kind: str) -> None:
    code = (
        "import resource\nfrom tests.faults.test_bombs import explode\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"print(*explode({kind!r}), sep='\\n')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    error, total, largest, peak_kib = done.stdout.splitlines()
    assert error.startswith("corpus.txt: found ")
    assert error.endswith(f" of {kind} data, expected at most 1000 times as many (--max-decompression-ratio)")
    assert FREE_BYTES - 33 * MIB <= int(total) < 3000 * MIB
    assert int(largest) <= 33 * MIB
    assert int(peak_kib) < 120 << 10  # zstd's block, and what joins blocks


@every_bomb
def test_the_limit_is_what_one_says(kind: str) -> None:
    stream = Bomb(kind)
    with pytest.raises(InputError, match=rf"of {kind} data, expected at most 3 times as many"):
        for _ in read_blocks(stream, "corpus.txt", MIB, Limits(ratio=3)):
            pass
    large, packed = bytes(100 * MIB), bz2.compress(bytes(100 * MIB))
    assert sum(map(len, read_blocks(io.BytesIO(packed), "f", MIB, Limits(ratio=0)))) == len(large)


def test_small_files_may_grow_as_they_like() -> None:
    packed = bz2.compress(bytes(60 * MIB))
    assert 60 * MIB // len(packed) > 100_000
    assert sum(map(len, read_blocks(io.BytesIO(packed), "f", MIB))) == 60 * MIB


def zstd_with_window(log: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=log)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packer.compress(b"abc" * 1000) + packer.flush()


def xz_with_dictionary(mib: int) -> bytes:
    return lzma.compress(b"abc", filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": mib * MIB}])


@pytest.mark.parametrize(("make", "size"), [(zstd_with_window, 28), (xz_with_dictionary, 250)])
def test_a_decoder_that_would_need_much_memory(make: Callable[[int], bytes], size: int) -> None:
    data = make(size)
    assert b"".join(read_blocks(io.BytesIO(data), "f", MIB, Limits(memory=300 * MIB))).startswith(b"abc")
    message = r"takes more memory to decompress than 209,715,200 bytes, expected less \(--max-decompression-memory\)$"
    with pytest.raises(InputError, match=message):
        list(read_blocks(io.BytesIO(data), "f", MIB, Limits(memory=200 * MIB)))


def test_a_dictionary_in_parquet_is_a_bomb_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), [" ".join(["word"] * 2000)])
    pq.write_table(pa.table({"text": column.cast(pa.string())}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 60_000
    status = main(["--input", f"{tmp_path}/a.parquet", "--output", f"{tmp_path}/out", "--input-format", "parquet"])
    error = capsys.readouterr().err
    assert status == 1
    assert f"error: {tmp_path}/a.parquet: found " in error
    assert "of Parquet data, expected at most 1000 times as many" in error


def test_a_bomb_ends_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_bytes(bz2.compress(b"word\n" * (16 * MIB)))
    status = main(["--input", f"{tmp_path}/a.txt", "--output", f"{tmp_path}/out"])
    [error] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert status == 1
    assert error.startswith(f"error: {tmp_path}/a.txt: found ")
    assert "--max-decompression-ratio" in error
    assert not (tmp_path / "out").exists()
