"""Arrays in a safetensors file, written and read in blocks of rows, so that no array is in memory twice.

The format: eight bytes with the header's length, the header in JSON, the numbers; offsets count from the header's end.

Shapes: V vocabulary rows, D dimensions.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO, Any, Protocol, TypeGuard

import numpy as np
import numpy.typing as npt

from pipeline.dataset.schema import FormatError
from pipeline.storage import storage
from pipeline.storage.local import make_in

BLOCK_BYTES = 1 << 20

_LENGTH_BYTES = 8
_KINDS = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "I16": np.int16,
    "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
_NAMES = {np.dtype(kind): name for name, kind in _KINDS.items()}

Array = npt.NDArray[Any]


class Digest(Protocol):
    """What hashlib and xxhash make."""

    def update(self, data: Any, /) -> None:
        """Add bytes."""


class TensorFile:
    """A safetensors file that is written now and put in its place later, by another thread if you like.

    Attributes:
        bytes: its size.
    """

    def __init__(self, near: str, arrays: Mapping[str, Any], digest: Digest) -> None:
        """Write the arrays as they are now, without waiting for the disk.

        Args:
            near: where the file will be, for a local folder; for an object store a nameless file in TMPDIR is written.
            arrays: NumPy arrays or tensors on any device; rows may be strided.
            digest: updated with every byte of the file.

        Raises:
            OSError: no room, or no permission; nothing is left.
        """
        target = storage.local_path(near) if storage.is_local(near) else ""
        self._temporary = f"{os.path.dirname(target)}/.{os.path.basename(target)}.{secrets.token_hex(8)}.tmp"
        self._temporary = self._temporary if target else ""
        with storage.naming(target or tempfile.gettempdir()):
            # Closed by `close`, maybe in another thread.
            self._stream: IO[bytes] = (
                make_in(os.path.dirname(target), lambda: open(self._temporary, "xb"))  # noqa: SIM115
                if target
                else tempfile.TemporaryFile()  # noqa: SIM115
            )
            try:
                self.bytes = write_arrays(self._stream, arrays, digest)
                self._stream.flush()
            except BaseException:
                self.close()
                raise

    def put(self, uri: str) -> None:
        """Make it the file at ``uri``: of the folder that it was written for, or in an object store."""
        if self._temporary:
            with storage.naming(storage.local_path(uri)):
                os.fsync(self._stream.fileno())
                os.replace(self._temporary, storage.local_path(uri))
            self._temporary = ""
        else:
            storage.write_bytes(uri, memoryview(mmap.mmap(self._stream.fileno(), self.bytes, access=mmap.ACCESS_READ)))

    def close(self) -> None:
        """Remove what was not put anywhere."""
        with contextlib.suppress(OSError):  # a full disk's: what is buffered was reported, or is not wanted
            self._stream.close()
        if self._temporary:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary)


def write_arrays(stream: IO[bytes], arrays: Mapping[str, Any], digest: Digest) -> int:
    """Write the file that `safetensors.numpy.save` makes of copies of the arrays; returns its size."""
    heads = {name: _head(array) for name, array in arrays.items()}
    names = sorted(arrays, key=lambda name: (-heads[name][0].itemsize, name))
    header, offset = dict[str, Any](), 0
    for name in names:
        kind, shape = heads[name]
        end = offset + kind.itemsize * math.prod(shape)
        header[name] = {"dtype": _NAMES[kind], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    start = len(text).to_bytes(_LENGTH_BYTES, "little") + text
    digest.update(start)
    stream.write(start)
    for name in names:
        for block in _blocks(arrays[name], *heads[name]):
            digest.update(block)
            stream.write(block)
    return len(start) + offset


def fill_arrays(live: Mapping[str, Any], found: Mapping[str, Array]) -> None:
    """Copy arrays into those of an engine, in place and block by block.

    Raises:
        FormatError: other names, shapes or dtypes; nothing was changed.
    """
    if found.keys() != live.keys():
        raise FormatError(f"checkpoint: found the arrays {sorted(found)}, expected {sorted(live)}")
    for name, target in live.items():
        kind, shape = _head(target)
        if (found[name].dtype, found[name].shape) != (kind, shape):
            raise FormatError(
                f"checkpoint: found {name} {found[name].dtype} {found[name].shape}, expected {kind} {shape}"
            )
    for name, target in live.items():
        rows, source = _as_rows(target), _as_rows(found[name])
        for part in _parts(source.dtype, source.shape):
            if isinstance(rows, np.ndarray):
                rows[part] = source[part]
            else:
                import torch

                rows[part].copy_(torch.from_numpy(np.array(source[part])))


def map_arrays(data: mmap.mmap | bytes, name: str) -> dict[str, Array]:
    """Return read-only arrays over the bytes of a safetensors file; ``name`` is for errors.

    Raises:
        FormatError: no valid header, or one that points outside the file.
    """
    start, header = read_header(data, name)
    return _arrays(data, start, header, name)


def parse_tables(data: mmap.mmap | bytes, rows: int, name: str) -> dict[str, npt.NDArray[np.float32]]:
    """Find the tensors `input` and `output`, float32 [rows, D], without a look at their numbers.

    Raises:
        FormatError: another header than that of two tables of one shape.
    """
    start, header = read_header(data, name)
    if header.keys() != {"input", "output"}:
        raise FormatError(f"{name}: found the tensors {sorted(header)}, expected ['input', 'output']")
    if header["input"].get("shape") != header["output"].get("shape"):
        shapes = " and ".join(str(header[key].get("shape")) for key in ("input", "output"))
        raise FormatError(f"{name}: found tables of {shapes}, expected one shape")
    for key, entry in header.items():
        kind, shape = entry.get("dtype"), entry.get("shape")
        if kind != "F32" or not _are_whole(shape) or len(shape) != 2 or shape[1] == 0:
            raise FormatError(f"{name}: found {key} {kind} {shape}, expected F32 [{rows}, D]")
        if shape[0] != rows:
            raise FormatError(f"{name}: found {shape[0]} rows in {key}, expected the vocabulary's {rows}")
    return _arrays(data, start, header, name)


def read_header(data: mmap.mmap | bytes, name: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return where the numbers begin, and each tensor's entry, without a check of what is in it.

    Raises:
        FormatError: there is no header.
    """
    start = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    try:
        header = json.loads(data[_LENGTH_BYTES:start]) if start <= len(data) else None
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or not all(isinstance(entry, dict) for entry in header.values()):
        raise FormatError(f"{name}: found no valid header, expected that of a safetensors file")
    header.pop("__metadata__", None)
    return start, header


