"""The stages of a run, each fed what it would meet of a trillion tokens; `scale` runs them one by one."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from pipeline import cli, job
from pipeline.config import Config
from pipeline.dataset.manifest import FileEntry, VocabularyTotals
from pipeline.dataset.reader import open_dataset
from pipeline.dataset.vocabulary import order_rows
from pipeline.inputs import discover
from pipeline.inputs.discover import InputFile
from pipeline.inputs.listing import SHARES, read_share
from pipeline.inputs.splits import PART_BYTES, Part
from pipeline.pairs.sentences import SentenceRun
from pipeline.pairs.shard_plan import ChunkStats
from pipeline.phrases.score import FIRST_PARTS, PAIR_LIMIT, PAIRS_SCHEMA, SECOND_SHARE, Counts
from pipeline.publishing import publish as finish
from pipeline.publishing.publish import Run
from pipeline.results import NO_DEAD_LETTERS, VocabularyFile
from pipeline.stages import vocabulary
from pipeline.stages.chunks import EncodedChunk, write_dead_letters
from pipeline.stages.spill import Spill
from pipeline.storage import storage
from pipeline.text.dead_letters import SetAside, set_aside
from pipeline.text.normalize import DeadLetter
from pipeline.transforms import read
from pipeline.transforms.pack import _Together
from pipeline.transforms.phrases import _MergePairs, _ScorePairs
from pipeline.transforms.text_to_pairs import _CountTokens, _EncodeChunks, _MergeCounts, _WriteShards
from pipeline.vocabulary.count import MERGE_ROWS, table_to_bytes
from pipeline.vocabulary.partitions import partition_count, split_by_hash
from tests.bench import made
from trainer.data.order import epoch_order

THREADS = 4

#: Tokens of a made file: its six chunks are as many as each file of the plan has at least.
FILE_TOKENS, TEXT_FILES = 600_000, 32


@dataclass(frozen=True)
class Sizes:
    """What a trillion tokens are, or a share of it. Text has 6.2 bytes a token, and 4.5 pairs at the default window.

    Attributes:
        share: 1 for all.
    """

    share: float = 1.0

    def of(self, whole: float) -> int:
        """Return the share of a number, 1 at least."""
        return max(1, round(whole * self.share))

    @property
    def files(self) -> int:
        """Input files, .gz."""
        return self.of(1_000_000)

    @property
    def chunks(self) -> int:
        """Chunks of text."""
        return self.of(6_300_000)

    @property
    def words(self) -> int:
        """Of the vocabulary."""
        return self.of(20_000_000)

    @property
    def partitions(self) -> int:
        """As many as a run takes for this input."""
        return partition_count(self.files * 2_400_000)

    @property
    def bundles(self) -> int:
        """Bundles of 10 M tokens a thread: each hands on counts for every partition."""
        return self.of(100_000)


@dataclass(frozen=True)
class Fed:
    """What a stage was given, and the share of the whole run's that this is; seconds that it took to make it."""

    elements: int
    bytes: int
    of_all: float = 1.0
    making_s: float = 0.0


@dataclass(frozen=True)
class Stage:
    """A stage.

    Attributes:
        place: worker or launcher.
        unit: what its elements are.
        run: feeds it.
        make: writes what it is fed, in another process; None where that is made on the way.
        needs: stages that leave something for it.
    """

    place: str
    unit: str
    run: Callable[[Sizes, Path], Fed]
    make: Callable[[Sizes, Path], None] | None = None
    needs: tuple[str, ...] = ()


class Made:
    """An iterable that is made anew each time, as a runner reads what was shuffled; it counts what was taken."""

    def __init__(self, make: Callable[[], Iterable[Any]]) -> None:
        """Remember how to make it."""
        self._make = make
        self.elements = self.bytes = 0
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Any]:
        self.elements = self.bytes = 0
        begun = time.perf_counter()
        for item in self._make():
            self.seconds += time.perf_counter() - begun
            self.elements, self.bytes = self.elements + 1, self.bytes + (len(item) if isinstance(item, bytes) else 0)
            yield item
            begun = time.perf_counter()


def config_of(work: Path, **settings: Any) -> Config:
    """The settings of the run."""
    words = {"input": ("s3://bucket/crawl/**",), "output": str(work / "out"), "tokenizer": "whitespace"}
    return Config(**{**words, "threads": THREADS, **settings})


def run_of(work: Path, **settings: Any) -> Run:
    """The run."""
    return Run(config_of(work, **settings), "run", None, "2026-01-01T00:00:00+00:00", "bench")


