"""Thin Beam transforms around the functions of `pipeline.stages.chunks`: wiring and counters, nothing else."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam
from apache_beam.metrics import Metrics

from pipeline import progress
from pipeline.config import Config
from pipeline.inputs import read
from pipeline.inputs.chunks import Chunk
from pipeline.inputs.discover import InputFile
from pipeline.inputs.splits import Part
from pipeline.pairs.sentences import SentenceRun, run_from_bytes
from pipeline.pairs.shard_plan import Plan, PlanFile, load_plan
from pipeline.pairs.windows import PairRules
from pipeline.phrases.join import Phrases, phrases_of
from pipeline.results import PhraseFile, VocabularyFile, WrittenShard
from pipeline.stages import chunks
from pipeline.stages.spill import Spill
from pipeline.text.dead_letters import SetAside, set_aside
from pipeline.text.tokenize import ITEMS
from pipeline.transforms.read import NO_FILE, Strings, require_batch, require_text_elements
from pipeline.transforms.threads import COUNTS, CountingDoFn, SpillingDoFn, Tagged
from pipeline.vocabulary.count import MERGE_ROWS, TokenCounter, merge_counts, table_from_bytes, table_to_bytes
from pipeline.vocabulary.extend import Base
from pipeline.vocabulary.lookup import TokenLookup, load_lookup, load_thresholds
from pipeline.vocabulary.partitions import FEWEST_PARTITIONS

STATS, DEAD, MERGED = "stats", "dead", "merged"
RUNS, ENCODED, SHARDS = "runs", "encoded", "shards"


class CountTokens(beam.PTransform):  # type: ignore[misc]
    """Batches of Part, str or UTF-8 bytes → outputs ``counts`` (partition, payload of a table), ``stats``, ``dead``.

    ``dead`` has a SetAside of each chunk, and of each file's records, where something was set aside.

    A string is one or several lines. Those of a bundle are counted together: ``stats`` and ``dead`` do not say which
    string they are about.
    """

    def __init__(
        self, config: Config, spill: Spill | None = None, phrases: object = (), partitions: int = FEWEST_PARTITIONS
    ) -> None:
        super().__init__()
        self._do_fn = _CountTokens(config, spill or Spill(), partitions)
        self._phrases = phrases

    def expand(self, batches: beam.PCollection) -> beam.pvalue.DoOutputsTuple:
        """Read, tokenise and count."""
        require_text_elements(batches, "CountTokens")
        return batches | beam.ParDo(self._do_fn, self._phrases).with_outputs(COUNTS, STATS, DEAD)


class _CountTokens(CountingDoFn):
    make_counter = TokenCounter

    def __init__(self, config: Config, spill: Spill, partitions: int) -> None:
        super().__init__(config, spill, partitions)
        self._tokens = Metrics.counter("pairstream", "tokens")
        self._lines = Metrics.counter("pairstream", "lines")
        self._dead = Metrics.counter("pairstream", "dead_letters")

    def setup(self) -> None:
        super().setup()
        chunks.load_kernels(self._config)

    def start_bundle(self) -> None:
        super().start_bundle()
        self._strings = Strings()

    def process(
        self, batch: list[Part] | str | bytes, phrase_files: tuple[PhraseFile, ...]
    ) -> Iterator[beam.pvalue.TaggedOutput]:
        phrases = phrases_of(phrase_files)
        if isinstance(batch, (str, bytes)):
            if self._config.tokenizer == ITEMS:
                raise TypeError("CountTokens: found text, expected lists of Part with --tokenizer items")
            for chunk in self._strings.add(batch):
                yield from self.submit(self._count, NO_FILE, chunk, phrases)
            self._phrases = phrases
            return
        progress.begin("counting")
        for part in require_batch(batch, "CountTokens"):
            aside = SetAside(self._config.max_dead_letter_bytes)
            for chunk in read.read_chunks(part, self._config, functools.partial(aside.add, part.file.name)):
                yield from self.submit(self._count, part.file, chunk, phrases)
            if part.text is not None:
                aside.merge(part.text.aside)
            if aside:
                self.count(Tagged(DEAD, aside))
                yield beam.pvalue.TaggedOutput(DEAD, aside)

    def finish_bundle(self) -> Iterator[beam.pvalue.TaggedOutput]:
        for chunk in self._strings.take():
            self._pending.append(self._pool.submit(self._count, NO_FILE, chunk, self._phrases))
        yield from super().finish_bundle()

    def _count(self, file: InputFile, chunk: Chunk, phrases: Phrases) -> list[Tagged]:
        return self.count_into(lambda counter: self._count_chunk(file, chunk, phrases, counter))

    def _count_chunk(self, file: InputFile, chunk: Chunk, phrases: Phrases, counter: TokenCounter) -> list[Tagged]:
        stats, letters = chunks.count_chunk(file, chunk, self._config, counter, phrases)
        aside = [set_aside(self._config.max_dead_letter_bytes, file.name, letters)] if letters else []
        return [Tagged(STATS, stats), *(Tagged(DEAD, one) for one in aside)]

    def count(self, item: Tagged) -> None:
        if item.tag == STATS:
            self._tokens.inc(item.value.tokens)
            self._lines.inc(item.value.lines)
        self._dead.inc(item.value.letters if item.tag == DEAD else 0)


class MergeCounts(beam.PTransform):  # type: ignore[misc]
    """(partition, handles) → a handle of each partition's tokens at or above --min-count, in order.

    With a ``base``, its tokens stay whatever their count. With --max-vocab, more new tokens than that leave none.
    """

    def __init__(
        self, config: Config, spill: Spill | None = None, base: Base | None = None, partitions: int = FEWEST_PARTITIONS
    ) -> None:
        super().__init__()
        self._do_fn = _MergeCounts(config, spill or Spill(), base, partitions)

    def expand(self, counts: beam.PCollection) -> beam.PCollection:
        """Group by partition, add up, prune."""
        merged = counts | beam.GroupByKey() | beam.ParDo(self._do_fn).with_outputs(MERGED)
        return merged[MERGED]


class _MergeCounts(SpillingDoFn):
    """One element takes the sums of its partition, a few times over, and a bounded part of what is added to them."""

    def __init__(self, config: Config, spill: Spill, base: Base | None, partitions: int) -> None:
        super().__init__(config, spill)
        self._base = base
        self._batch_rows = max(1, MERGE_ROWS // partitions)

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[beam.pvalue.TaggedOutput]:
        yield from self.work_on(element[1], self._merge)

    def _merge(self, handles: Iterable[bytes]) -> list[Tagged]:
        tables = (table_from_bytes(self._spill.get(handle)) for handle in handles)
        kept = load_lookup(self._base.uri, self._base.sha256) if self._base else None
        merged = merge_counts(tables, self._config.min_count, kept, self._config.max_vocab)
        return [Tagged(MERGED, self._spill.put(table_to_bytes(merged, self._batch_rows)))]


class EncodeChunks(beam.PTransform):  # type: ignore[misc]
    """Batches of Part → outputs ``runs`` (shard, handle of its ids) and ``encoded``."""

    def __init__(self, config: Config, spill: Spill, vocabulary: object, plan: object, phrases: object) -> None:
        super().__init__()
        self._do_fn = _EncodeChunks(config, spill)
        self._sides = (vocabulary, plan, phrases)

    def expand(self, batches: beam.PCollection) -> beam.pvalue.DoOutputsTuple:
        """Read, tokenise, encode and split among shards."""
        return batches | beam.ParDo(self._do_fn, *self._sides).with_outputs(RUNS, ENCODED)


class _EncodeChunks(SpillingDoFn):
    def __init__(self, config: Config, spill: Spill) -> None:
        super().__init__(config, spill)
        self._known = Metrics.counter("pairstream", "in_vocabulary")

    def process(
        self, batch: list[Part], vocabulary: VocabularyFile, plan_file: PlanFile, phrase_files: tuple[PhraseFile, ...]
    ) -> Iterator[beam.pvalue.TaggedOutput]:
        lookup = load_lookup(vocabulary.uri, vocabulary.entry.sha256)
        phrases, plan = phrases_of(phrase_files), load_plan(plan_file)
        progress.begin("encoding")
        for part in require_batch(batch, "EncodeChunks"):
            for chunk in read.read_chunks(part, self._config):
                yield from self.submit(self._encode, part.file, chunk, lookup, plan, phrases)

    def _encode(self, file: InputFile, chunk: Chunk, lookup: TokenLookup, plan: Plan, phrases: Phrases) -> list[Tagged]:
        encoded, runs = chunks.encode_chunk(file, chunk, self._config, lookup, plan, phrases)
        result = [Tagged(RUNS, (shard, self._spill.put(run.to_bytes()))) for shard, run in runs]
        return [Tagged(ENCODED, encoded), *result]

    def count(self, item: Tagged) -> None:
        if item.tag == ENCODED:
            self._known.inc(item.value.in_vocabulary)


class WriteShards(beam.PTransform):  # type: ignore[misc]
    """(shard, handle of its ids) → WrittenShard for every pass."""

    def __init__(self, config: Config, spill: Spill, folder: str, vocabulary: object, plan: object) -> None:
        super().__init__()
        self._do_fn = _WriteShards(config, spill, folder)
        self._sides = (vocabulary, plan)

    def expand(self, runs: beam.PCollection) -> beam.PCollection:
        """Group by shard and write it once a pass."""
        written = runs | beam.GroupByKey() | beam.ParDo(self._do_fn, *self._sides).with_outputs(SHARDS)
        return written[SHARDS]


class _WriteShards(SpillingDoFn):
    def __init__(self, config: Config, spill: Spill, folder: str) -> None:
        super().__init__(config, spill)
        self._folder = folder
        self._waiting = 1  # a shard's ids are large: no more of them than threads, and the next one's
        self._pairs = Metrics.counter("pairstream", "pairs")
        self._kept = Metrics.counter("pairstream", "kept")

    def setup(self) -> None:
        super().setup()
        load_lookup.forget()  # type: ignore[attr-defined]  # after the shuffle nothing is encoded any more

    def process(
        self, element: tuple[int, Iterable[bytes]], vocabulary: VocabularyFile, plan: PlanFile
    ) -> Iterator[beam.pvalue.TaggedOutput]:
        shard, handles = element
        config = self._config
        progress.begin("writing pairs", plan.shards * config.passes, "shards")
        thresholds = load_thresholds(vocabulary.uri, vocabulary.entry.sha256, config.sample)
        rules = PairRules(config.window, config.fixed_window, config.seed, thresholds)
        # All of a shard, to be put in order: 4 bytes a token of --shard-pairs, whatever the size of the text.
        runs = [run_from_bytes(self._spill.get(handle)) for handle in handles]
        for pass_index in range(config.passes):
            yield from self.submit(self._write, runs, rules, pass_index, shard, plan.shards)

    def _write(
        self, runs: Sequence[SentenceRun], rules: PairRules, pass_index: int, shard: int, shards: int
    ) -> list[Tagged]:
        described, kept = chunks.write_shard(runs, rules, pass_index, shard, shards, self._config, self._folder)
        return [Tagged(SHARDS, WrittenShard(pass_index, kept, described))]

    def count(self, item: Tagged) -> None:
        progress.advance(1)
        self._kept.inc(item.value.kept)
        self._pairs.inc(item.value.shard.rows if item.value.shard else 0)