def _arrays(data: mmap.mmap | bytes, start: int, header: Mapping[str, dict[str, Any]], name: str) -> dict[str, Array]:
    arrays = {key: _array_at(data, start, key, entry, name) for key, entry in header.items()}
    end = 0
    for first, last in sorted(entry["data_offsets"] for entry in header.values()):
        if first != end:
            raise FormatError(f"{name}: found a tensor at byte {first} of the numbers, expected one at {end}")
        end = last
    if start + end != len(data):
        raise FormatError(f"{name}: found {len(data)} bytes, expected {start + end}")
    return arrays


def _array_at(data: mmap.mmap | bytes, start: int, key: str, entry: dict[str, Any], name: str) -> Array:
    """One tensor as an array over the bytes; every number of its entry is checked against the file's size."""
    kind, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if kind not in _KINDS or not _are_whole(shape):
        raise FormatError(f"{name}: found {key} {kind} {shape}, expected an array")
    size = np.dtype(_KINDS[kind]).itemsize * math.prod(shape)
    if (
        not _are_whole(offsets)
        or len(offsets) != 2
        or offsets[1] - offsets[0] != size
        or start + offsets[1] > len(data)
    ):
        raise FormatError(f"{name}: found {key} at {offsets}, expected {size} bytes inside the file")
    if not size:
        return np.empty(shape, _KINDS[kind])
    array: Array = np.frombuffer(data, _KINDS[kind], math.prod(shape), start + offsets[0]).reshape(shape)
    array.flags.writeable = False
    return array


def _are_whole(values: object) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _head(array: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
    return _to_host(_as_rows(array)[:0]).dtype, tuple(array.shape)


def _as_rows(array: Any) -> Any:
    """A view with at least one axis."""
    return array if array.ndim else array.reshape(1)


def _to_host(array: Any) -> Array:
    host: Array = array if isinstance(array, np.ndarray) else array.detach().cpu().numpy()
    return host


def _parts(kind: np.dtype[Any], shape: tuple[int, ...]) -> Iterator[slice]:
    """Cut rows into blocks of about BLOCK_BYTES."""
    size = max(1, BLOCK_BYTES // max(1, kind.itemsize * math.prod(shape[1:])))
    for start in range(0, shape[0], size):
        yield slice(start, start + size)


def _blocks(array: Any, kind: np.dtype[Any], shape: tuple[int, ...]) -> Iterator[memoryview]:
    rows = _as_rows(array)
    if math.prod(shape):
        for part in _parts(kind, shape or (1,)):
            yield np.ascontiguousarray(_to_host(rows[part])).data.cast("B")
