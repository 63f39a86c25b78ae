"""Arrays in a safetensors file, written and read in blocks of rows, so that no array is in memory twice.

The format: eight bytes with the header's length, the header in JSON, the numbers; offsets count from the header's end.

Shapes: V vocabulary rows, D dimensions.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Annotated, Protocol, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.dataset.schema import FormatError, to_struct
from pipeline.storage import storage
from pipeline.storage.local import make_in

if TYPE_CHECKING:
    import torch

BLOCK_BYTES = 1 << 20

_LENGTH_BYTES = 8
_KINDS = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "I16": np.int16,
    "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
_NAMES: dict[np.dtype[np.generic], str] = {np.dtype(kind): name for name, kind in _KINDS.items()}

Array: TypeAlias = npt.NDArray[np.generic]
AnyArray: TypeAlias = "Array | torch.Tensor"
Head: TypeAlias = tuple[np.dtype[np.generic], tuple[int, ...]]


class _Entry(msgspec.Struct, frozen=True):
    """What the header says of a tensor."""

    dtype: str
    shape: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    data_offsets: tuple[int, int]


class Digest(Protocol):
    """What hashlib and xxhash make."""

    def update(self, data: bytes | memoryview, /) -> None: ...


class TensorFile:
    """A safetensors file that is written now and put in its place later, by another thread if you like."""

    def __init__(self, near: str, arrays: Mapping[str, AnyArray], digest: Digest) -> None:
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


def write_arrays(stream: IO[bytes], arrays: Mapping[str, AnyArray], digest: Digest) -> int:
    """Write the file that `safetensors.numpy.save` makes of copies of the arrays; returns its size."""
    heads = {name: _head(array) for name, array in arrays.items()}
    start = encode_header(heads)
    digest.update(start)
    stream.write(start)
    for name in _ordered(heads):
        for block in _blocks(arrays[name], *heads[name]):
            digest.update(block)
            stream.write(block)
    return len(start) + sum(_size(*head) for head in heads.values())


def encode_header(heads: Mapping[str, Head]) -> bytes:
    """Encode what comes before the numbers: those of arrays of larger items come first, then in order of names."""
    entries, offset = dict[str, _Entry](), 0
    for name in _ordered(heads):
        kind, shape = heads[name]
        end = offset + _size(kind, shape)
        entries[name] = _Entry(_NAMES[kind], shape, (offset, end))
        offset = end
    text = msgspec.json.encode(entries)
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def copy_arrays(live: Mapping[str, AnyArray]) -> dict[str, Array]:
    """Copies of an engine's arrays, on the host."""
    return {name: np.array(_to_host(array)) for name, array in live.items()}


def fill_arrays(live: Mapping[str, AnyArray], found: Mapping[str, Array]) -> None:
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
        rows, source = _as_rows(target), np.atleast_1d(found[name])
        for part in _parts(source.dtype, source.shape):
            if isinstance(rows, np.ndarray):
                rows[part] = source[part]
            else:
                import torch

                rows[part].copy_(torch.from_numpy(np.array(source[part])))


def map_arrays(data: mmap.mmap | bytes, path: str) -> dict[str, Array]:
    """Return read-only arrays over the bytes of a safetensors file, without a look at their numbers.

    Raises:
        FormatError: no valid header, or one that points outside the file, leaves a gap in it, or overlaps itself.
    """
    start = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    try:
        header = msgspec.json.decode(data[_LENGTH_BYTES:start]) if start <= len(data) else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise FormatError(f"{path}: found no valid header, expected that of a safetensors file")
    header.pop("__metadata__", None)
    arrays, end = dict[str, Array](), 0
    entries = {name: to_struct(entry, _Entry, f"{path}: {name}") for name, entry in header.items()}
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        if entry.dtype not in _KINDS:
            raise FormatError(f"{path}: found {name} of {entry.dtype}, expected one of {', '.join(_KINDS)}")
        kind, (first, last) = np.dtype(_KINDS[entry.dtype]), entry.data_offsets
        size = _size(kind, entry.shape)
        if first != end or last - first != size or start + last > len(data):
            raise FormatError(f"{path}: found {name} at {first} to {last}, expected {size} bytes from {end} on")
        array = np.frombuffer(data, kind, math.prod(entry.shape), start + first) if size else np.empty(0, kind)
        arrays[name] = array.reshape(entry.shape)
        arrays[name].flags.writeable = False
        end = last
    if start + end != len(data):
        raise FormatError(f"{path}: found {len(data)} bytes, expected {start + end}")
    return {name: arrays[name] for name in entries}


