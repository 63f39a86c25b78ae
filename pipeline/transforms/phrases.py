"""Thin Beam transforms for --phrases: a reading of the text for each round, and two shuffles after it."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsIter, AsList, AsSingleton

from pipeline import progress
from pipeline.config import Config
from pipeline.inputs import read as reading
from pipeline.inputs.chunks import Chunk
from pipeline.inputs.discover import InputFile
from pipeline.inputs.splits import Part
from pipeline.pairs.chunk_stats import pack_rows
from pipeline.phrases.join import Phrases, phrases_of
from pipeline.phrases.score import Counts, PairCounter, counts_from_bytes, merge_pairs, score_pairs
from pipeline.results import PhraseFile
from pipeline.stages import phrase_rounds
from pipeline.stages.spill import Spill, make_spill
from pipeline.transforms.pack import Pack
from pipeline.transforms.threads import COUNTS, CountingDoFn, SpillingDoFn, Tagged
from pipeline.vocabulary.count import table_from_bytes, table_to_bytes

READ, PHRASES = "read", "phrases"

Rounds = tuple[PhraseFile, ...]


def find_phrases(
    batches: beam.PCollection, config: Config, run_folder: str, spill_folder: str | None, partitions: int
) -> tuple[AsSingleton, list[AsIter]]:
    """Add --phrases rounds.

    Returns:
        A tuple with the PhraseFile of each, as a side input for later readings; and for each what it read, packed
        ReadChunks, to be compared with the counting pass.
    """
    found, texts = AsSingleton(batches.pipeline | "NoPhrases" >> beam.Create([()])), list[AsIter]()
    for number in range(1, config.phrases + 1):
        spill = None if spill_folder is None else os.path.join(spill_folder, f"phrases-{number}")
        one_round = FindPhrases(number, config, run_folder, spill, found, partitions)
        phrases, read = batches | f"Phrases{number}" >> one_round
        found = AsSingleton(phrases)
        texts.append(AsIter(read))
    return found, texts


class FindPhrases(beam.PTransform):  # type: ignore[misc]
    """Batches of Part → the PhraseFiles of one round and those before it, as one tuple; packed ReadChunks."""

    def __init__(
        self,
        number: int,
        config: Config,
        run_folder: str,
        spill_folder: str | None,
        earlier: AsSingleton,
        partitions: int,
    ) -> None:
        super().__init__()
        self._number, self._config, self._run_folder = number, config, run_folder
        self._spill_folder, self._earlier, self._partitions = spill_folder, earlier, partitions

    def expand(self, batches: beam.PCollection) -> tuple[beam.PCollection, beam.PCollection]:
        """Count words and pairs, bring a pair and its words together, choose, write."""
        config, spill = self._config, make_spill(self._spill_folder)
        counting = _CountPairs(self._number, config, spill, self._partitions)
        counted = batches | beam.ParDo(counting, self._earlier).with_outputs(COUNTS, READ)
        merging = _MergePairs(config, spill, self._partitions)
        merged = counted[COUNTS] | "ByFirst" >> beam.GroupByKey() | beam.ParDo(merging).with_outputs(COUNTS)
        tokens = counted[READ] | beam.Map(lambda chunk: chunk.tokens) | beam.CombineGlobally(sum)
        scoring = _ScorePairs(self._number, config, spill)
        scored = merged[COUNTS] | "BySecond" >> beam.GroupByKey()
        scored = scored | beam.ParDo(scoring, AsSingleton(tokens)).with_outputs(PHRASES)
        place = (self._run_folder, self._number, self._spill_folder)
        sides = (self._earlier, AsList(scored[PHRASES]))
        written = batches.pipeline | beam.Create([place]) | "Write" >> beam.Map(_write_round, *sides)
        return written, counted[READ] | Pack(functools.partial(pack_rows, kind=phrase_rounds.ReadChunk))


def _write_round(
    place: tuple[str, int, str | None],
    earlier: Rounds,
    tables: Sequence[bytes],
) -> Rounds:
    run_folder, number, spill_folder = place
    if spill_folder is not None:
        shutil.rmtree(spill_folder, ignore_errors=True)  # all of it is read by now
    found = phrase_rounds.write_phrases(run_folder, number, list(map(table_from_bytes, tables)))
    Metrics.counter("pairstream", "phrases").inc(found.rows)
    return (*earlier, found)


class _PhraseDoFn(SpillingDoFn):
    """Base of the DoFns here."""

    def finish_bundle(self) -> Iterator[beam.pvalue.TaggedOutput]:
        yield from super().finish_bundle()
        # Idle threads would hold on to the memory that Arrow freed in them, round after round.
        self.teardown()
        self.setup()


class _CountPairs(_PhraseDoFn, CountingDoFn):
    make_counter = PairCounter

    def __init__(self, number: int, config: Config, spill: Spill, partitions: int) -> None:
        CountingDoFn.__init__(self, config, spill, partitions)
        self._number = number

    def process(self, batch: list[Part], earlier: Rounds) -> Iterator[beam.pvalue.TaggedOutput]:
        progress.begin(f"phrases {self._number}")
        phrases = phrases_of(earlier)
        for part in batch:
            for chunk in reading.read_chunks(part, self._config):
                yield from self.submit(self._count, part.file, chunk, phrases)

    def _count(self, file: InputFile, chunk: Chunk, phrases: Phrases) -> list[Tagged]:
        count, config = phrase_rounds.count_chunk_pairs, self._config
        return self.count_into(lambda counter: [Tagged(READ, count(file, chunk, config, phrases, counter))])


class _Parts:
    """The Counts of one partition, read again each time that they are iterated."""

    def __init__(self, handles: Iterable[bytes], spill: Spill) -> None:
        self._handles, self._spill = handles, spill

    def __iter__(self) -> Iterator[Counts]:
        return (counts_from_bytes(self._spill.get(handle)) for handle in self._handles)


class _MergePairs(_PhraseDoFn):
    def __init__(self, config: Config, spill: Spill, partitions: int) -> None:
        super().__init__(config, spill)
        self._partitions = partitions

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[beam.pvalue.TaggedOutput]:
        yield from self.work_on(element[1], self._merge)

    def _merge(self, handles: Iterable[bytes]) -> Iterator[Tagged]:
        parts = _Parts(handles, self._spill)
        for part, counts in merge_pairs(parts, self._config.phrase_min_count, self._partitions):
            yield Tagged(COUNTS, (part, self._spill.put(counts.to_bytes())))


class _ScorePairs(_PhraseDoFn):
    def __init__(self, number: int, config: Config, spill: Spill) -> None:
        super().__init__(config, spill)
        self._threshold = config.phrase_thresholds[number - 1]

    def process(self, element: tuple[int, Iterable[bytes]], tokens: int) -> Iterator[beam.pvalue.TaggedOutput]:
        yield from self.work_on(element[1], self._score, tokens)

    def _score(self, handles: Iterable[bytes], tokens: int) -> list[Tagged]:
        config, parts = self._config, _Parts(handles, self._spill)
        found = score_pairs(parts, tokens, config.phrase_min_count, self._threshold, config.max_token_bytes)
        return [Tagged(PHRASES, table_to_bytes(found))]
