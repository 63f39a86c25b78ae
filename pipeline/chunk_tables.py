"""What is known of each chunk, as compact rows: a terabyte of text has a million chunks, and all meet in one place.

A table is a structured array with a field for each of a record's; a digest is its 16 bytes, sentences are counted in
LENGTH_BINS.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

#: Powers of two up to the longest sentence that can be asked for, a million tokens.
LENGTH_BINS = 20

#: NamedTuples with the fields ``file``, ``chunk`` and ``digest`` (hexadecimal), perhaps ``lengths`` (a uint32 for each
#: bin, the last ones may be missing); the others are integers too.
Record = Any
Table = NDArray[np.void]

_KINDS = {"digest": ("V16",), "lengths": ("<u4", LENGTH_BINS)}


def pack_rows(rows: Sequence[Record], kind: type[Record]) -> Table:
    """Turn records of one kind into a table."""
    table = np.empty(len(rows), [(name, *_KINDS.get(name, (np.int64,))) for name in kind._fields])
    for name in kind._fields:
        column = map(operator.attrgetter(name), rows)
        if name == "digest":
            table[name] = [bytes.fromhex(value) for value in column]
        elif name == "lengths":
            padded = b"".join(value.ljust(4 * LENGTH_BINS, b"\0") for value in column)
            table[name] = np.frombuffer(padded, "<u4").reshape(-1, LENGTH_BINS)
        else:
            table[name] = list(column)
    return table


def join_tables(tables: Sequence[Table], kind: type[Record]) -> Table:
    """Put tables end to end, in the order of files and their chunks, whatever order they come in."""
    table = np.concatenate([pack_rows([], kind), *tables])
    return table[np.lexsort((table["chunk"], table["file"]))]


def file_digests(table: Table) -> dict[int, str]:
    """Combine the digests of a joined table's chunks into one XXH3-128 (hex) a file, over their hexadecimal forms."""
    files, firsts = np.unique(table["file"], return_index=True)
    bounds = [*firsts.tolist(), len(table)]
    texts = (table["digest"][low:high].tobytes().hex() for low, high in itertools.pairwise(bounds))
    return {file: xxhash.xxh3_128_hexdigest(text.encode()) for file, text in zip(files.tolist(), texts, strict=True)}