def require_tables(tables: Mapping[str, Array], rows: int, path: str) -> None:
    """Refuse arrays that are not `input` and `output`, float32 [rows, D]."""
    if tables.keys() != {"input", "output"}:
        raise FormatError(f"{path}: found the tensors {sorted(tables)}, expected ['input', 'output']")
    for name, table_VD in tables.items():
        if table_VD.dtype != np.float32 or table_VD.ndim != 2 or table_VD.shape[1] == 0:
            raise FormatError(f"{path}: found {name} {table_VD.dtype} {table_VD.shape}, expected float32 [{rows}, D]")
        if len(table_VD) != rows:
            raise FormatError(f"{path}: found {len(table_VD)} rows in {name}, expected the vocabulary's {rows}")
    if tables["input"].shape != tables["output"].shape:
        shapes = " and ".join(str(tables[name].shape) for name in ("input", "output"))
        raise FormatError(f"{path}: found tables of {shapes}, expected one shape")


def require_subwords(tables: Mapping[str, Array], shape: tuple[int, int], path: str) -> None:
    """Refuse arrays that are not `rows`, float32 of a shape."""
    if tables.keys() != {"rows"}:
        raise FormatError(f"{path}: found the tensors {sorted(tables)}, expected ['rows']")
    rows_RD = tables["rows"]
    if rows_RD.dtype != np.float32 or rows_RD.shape != shape:
        raise FormatError(f"{path}: found rows {rows_RD.dtype} {rows_RD.shape}, expected float32 {shape}")


def is_finite(table_VD: AnyArray) -> bool:
    """Tell whether a table is free of NaN and Inf."""
    # The extremes are NaN where any number is; no array of the table's size is made, or copied from a device.
    return not math.prod(table_VD.shape) or (math.isfinite(table_VD.min()) and math.isfinite(table_VD.max()))


def _head(array: AnyArray) -> Head:
    return _to_host(_as_rows(array)[:0]).dtype, tuple(array.shape)


def _size(kind: np.dtype[np.generic], shape: Sequence[int]) -> int:
    return kind.itemsize * math.prod(shape)


def _ordered(heads: Mapping[str, Head]) -> list[str]:
    return sorted(heads, key=lambda name: (-heads[name][0].itemsize, name))


def _as_rows(array: AnyArray) -> AnyArray:
    """A view with at least one axis."""
    return array if array.ndim else array.reshape(1)


def _to_host(array: AnyArray) -> Array:
    return array if isinstance(array, np.ndarray) else array.detach().cpu().numpy()


def _parts(kind: np.dtype[np.generic], shape: Sequence[int]) -> Iterator[slice]:
    """Cut rows into blocks of about BLOCK_BYTES."""
    height = max(1, BLOCK_BYTES // max(1, _size(kind, shape[1:])))
    for start in range(0, shape[0], height):
        yield slice(start, start + height)


def _blocks(array: AnyArray, kind: np.dtype[np.generic], shape: tuple[int, ...]) -> Iterator[memoryview]:
    rows = _as_rows(array)
    if math.prod(shape):
        for part in _parts(kind, shape or (1,)):
            yield np.ascontiguousarray(_to_host(rows[part])).data.cast("B")
