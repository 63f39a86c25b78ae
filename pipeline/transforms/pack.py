"""Beam transforms that make few elements of many, before they are sent to the place where all of them meet."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from pipeline.config import Config
from pipeline.stages import chunks
from pipeline.text.dead_letters import SetAside

_BATCH_ROWS = 1 << 14


Packer = Callable[[Sequence[Any]], bytes]  # of records of one kind


class Pack(beam.PTransform):  # type: ignore[misc]
    """Records → bytes of some thousand of them each, by a function of a module, perhaps in functools.partial."""

    def __init__(self, pack: Packer) -> None:
        super().__init__()
        self._pack = pack

    def expand(self, records: beam.PCollection) -> beam.PCollection:
        return records | beam.ParDo(_Pack(self._pack))


class _Pack(beam.DoFn):  # type: ignore[misc]
    def __init__(self, pack: Packer) -> None:
        self._pack = pack

    def start_bundle(self) -> None:
        self._records: list[object] = []

    def process(self, record: object) -> Iterator[bytes]:
        self._records.append(record)
        if len(self._records) == _BATCH_ROWS:
            yield self._take()

    def finish_bundle(self) -> Iterator[object]:
        if self._records:
            yield GlobalWindows.windowed_value(self._take())

    def _take(self) -> bytes:
        packed, self._records = self._pack(self._records), []
        return packed


class WriteDeadLetters(beam.PTransform):  # type: ignore[misc]
    """SetAside of every chunk and file with dead letters → DeadLetters, as written below ``folder``; none without any.

    They come together in one place, but each worker first combines its own: the payload of each, and what the one
    place holds, has --max-dead-letter-bytes for its bound.
    """

    def __init__(self, config: Config, folder: str) -> None:
        super().__init__()
        self._limit, self._folder = config.max_dead_letter_bytes, folder

    def expand(self, found: beam.PCollection) -> beam.PCollection:
        together = found | beam.Map(lambda aside: (None, aside)) | beam.CombinePerKey(_Together(self._limit))
        return together | beam.MapTuple(lambda _, aside: chunks.write_dead_letters(self._folder, aside))


class _Together(beam.CombineFn):  # type: ignore[misc]
    def __init__(self, limit: int) -> None:
        self._limit = limit

    def create_accumulator(self) -> SetAside:
        return SetAside(self._limit)

    def add_input(self, accumulator: SetAside, aside: SetAside) -> SetAside:
        accumulator.merge(aside)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[SetAside]) -> SetAside:
        return functools.reduce(self.add_input, accumulators, SetAside(self._limit))

    def extract_output(self, accumulator: SetAside) -> SetAside:
        return accumulator
