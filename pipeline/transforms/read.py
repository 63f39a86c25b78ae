"""Beam transforms that give the others their text: batches of parts of files, spread over the workers."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam
from apache_beam.typehints import typehints

from pipeline.config import Config
from pipeline.inputs import read
from pipeline.inputs.chunks import BOM, CHUNK_BYTES, Chunk, cut_chunks
from pipeline.inputs.discover import InputFile, list_inputs
from pipeline.inputs.listing import SHARES, read_share
from pipeline.inputs.splits import PART_BYTES, Part, ReadText, batch_parts, number_chunks, split_records, split_text
from pipeline.text.dead_letters import SetAside
from pipeline.text.encodings import UTF_8

#: Text of one row group goes through the shuffle, chunk by chunk, if it is so many times larger than a part: many
#: programs write row groups of 128 MiB, and these are better read twice.
_LARGE_SPAN = 8


class _OfParts(beam.PTransform):  # type: ignore[misc]
    def __init__(self, config: Config, part_bytes: int = PART_BYTES) -> None:
        super().__init__()
        self._config, self._part_bytes = config, part_bytes


class ListInputs(_OfParts):
    """A pipeline → batches of Part: the files that globs match, listed when the pipeline runs.

    Plain text of more than ``part_bytes`` is read in parts.
    """

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """List on one worker, spread over all."""
        batches = pipeline | beam.Create([self._config.input]) | beam.FlatMap(self._batches)
        return batches | beam.Reshuffle()

    def _batches(self, patterns: Sequence[str]) -> Iterator[list[Part]]:
        return make_batches(list_inputs(patterns), self._config, self._part_bytes)


class ReadListing(_OfParts):
    """A pipeline → batches of Part: the files of a listing that the launcher wrote, which the graph need not hold."""

    def __init__(self, uri: str, config: Config, part_bytes: int = PART_BYTES) -> None:
        super().__init__(config, part_bytes)
        self._uri = uri

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Read shares of the list, find out what can be split, spread over all workers."""
        return pipeline | beam.Create(range(SHARES)) | beam.FlatMap(self._batches) | beam.Reshuffle()

    def _batches(self, share: int) -> Iterator[list[Part]]:
        return make_batches(read_share(self._uri, share), self._config, self._part_bytes)


def make_batches(files: Iterable[InputFile], config: Config, part_bytes: int) -> Iterator[list[Part]]:
    """Split what is large and plain UTF-8, group what is small."""
    if config.input_format != "text" or config.encoding != UTF_8:
        return batch_parts(map(Part, files))
    return batch_parts(part for file in files for part in split_text(file, part_bytes))


class SplitRecords(_OfParts):
    """Batches of Part → batches of the same records, where large files that can be split are.

    Their text is read once more for that: what comes before a span says which chunks begin in it.
    """

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        """Cut, measure on all workers, add up what comes before each span of a file."""
        spans = batches | beam.FlatMap(self._cut) | beam.Reshuffle()
        return spans | beam.Map(self._measure) | beam.GroupByKey() | beam.FlatMap(self._number)

    def _cut(self, batch: Sequence[Part]) -> Iterator[list[Part]]:
        small = list[Part]()
        for part in require_batch(batch, "SplitRecords"):
            parts = split_records(part.file, self._config, self._part_bytes) if part.is_whole else [part]
            if len(parts) == 1:
                small += parts
            else:
                yield from ([span] for span in parts)
        if small:
            yield small

    def _measure(self, batch: list[Part]) -> tuple[int, list[Part]]:
        """Return a batch with a key that other spans of its file have, and nothing else."""
        if batch[0].span is not None:
            batch = [read.measure_span(part, self._config) for part in batch]
        return batch[0].file.ordinal, batch

    def _number(self, element: tuple[int, Iterable[list[Part]]]) -> Iterator[list[Part]]:
        batches = list(element[1])
        if len(batches) == 1:
            return iter(batches)
        return ([part] for part in number_chunks([part for batch in batches for part in batch], self._config))


class SpreadChunks(_OfParts):
    """Batches of Part → batches of the same text, where a large file that cannot be split was read, chunk by chunk.

    One worker must read such a file from end to end; the work on its text, which is most of it, is for all of them.
    """

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        """Read what is large, reshuffle its chunks, and with them all that is still to be read."""
        # One shuffle for both: Flink's runner cannot fuse a Flatten that several steps read from.
        return batches | beam.FlatMap(self._spread) | beam.Reshuffle()

    def _spread(self, batch: Sequence[Part]) -> Iterator[list[Part]]:
        require_batch(batch, "SpreadChunks")
        if small := [part for part in batch if not self._is_large(part)]:
            yield small
        for part in batch:
            if self._is_large(part):
                yield from self._read(part)

    def _is_large(self, part: Part) -> bool:
        if part.span is not None:  # a row group that nothing cuts
            return (part.span.size or 0) > _LARGE_SPAN * self._part_bytes
        return part.is_whole and part.file.bytes > self._part_bytes

    def _read(self, part: Part) -> Iterator[list[Part]]:
        limit, name = self._config.max_dead_letter_bytes, part.file.name
        aside, none = SetAside(limit), SetAside(limit)
        for chunk in read.read_chunks(part, self._config, functools.partial(aside.add, name)):
            yield [Part(part.file, chunk.index, chunk.index + 1, ReadText((chunk,), none))]
        if aside:
            yield [Part(part.file, 0, 0, ReadText((), aside))]


#: Where strings are from that are elements themselves.
NO_FILE = InputFile(0, "", "", 0)


class Strings:
    """Strings that become chunks together: one by one, the work around each would be most of it."""

    def __init__(self) -> None:
        self._lines = list[bytes]()
        self._bytes = 0

    def add(self, text: str | bytes) -> Iterator[Chunk]:
        """Add lines; yield chunks once there is enough for one."""
        data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        self._lines.append(data.removeprefix(BOM).removesuffix(b"\n") + b"\n")
        self._bytes += len(self._lines[-1])
        if self._bytes >= CHUNK_BYTES:
            yield from self.take()

    def take(self) -> Iterator[Chunk]:
        """Yield chunks of all lines, and forget these."""
        lines, self._lines, self._bytes = self._lines, [], 0
        if lines:
            yield from cut_chunks([b"".join(lines)])


def require_batch(element: object, transform: str) -> list[Part]:
    """Return an element that is a batch of Part.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(element, list) and all(isinstance(part, Part) for part in element):
        return element
    raise TypeError(
        f"{transform}: found an element of type {type(element).__name__}, expected lists of Part, as ListInputs makes "
        "them" + (", or str or bytes" if transform == "CountTokens" else "")
    )


def require_text_elements(elements: beam.PCollection, transform: str) -> None:
    """Refuse a PCollection that is known to hold neither text nor batches, before the pipeline runs.

    Raises:
        TypeError: its type hint says so.
    """
    hint = elements.element_type
    wrong = (typehints.DictConstraint, typehints.TupleConstraint, typehints.TupleSequenceConstraint)
    plain = isinstance(hint, type) and hint is not object and not issubclass(hint, (str, bytes, list))
    if isinstance(hint, wrong) or plain:
        name = getattr(hint, "__name__", hint)
        raise TypeError(f"{transform}: found a PCollection of {name}, expected str, bytes or lists of Part")
