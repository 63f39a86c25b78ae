"""Writing the vocabulary: the counts of all partitions merged as a stream, after an earlier one if there is one."""

from __future__ import annotations

import bisect
import mmap
import tempfile
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import progress
from pipeline.config import Config
from pipeline.dataset.manifest import VOCAB, FileEntry, VocabularyTotals
from pipeline.dataset.schema import FormatError, sha256_hex
from pipeline.dataset.vocabulary import Vocabulary, load_vocab, order_rows, parse_vocab, save_vocab_rows
from pipeline.errors import ConfigError
from pipeline.pairs.subsample import kept_tokens
from pipeline.progress import require_running
from pipeline.results import VocabularyFile
from pipeline.stages.spill import Spill
from pipeline.storage import storage
from pipeline.vocabulary.count import COUNTS_SCHEMA
from pipeline.vocabulary.extend import Base
from pipeline.vocabulary.lookup import load_lookup

# The place of a row in a vocabulary: count descending, then bytes ascending.
_Key = tuple[int, bytes]


def write_vocabulary(
    config: Config, folder: str, base: Base | None, partitions: Sequence[bytes], spill: Spill, set_aside: str = ""
) -> VocabularyFile:
    """Write vocab.parquet from the counts of each partition: spilled Arrow streams in a vocabulary's order.

    ``set_aside`` is the dead letters in words, for the error where no token is left.

    Raises:
        ConfigError: no token is left.
        FormatError: ``base`` is not what it was, or there are more tokens than ids.
    """
    progress.begin("vocabulary", len(partitions), "partitions")

    def counted() -> list[Iterator[pa.Table]]:
        return [read_batches(spill.open(handle)) for handle in partitions]

    earlier = _load_base(base) if base else None
    found = _count_known(base, counted()) if base else np.zeros(0, np.int64)
    if not (base or any(len(table) for stream in counted() for table in stream)):
        raise _nothing_left(config, set_aside)
    with tempfile.TemporaryFile() as file:
        rows = _all_rows(earlier, base, found, merge_ordered(counted()), config.max_vocab)
        with storage.naming(tempfile.gettempdir()):
            save_vocab_rows(rows, file)
            file.flush()
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return _publish_file(config, folder, data, earlier, found)


def merge_ordered(streams: Iterable[Iterator[pa.Table]]) -> Iterator[pa.Table]:
    """Merge streams of rows in a vocabulary's order, no token twice, into one.

    In memory are a table of each stream, and half of another.
    """
    heads = [head for head in map(_Head, streams) if head.fill()]
    while heads:
        # Rows up to the first of the heads' ends sort before all that is still to come.
        bound = min((head.last for head in heads if not head.ended), default=None)
        yield order_rows(pa.concat_tables([head.take(bound) for head in heads]))
        heads = [head for head in heads if head.fill()]


class _Head:
    """The rows of a stream that were read and not yet taken."""

    def __init__(self, stream: Iterator[pa.Table]) -> None:
        self._stream, self.ended = stream, False
        self._table, self._least = COUNTS_SCHEMA.empty_table(), 1

    def fill(self) -> bool:
        """Read on where less than half a table is left; tell whether there is a row.

        Were it read only where nothing is left, each step of the merge would take the rest of one stream: as many steps
        as tables, each as long as there are streams.
        """
        while not self.ended and len(self._table) < self._least:
            more = next(self._stream, None)
            if more is None:
                self.ended = True
            else:
                self._table = pa.concat_tables([self._table, more])
                self._least = max(self._least, len(more) // 2)
        self._counts = self._table["count"].to_numpy()
        return len(self._table) > 0

    @property
    def last(self) -> _Key:
        return -int(self._counts[-1]), self._table["token"][-1].as_py()

    def take(self, bound: _Key | None) -> pa.Table:
        """Take the rows up to ``bound``, with it; all of them for None."""
        count, token = self.last if bound is None else bound
        low, high = (int(np.searchsorted(-self._counts, count, side)) for side in ("left", "right"))
        tokens = self._table["token"]
        size = bisect.bisect_right(range(high), token, lo=low, key=lambda row: tokens[row].as_py())
        taken, self._table = self._table.slice(0, size), self._table.slice(size)
        self._counts = self._counts[size:]
        return taken


def read_batches(stream: pa.NativeFile) -> Iterator[pa.Table]:
    """Yield the tables of an Arrow stream, none of them empty."""
    with stream, pa.ipc.open_stream(stream) as reader:
        for batch in reader:
            if len(batch):
                yield pa.Table.from_batches([batch])


def _load_base(base: Base) -> Vocabulary:
    vocabulary = load_vocab(base.uri)
    if vocabulary.digest != base.digest:
        raise FormatError(
            f"{storage.redact(base.uri)}: found digest {vocabulary.digest}, expected {base.digest} as before"
        )
    return vocabulary


def _count_known(base: Base, streams: Iterable[Iterator[pa.Table]]) -> NDArray[np.int64]:
    """Add up how often each of the base's tokens occurs in the new text, int64 by id."""
    lookup, found = load_lookup(base.uri, base.sha256), np.zeros(base.rows, np.int64)
    for stream in streams:
        for table in stream:
            ids = lookup.rows_of(table["token"])
            found[ids[ids >= 0]] += table["count"].to_numpy()[ids >= 0]  # no token occurs twice
    return found


def _all_rows(
    earlier: Vocabulary | None, base: Base | None, found: NDArray[np.int64], merged: Iterator[pa.Table], limit: int
) -> Iterator[pa.Table]:
    """Yield all rows by id: the earlier ones in place, then new ones while there are fewer than ``limit``, if not 0."""
    rows = 0
    if earlier is not None and base is not None:
        yield pa.table([earlier.column, earlier.counts + found], names=["token", "count"])
        rows = len(earlier)
    for table in merged:
        require_running()
        if base is not None:
            table = table.filter(pa.array(load_lookup(base.uri, base.sha256).rows_of(table["token"]) < 0))
        table = table.slice(0, max(0, limit - rows)) if limit else table
        yield table
        rows += len(table)
        if limit and rows >= limit:
            return


def _publish_file(
    config: Config, folder: str, data: memoryview, earlier: Vocabulary | None, found: NDArray[np.int64]
) -> VocabularyFile:
    uri = storage.join(folder, VOCAB)
    storage.write_bytes(uri, data)
    entry = FileEntry(data.nbytes, sha256_hex(data))
    vocabulary = parse_vocab(pa.py_buffer(data), storage.redact(uri))
    counts = vocabulary.counts
    totals = VocabularyTotals(len(vocabulary), int(counts.sum()), vocabulary.digest)
    # Of this run's text: what an earlier one counted is in the probabilities alone.
    here = np.concatenate((found, counts[len(found) :])) if len(found) else counts
    return VocabularyFile(uri, entry, totals, kept_tokens(here, counts, config.sample))


def _nothing_left(config: Config, set_aside: str) -> ConfigError:
    field = "" if config.input_format == "text" else f", --text-field {config.text_field}"
    return ConfigError(
        f"--min-count {config.min_count}{field}: no token in the input is that frequent"
        + (f" (set aside: {set_aside})" if set_aside else "")
    )
