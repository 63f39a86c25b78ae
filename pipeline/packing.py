"""A Beam transform that turns records of chunks into tables, before they travel to the place where all of them meet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from pipeline.chunk_tables import Record, Table, pack_rows

_BATCH_ROWS = 1 << 14


class PackRows(beam.PTransform):  # type: ignore[misc]
    """Records of one kind → tables of some thousand rows."""

    def __init__(self, kind: type[Record]) -> None:
        super().__init__()
        self._kind = kind

    def expand(self, records: beam.PCollection) -> beam.PCollection:
        """Gather the records of each bundle."""
        return records | beam.ParDo(_PackRows(self._kind))


class _PackRows(beam.DoFn):  # type: ignore[misc]
    def __init__(self, kind: type[Record]) -> None:
        self._kind = kind

    def start_bundle(self) -> None:
        self._rows: list[Record] = []

    def process(self, record: Record) -> Iterator[Table]:
        self._rows.append(record)
        if len(self._rows) == _BATCH_ROWS:
            yield self._take()

    def finish_bundle(self) -> Iterator[Any]:
        if self._rows:
            yield GlobalWindows.windowed_value(self._take())

    def _take(self) -> Table:
        table, self._rows = pack_rows(self._rows, self._kind), []
        return table
