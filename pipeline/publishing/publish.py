"""The steps where a run comes together: the plan of the shards, and publication."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from pipeline.config import Config
from pipeline.dataset.manifest import INPUTS, RUN, SHARDS, VOCAB, CorpusTotals, FileEntry, Manifest
from pipeline.dataset.publish import file_entries, publish_run
from pipeline.dataset.schema import ROW_GROUP_PAIRS, canonical_json
from pipeline.dataset.shard_index import save_shards
from pipeline.errors import ConfigError, InputError
from pipeline.inputs.chunks import CHUNK_BYTES
from pipeline.inputs.listing import LISTING, read_listing
from pipeline.pairs.chunk_stats import Rows, file_digests, first_difference, join_rows, sum_of
from pipeline.pairs.shard_plan import ChunkStats, PlanFile, make_plan, remove_plan, save_plan, sentence_lengths
from pipeline.progress import require_running
from pipeline.publishing.lease import drop_lease
from pipeline.publishing.written import WrittenShards
from pipeline.results import NOTHING_PASSED_OVER, DeadLetters, PassedOver, PhraseFile, VocabularyFile
from pipeline.stages import chunks
from pipeline.stages.phrase_rounds import ReadChunk
from pipeline.storage import storage
from pipeline.text.tokenize import describe_tokenizer
from pipeline.vocabulary.extend import Base
from pipeline.vocabulary.partitions import FEWEST_PARTITIONS


@dataclass(frozen=True)
class Run:
    """One run of the pipeline, as every worker knows it.

    Attributes:
        config: what to build.
        run_id: its name.
        expected: content of LATEST.json when the run started, None where there was none.
        started: UTC start time, ISO 8601.
        runner: Beam's name of what executes it.
        base: the vocabulary that it extends.
        passed_over: files that --input matches and that hold no data.
        partitions: parts into which counted words fall, by the size of the input.
        stage_seconds: seconds of each stage, filled in by the launcher where the stages ran in its process.
    """

    config: Config
    run_id: str
    expected: bytes | None
    started: str
    runner: str
    base: Base | None = None
    passed_over: PassedOver = NOTHING_PASSED_OVER
    partitions: int = FEWEST_PARTITIONS
    stage_seconds: dict[str, float] = field(default_factory=dict, compare=False)

    @property
    def folder(self) -> str:
        return storage.join(self.config.output, "runs", self.run_id)

    @property
    def listing(self) -> str:
        """URI of the list of its input files."""
        return storage.join(self.folder, LISTING)


def check_dead_letters(run: Run, counted: Iterable[bytes], dead: DeadLetters) -> str:
    """Compare what was set aside with the limit; return it in words, "" for nothing.

    Raises:
        InputError: the dead letters are more than --max-dead-letter-fraction of the text.
    """
    config = run.config
    total, set_aside = sum_of(counted, ChunkStats, "bytes"), dead.bytes
    if config.input_format != "text":
        total += dead.line_bytes  # records that were set aside are in no chunk
    if set_aside > config.max_dead_letter_fraction * total:
        flags = ", ".join(sorted({_FLAGS[reason] for reason in dead.reasons}))
        raise InputError(
            f"{storage.redact(run.folder)}/dead-letters: found {set_aside} of {total} bytes set aside "
            f"({_share(set_aside, total)}: {_in_words(run, dead)}), "
            f"expected at most --max-dead-letter-fraction {config.max_dead_letter_fraction}; see {flags}"
        )
    return _in_words(run, dead)


#: What decides whether something is set aside, by reason.
_FLAGS = {
    "invalid-utf-8": "--encoding", "invalid-json": "--input-format", "token-too-long": "--max-token-bytes",
    "no-text-field": "--text-field (for lists --tokenizer items)", "no-list-field": "--text-field (for text another "
    "--tokenizer)", "invalid-item": "--tokenizer",
}  # fmt: skip


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.3%}" if part < whole else "100%"


def _in_words(run: Run, dead: DeadLetters) -> str:
    counts, firsts = dead.reasons, sorted(dead.firsts.items())
    return "; ".join(f"{counts[why]:,} {why}, first in {place_of(*place, why, run.config)}" for why, place in firsts)


def place_of(file: str, offset: int, reason: str, config: Config) -> str:
    """Say where a dead letter was found: records of Parquet have row numbers."""
    unit = "row" if config.input_format == "parquet" and reason != "token-too-long" else "byte"
    return f"{file} at {unit} {offset:,}"


def plan_shards(run: Run, counted: Iterable[bytes], vocabulary: VocabularyFile) -> PlanFile:
    """Lay out the shards.

    In one place, 44 bytes a chunk that are held twice while they are sorted, and 40 more: 0.9 GB of 6.3 M chunks.

    Raises:
        InputError: the text has no token.
    """
    config, stats = run.config, join_rows(counted, ChunkStats)
    tokens = stats.total("tokens")
    if not tokens:
        raise InputError("--input: found no token in the text of its files, expected text")
    plan = make_plan(
        stats, kept_share=vocabulary.kept / tokens, window=config.window,
        shard_pairs=config.shard_pairs, seed=config.seed,
    )  # fmt: skip
    return save_plan(plan, run.folder)


def publish(
    run: Run,
    counted: Iterable[bytes],
    encoded: Iterable[bytes],
    vocabulary: VocabularyFile,
    dead: DeadLetters,
    written: Iterable[bytes],
    phrases: Sequence[PhraseFile],
    *read: Iterable[bytes],
) -> str:
    """Compare the passes, write the tables and the manifest, swap the pointer.

    What is known of the chunks is packed: rows of ChunkStats counted, of EncodedChunk encoded, and of ReadChunk read by
    each round of phrases. So are the shards written. One of these large inputs is held at a time.

    Returns:
        The dataset's id.

    Raises:
        InputError: an input file changed between two passes.
        ConfigError: no pair came out.
        PointerMovedError: another run was published meanwhile.
    """
    require_running()
    files: dict[str, FileEntry] = {VOCAB: vocabulary.entry, **dead.files}
    files |= {found.name: found.entry for found in phrases}
    corpus, lengths = _publish_inputs(run, counted, encoded, dead, read, files)
    shards = WrittenShards(written)
    if not len(shards):
        raise ConfigError("--min-count, --sample: found no sentence with two words left, expected at least one pair")
    _write(run, SHARDS, save_shards(shards.tables()), files)
    manifest = Manifest(
        tokenizer=describe_tokenizer(run.config.tokenizer),
        options=_shaping_options(run),
        corpus=corpus,
        vocabulary=vocabulary.totals,
        passes=tuple(shards.totals(index) for index in range(run.config.passes)),
        files=files,
    )
    require_running()  # from here on it is published
    storage.write_bytes(storage.join(run.folder, RUN), canonical_json(_describe_run(run, lengths, dead)))
    publish_run(run.config.output, run.run_id, manifest, run.expected)
    remove_plan(run.folder)
    drop_lease(run.folder)
    return manifest.dataset_id


def _publish_inputs(
    run: Run,
    counted: Iterable[bytes],
    encoded: Iterable[bytes],
    dead: DeadLetters,
    read: Iterable[Iterable[bytes]],
    files: dict[str, FileEntry],
) -> tuple[CorpusTotals, list[int]]:
    """Write inputs.parquet; return what was read, and sentences by their lengths."""
    listing, stats = read_listing(run.listing), join_rows(counted, ChunkStats)
    digests = file_digests(stats.rows)
    for one in read:
        found = file_digests(join_rows(one, ReadChunk).rows)
        _require_same_text(listing, digests, found, "a phrase and the counting pass")
    _write(run, INPUTS, chunks.describe_inputs(listing["name"], stats.rows, digests), files)
    totals = {name: stats.total(name) for name in ("bytes", "lines", "sentences", "tokens")}
    lengths = sentence_lengths(stats)
    del stats  # else those of both passes would be held at once
    paired = join_rows(encoded, chunks.EncodedChunk)
    _require_same_text(listing, digests, file_digests(paired.rows), "the counting and the pair pass")
    kept = (None, None) if dead.kept == dead.reasons else (dead.kept, dead.kept_bytes)
    corpus = CorpusTotals(
        files=len(listing), **totals, in_vocabulary=paired.total("in_vocabulary"), dead_letters=dead.reasons,
        dead_letter_bytes=dead.bytes, kept_dead_letters=kept[0], kept_dead_letter_bytes=kept[1],
    )  # fmt: skip
    return corpus, lengths


def _write(run: Run, name: str, data: pa.Buffer, files: dict[str, FileEntry]) -> None:
    """Write a file of the run, and note it for the manifest."""
    storage.write_bytes(storage.join(run.folder, name), memoryview(data))
    files |= file_entries({name: memoryview(data)})


def _shaping_options(run: Run) -> dict[str, object]:
    options = {**run.config.shaping_options(), "chunk_bytes": CHUNK_BYTES, "row_group_pairs": ROW_GROUP_PAIRS}
    if run.base:
        options["vocab"] = {"digest": run.base.digest, "rows": run.base.rows}
        options |= {"phrases": len(run.base.phrases)} if run.base.phrases else {}
    return options


def _require_same_text(listing: pa.Table, one: Rows, other: Rows, passes: str) -> None:
    """Refuse an input that was not the same in two passes."""
    ordinal = first_difference(one, other)
    if ordinal is not None:
        uri = storage.redact(listing["uri"][ordinal].as_py())
        raise InputError(f"{uri}: changed between {passes}")


def _describe_run(run: Run, lengths: Sequence[int], dead: DeadLetters) -> dict[str, object]:
    """Describe what may differ between two runs of equal bytes, and what only a report needs."""
    versions = dict.fromkeys(("pairstream", "apache-beam", "numpy", "pyarrow", "numba", "regex"), "not installed")
    for package in versions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # a checkout may take its place
            versions[package] = importlib.metadata.version(package)
    return {
        "format_version": 1,
        "run": run.run_id,
        "started": run.started,
        "runner": run.runner,
        "input": [storage.redact(pattern) for pattern in run.config.input],
        "passed_over": run.passed_over._asdict(),
        "first_dead_letters": {reason: list(place) for reason, place in dead.firsts.items()},
        "sentence_lengths": list(lengths),
        "versions": {"python": platform.python_version(), **versions},
    }
