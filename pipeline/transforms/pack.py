"""A Beam transform that makes few elements of many, before they are shuffled to one key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

_BATCH_ROWS = 1 << 14


class Pack(beam.PTransform):  # type: ignore[misc]
    """Records → bytes of some thousand of them each.

    Args:
        pack: encodes a list of records; a function of a module, perhaps with arguments by functools.partial.
    """

    def __init__(self, pack: Callable[[Sequence[Any]], bytes]) -> None:
        super().__init__()
        self._pack = pack

    def expand(self, records: beam.PCollection) -> beam.PCollection:
        """Gather the records of each bundle."""
        return records | beam.ParDo(_Pack(self._pack))


class _Pack(beam.DoFn):  # type: ignore[misc]
    def __init__(self, pack: Callable[[Sequence[Any]], bytes]) -> None:
        self._pack = pack

    def start_bundle(self) -> None:
        self._records: list[Any] = []

    def process(self, record: Any) -> Iterator[bytes]:
        self._records.append(record)
        if len(self._records) == _BATCH_ROWS:
            yield self._take()

    def finish_bundle(self) -> Iterator[Any]:
        if self._records:
            yield GlobalWindows.windowed_value(self._take())

    def _take(self) -> bytes:
        packed, self._records = self._pack(self._records), []
        return packed