def keep(work: Path, name: str, value: Any) -> None:
    """Leave something for a later stage."""
    (work / f"{name}.pickle").write_bytes(pickle.dumps(value))


def kept(work: Path, name: str) -> Any:
    """Find what an earlier stage left."""
    with (work / f"{name}.pickle").open("rb") as file:
        return pickle.load(file)


def drive(do_fn: Any, elements: Iterable[Any], *sides: Any) -> None:
    """Do with one bundle what a runner does, and drop what comes out."""
    do_fn.setup()
    do_fn.start_bundle()
    for element in elements:
        for _ in do_fn.process(element, *sides):
            pass
    for _ in do_fn.finish_bundle():
        pass
    do_fn.teardown()


def list_files(sizes: Sizes, work: Path) -> Fed:
    """The launcher lists a store and writes the list."""
    files = Made(lambda: made.stored_files(sizes.files))
    with mock.patch.object(discover, "match_objects", return_value=files):
        data, _, _ = job.make_listing(config_of(work))
    storage.write_bytes(run_of(work).listing, memoryview(data))
    return Fed(files.elements, memoryview(data).nbytes, making_s=files.seconds)


def read_list(sizes: Sizes, work: Path) -> Fed:
    """A worker reads a share of the list, and deals its files out."""
    uri, config = run_of(work).listing, config_of(work)
    batches = sum(1 for _ in read.make_batches(read_share(uri, SHARES - 1), config, PART_BYTES))
    return Fed(batches, storage_bytes(uri) // SHARES, 1 / SHARES)


def storage_bytes(uri: str) -> int:
    """The size of a local file."""
    return Path(storage.local_path(uri)).stat().st_size


def make_text(sizes: Sizes, work: Path) -> None:
    """Write text of as many words as the vocabulary has, in files."""
    (work / "text").mkdir()
    for number in range(min(TEXT_FILES, sizes.files)):
        (work / "text" / f"{number:05d}").write_bytes(made.words_of(made.zipf_ids(FILE_TOKENS, sizes.words, number)))


def text_batches(work: Path) -> tuple[list[list[Part]], int]:
    """Batches of made files, and the bytes of all."""
    paths = sorted((work / "text").iterdir())
    files = [InputFile(n, str(path), path.name, path.stat().st_size) for n, path in enumerate(paths)]
    return [[Part(file)] for file in files], sum(file.bytes for file in files)


def count_tokens(sizes: Sizes, work: Path) -> Fed:
    """A worker counts a bundle."""
    batches, size = text_batches(work)
    drive(_CountTokens(config_of(work), Spill(), sizes.partitions), batches, ())
    return Fed(len(batches) * FILE_TOKENS, size, len(batches) * FILE_TOKENS / sizes.of(1e12))


def merge_counts(sizes: Sizes, work: Path) -> Fed:
    """A worker merges one partition: of each bundle's 300,000 rows, of two billion words."""
    rows, words = -(-300_000 // sizes.partitions), max(1, sizes.of(2e9) // sizes.partitions)

    def payloads() -> Iterator[bytes]:
        return (table_to_bytes(made.counted_words(rows, words, 1, number)) for number in range(sizes.bundles))

    source = Made(payloads)
    drive(_MergeCounts(config_of(work), Spill(), None, sizes.partitions), [(0, source)])
    return Fed(source.elements, source.bytes, 1 / sizes.partitions, source.seconds)


def pair_payloads(payloads: int, pairs: int, words: int, extra: Sequence[Any] = ()) -> Iterator[bytes]:
    """Yield Counts of so many pairs of neighbours each, with their words."""
    for number in range(payloads):
        random = np.random.default_rng(number)
        first, second = made.zipf_ids(pairs, words, 2, number), random.integers(0, words, pairs)
        keys = np.unique(first * words + second)
        ids = np.unique(np.concatenate((keys // words, keys % words)))
        counts = made.counts_of(ids, np.full(len(ids), 40))
        columns = [made.word_column(keys // words), made.word_column(keys % words), random.integers(1, 9, len(keys))]
        table = made.table_of([*columns, *([np.full(len(keys), 40)] if extra else [])], [*PAIRS_SCHEMA.names, *extra])
        yield Counts(counts, table).to_bytes()


def merge_pairs(sizes: Sizes, work: Path) -> Fed:
    """A worker merges pairs of one part by first word: ten billion different ones are in all of them."""
    parts, payloads = FIRST_PARTS * sizes.partitions, sizes.of(4000)
    source = Made(lambda: pair_payloads(payloads, PAIR_LIMIT // parts, max(2, sizes.of(2e5))))
    drive(_MergePairs(config_of(work, phrases=1), Spill(), sizes.partitions), [(0, source)])
    return Fed(source.elements, source.bytes, payloads / sizes.of(125_000) / parts, source.seconds)


def score_pairs(sizes: Sizes, work: Path) -> Fed:
    """A worker scores the frequent pairs, of 500 M, of one part by second word."""
    payloads, parts = FIRST_PARTS * sizes.partitions, max(1, sizes.partitions // SECOND_SHARE)
    pairs = max(1, sizes.of(5e8) // payloads // parts)
    source = Made(lambda: pair_payloads(payloads, pairs, sizes.of(2e5), ["first_count"]))
    drive(_ScorePairs(1, config_of(work, phrases=1), Spill()), [(0, source)], 10**12)
    return Fed(source.elements, source.bytes, 1 / parts, source.seconds)


def set_letters_aside(sizes: Sizes, work: Path) -> Fed:
    """One worker puts together what a tenth of the bundles set aside, 4 GB of letters; it keeps 16 MiB."""
    config, bundles = config_of(work), sizes.of(10_000)

    def found() -> Iterator[SetAside]:
        for number in range(bundles):
            letters = [DeadLetter(place * 1000, "invalid-utf-8", bytes(2000)) for place in range(200)]
            yield set_aside(config.max_dead_letter_bytes, f"{number:08d}", letters)

    source = Made(found)
    aside = _Together(config.max_dead_letter_bytes).merge_accumulators(source)
    write_dead_letters(run_of(work).folder, aside)
    return Fed(source.elements, source.elements * 200 * 2000, bundles / sizes.bundles, source.seconds)


def make_kept(sizes: Sizes, work: Path) -> None:
    """Make what the partitions leave of the vocabulary's words."""
    ids = np.arange(sizes.words, dtype=np.int64)
    split = split_by_hash(made.counts_of(ids, 4 * 10**10 // (ids + 1) + 5), "token", sizes.partitions)
    batch_rows = max(1, MERGE_ROWS // sizes.partitions)
    keep(work, "kept", [table_to_bytes(order_rows(table).combine_chunks(), batch_rows) for table in split])


def write_vocabulary(sizes: Sizes, work: Path) -> Fed:
    """One worker merges all partitions' words."""
    partitions, run = kept(work, "kept"), run_of(work)
    keep(work, "vocabulary", vocabulary.write_vocabulary(run.config, run.folder, None, partitions, Spill()))
    return Fed(sizes.words, sum(map(len, partitions)))


def plan_shards(sizes: Sizes, work: Path) -> Fed:
    """One worker lays all chunks out."""
    source = Made(lambda: made.packed_chunks(ChunkStats, sizes.chunks, sizes.files))
    keep(work, "plan", finish.plan_shards(run_of(work), source, described(sizes)))
    return Fed(sizes.chunks, source.bytes, making_s=source.seconds)


def described(sizes: Sizes) -> VocabularyFile:
    """A vocabulary of which half of the tokens are kept."""
    totals = VocabularyTotals(sizes.words, sizes.of(1e12), "0" * 64)
    return VocabularyFile("", FileEntry(1, "0" * 64), totals, sizes.of(1e12) / 2)


def encode_chunks(sizes: Sizes, work: Path) -> Fed:
    """A worker encodes a bundle, with the whole vocabulary and the whole plan."""
    batches, size = text_batches(work)
    drive(_EncodeChunks(config_of(work), Spill()), batches, kept(work, "vocabulary"), kept(work, "plan"), ())
    return Fed(len(batches) * FILE_TOKENS, size, len(batches) * FILE_TOKENS / sizes.of(1e12))


def write_shards(pairs: int, shards: int) -> Callable[[Sizes, Path], Fed]:
    """Let a worker write shards of so many pairs, with the whole vocabulary."""

    def run(sizes: Sizes, work: Path) -> Fed:
        tokens, chunk = sizes.of(pairs / 4.5), 160_000

        def runs(shard: int) -> Iterator[bytes]:
            for number, start in enumerate(range(0, tokens, chunk)):
                ids = made.zipf_ids(min(chunk, tokens - start), sizes.words, 3, shard, number).astype(np.int32)
                lengths = np.diff(np.append(np.arange(0, len(ids), 20), len(ids))).astype(np.int32)
                yield SentenceRun(shard, number, 0, lengths, ids).to_bytes()

        sources_ = [Made(lambda shard=shard: runs(shard)) for shard in range(shards)]
        do_fn = _WriteShards(config_of(work), Spill(), run_of(work).folder)
        drive(do_fn, enumerate(sources_), kept(work, "vocabulary"), kept(work, "plan"))
        size, making = (sum(getattr(one, name) for one in sources_) for name in ("bytes", "seconds"))
        return Fed(shards, size, min(1.0, shards * tokens / sizes.of(1e12)), making)

    return run


def publish(passes: int, shards: int, groups: int) -> Callable[[Sizes, Path], Fed]:
    """Let one worker publish so many shards of each pass."""

    def run(sizes: Sizes, work: Path) -> Fed:
        counted = Made(lambda: made.packed_chunks(ChunkStats, sizes.chunks, sizes.files))
        encoded = Made(lambda: made.packed_chunks(EncodedChunk, sizes.chunks, sizes.files))
        written = Made(lambda: made.packed_shards(passes, sizes.of(shards), groups))
        found = run_of(work, passes=passes, output=str(work / f"out-{passes}-{groups}"))
        storage.write_bytes(found.listing, storage.read_bytes(run_of(work).listing))
        finish.publish(found, counted, encoded, described(sizes), NO_DEAD_LETTERS, written, [])
        fed = (counted, encoded, written)
        return Fed(2 * sizes.chunks + written.elements, sum(one.bytes for one in fed), 1, sum(o.seconds for o in fed))

    return run


def open_list(passes: int, groups: int) -> Callable[[Sizes, Path], Fed]:
    """Let a trainer open what was published, and order its first epoch's row groups."""

    def run(sizes: Sizes, work: Path) -> Fed:
        with mock.patch.object(storage, "is_local", return_value=False):  # as in a store, where no file is looked for
            dataset = open_dataset(str(work / f"out-{passes}-{groups}"))
        order = epoch_order(dataset, 1, 0)
        return Fed(len(order), dataset.manifest.files["shards.parquet"].bytes)

    return run


def tell(passes: int, groups: int) -> Callable[[Sizes, Path], Fed]:
    """Let the launcher read back what was published."""

    def run(sizes: Sizes, work: Path) -> Fed:
        with mock.patch.object(storage, "is_local", return_value=False):
            said = cli.summary(run_of(work, passes=passes, output=str(work / f"out-{passes}-{groups}")))
        return Fed(sum(said["shards"]), 0)

    return run


STAGES = {
    "listing": Stage("launcher", "files", list_files),
    "reading the list": Stage("worker", "batches", read_list, needs=("listing",)),
    "counting": Stage("worker", "tokens", count_tokens, make_text),
    "merging counts": Stage("worker", "payloads", merge_counts),
    "merging pairs": Stage("worker", "payloads", merge_pairs),
    "scoring pairs": Stage("worker", "payloads", score_pairs),
    "dead letters": Stage("worker", "bundles", set_letters_aside),
    "vocabulary": Stage("worker", "words", write_vocabulary, make_kept),
    "plan": Stage("worker", "chunks", plan_shards),
    "encoding": Stage("worker", "tokens", encode_chunks, needs=("counting", "vocabulary", "plan")),
    "writing, 16Mi": Stage("worker", "shards", write_shards(16 << 20, 8), needs=("vocabulary", "plan")),
    "writing, 64Mi": Stage("worker", "shards", write_shards(64 << 20, 5), needs=("vocabulary", "plan")),
    "publication, 16Mi, 5 passes": Stage("worker", "rows", publish(5, 265_000, 16), needs=("listing",)),
    "publication, 64Mi, 1 pass": Stage("worker", "rows", publish(1, 66_000, 64), needs=("listing",)),
    "opening, 16Mi, 5 passes": Stage("worker", "row groups", open_list(5, 16), needs=("publication, 16Mi, 5 passes",)),
    "opening, 64Mi, 1 pass": Stage("worker", "row groups", open_list(1, 64), needs=("publication, 64Mi, 1 pass",)),
    "summary": Stage("launcher", "shards", tell(5, 16), needs=("publication, 16Mi, 5 passes",)),
}


def with_needed(names: Sequence[str]) -> list[str]:
    """Add the stages that some need, and put all in order."""
    wanted = set(names)
    while more := {need for name in wanted for need in STAGES[name].needs} - wanted:
        wanted |= more
    return [name for name in STAGES if name in wanted]
