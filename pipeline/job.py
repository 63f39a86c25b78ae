"""The whole graph, readable from top to bottom, and the launcher around it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import AsIter, AsList, AsSingleton
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from pipeline import progress, runners
from pipeline.config import Config
from pipeline.dataset.manifest import LATEST, MANIFEST, require_run_id
from pipeline.dataset.schema import FormatError
from pipeline.errors import ConfigError, LostJobError
from pipeline.inputs import splits
from pipeline.inputs.discover import list_inputs, refuse_output
from pipeline.inputs.listing import load_listing, save_listing
from pipeline.pairs.chunk_stats import pack_rows
from pipeline.pairs.shard_plan import ChunkStats
from pipeline.progress import Meter, require_running
from pipeline.publishing import clean, publish
from pipeline.publishing.lease import Writer, drop_lease, hold_lease
from pipeline.publishing.publish import Run
from pipeline.publishing.written import pack_shards
from pipeline.results import NO_DEAD_LETTERS, PassedOver
from pipeline.stages.chunks import EncodedChunk
from pipeline.stages.spill import make_spill
from pipeline.stages.vocabulary import write_vocabulary
from pipeline.storage import folders, storage
from pipeline.storage.globs import absolute_glob
from pipeline.transforms.pack import Pack, WriteDeadLetters
from pipeline.transforms.phrases import find_phrases
from pipeline.transforms.read import ReadListing, SplitRecords, SpreadChunks
from pipeline.transforms.text_to_pairs import (
    DEAD,
    ENCODED,
    RUNS,
    STATS,
    CountTokens,
    EncodeChunks,
    MergeCounts,
    WriteShards,
)
from pipeline.transforms.threads import COUNTS
from pipeline.vocabulary.extend import copy_phrases, find_base
from pipeline.vocabulary.partitions import partition_count


def build(pipeline: beam.Pipeline, run: Run, spill_folder: str | None, one_process: bool = False) -> None:
    """Add the whole job to ``pipeline``: two readings of the text, or --phrases more, each with a barrier after it.

    Ids go to the shards through files in ``spill_folder``, or through the shuffle where it is None. In ``one_process``,
    threads share the work, whatever one of them reads.
    """
    spill = make_spill(spill_folder)
    start = pipeline | "Start" >> beam.Create([None])
    batches = pipeline | "ReadListing" >> ReadListing(run.listing, run.config, splits.PART_BYTES)
    if run.config.input_format != "text" and not one_process:
        batches |= "SplitRecords" >> SplitRecords(run.config, splits.PART_BYTES)
    if spill_folder is None:  # where there may be other workers; here, threads share the work on what one reads
        batches |= "SpreadChunks" >> SpreadChunks(run.config, splits.PART_BYTES)

    base = run.base
    if base is None or not base.phrases:
        phrases, texts = find_phrases(batches, run.config, run.folder, spill_folder, run.partitions)
    else:
        phrases, texts = AsSingleton(start | "CopyPhrases" >> beam.Map(lambda _: copy_phrases(base, run.folder))), []
    counted = batches | "CountTokens" >> CountTokens(run.config, spill, phrases, run.partitions)
    stats = counted[STATS] | "PackStats" >> Pack(functools.partial(pack_rows, kind=ChunkStats))
    dead = counted[DEAD] | "WriteDeadLetters" >> WriteDeadLetters(run.config, run.folder)
    aside = AsSingleton(dead, default_value=NO_DEAD_LETTERS)
    # A token's partial counts meet in one partition, so a part of --min-count's work can be done there.
    partitions = counted[COUNTS] | "MergeCounts" >> MergeCounts(run.config, spill, base, run.partitions)
    set_aside = start | "CheckDeadLetters" >> beam.Map(
        lambda _, stats, parts: publish.check_dead_letters(run, stats, parts), AsIter(stats), aside
    )
    vocabulary = start | "WriteVocabulary" >> beam.Map(
        lambda _, parts, aside: write_vocabulary(run.config, run.folder, base, parts, spill, aside),
        AsList(partitions), AsSingleton(set_aside),
    )  # fmt: skip
    plan = start | "PlanShards" >> beam.Map(
        lambda _, stats, vocab: publish.plan_shards(run, stats, vocab), AsIter(stats), AsSingleton(vocabulary)
    )

    sides = (AsSingleton(vocabulary), AsSingleton(plan))
    encoded = batches | "EncodeChunks" >> EncodeChunks(run.config, spill, *sides, phrases)
    known = encoded[ENCODED] | "PackEncoded" >> Pack(functools.partial(pack_rows, kind=EncodedChunk))
    written = encoded[RUNS] | "WriteShards" >> WriteShards(run.config, spill, run.folder, *sides)
    shards = written | "PackShards" >> Pack(pack_shards)
    published = start | "Publish" >> beam.Map(
        lambda _, *found: publish.publish(run, *found),
        AsIter(stats), AsIter(known), AsSingleton(vocabulary), aside, AsIter(shards), phrases, *texts,
    )  # fmt: skip
    if run.config.keep:
        published | "RemoveOldRuns" >> beam.Map(lambda _: clean.try_remove_old_runs(run.config.output, run.config.keep))


def run_job(config: Config, beam_flags: Sequence[str]) -> Run:
    """Run the job, on the runner that the flags name or in this process, and wait for it if asked.

    Raises:
        PipelineError, FormatError, PointerMovedError: as the stages do; nothing is published then.
    """
    options = runners.read_options(beam_flags)
    runner = runners.name_of(options)
    in_process = runner == runners.IN_PROCESS
    runners.require_job_server(options)
    FileSystems.set_options(options)  # object stores cannot be listed before
    config = config if in_process else _for_other_folders(config)
    run, (listing, size, passed_over) = _start_run(config, runner), make_listing(config)
    run = dataclasses.replace(run, passed_over=passed_over, partitions=partition_count(size))
    soft = in_process and runners.shares_this_process(options)
    with (
        runners.stopping(soft),
        _workplace(run, in_process),
        _spill_folder(run, in_process) as spill_folder,
        _progress(run, size),
    ):
        storage.write_bytes(run.listing, memoryview(listing))
        with runners.naming(runner):
            pipeline = beam.Pipeline(runner=FnApiRunner() if in_process else None, options=options)
        build(pipeline, run, spill_folder, one_process=soft)
        require_running()
        with runners.naming(runner):
            result = pipeline.run()
            if config.wait or in_process:
                runners.wait_for(result, run.folder)
    return run


def _for_other_folders(config: Config) -> Config:
    """Name by its whole path what a worker would look for in the folder that it runs in."""
    output, vocab = storage.absolute(config.output), storage.absolute(config.vocab) if config.vocab else ""
    return dataclasses.replace(config, input=tuple(map(absolute_glob, config.input)), output=output, vocab=vocab)


def _start_run(config: Config, runner: str) -> Run:
    """Name the run, look at the pointer."""
    now = datetime.datetime.now(datetime.timezone.utc)
    run_id = config.run_id or f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    try:
        require_run_id(run_id, "--run-id")
    except FormatError as error:
        raise ConfigError(str(error)) from None
    pointer = storage.read_pointer(storage.join(config.output, LATEST))
    base = find_base(config)
    if base and base.tokenizer:
        config = dataclasses.replace(config, tokenizer=base.tokenizer)
    elif base and config.tokenizer == "unicode":
        print(
            f"warning: --vocab {storage.redact(config.vocab)}: a file alone does not say how its words were cut; "
            "this run cuts by the newest unicode rules (--tokenizer unicode-v1: by those of version 1)",
            file=sys.stderr,
        )
    run = Run(config, run_id, pointer, now.isoformat(), runner, base)
    if storage.exists(storage.join(run.folder, MANIFEST)):
        raise ConfigError(f"--run-id {run_id}: a finished run has that name; choose another")
    return run


def make_listing(config: Config) -> tuple[pa.Buffer, int, PassedOver]:
    """List the inputs; return the file that workers read the list from, the inputs' stored bytes, what is no input.

    Raises:
        InputError: as list_inputs and refuse_output do.
    """
    sink, passed_over = pa.BufferOutputStream(), list[str]()
    files = load_listing(config.input_list) if config.input_list else list_inputs(config.input, passed_over)
    count, size = save_listing(refuse_output(files, config.output), sink)
    if not count:
        raise ConfigError("--input: found no glob, expected at least one")
    return sink.getvalue(), size, PassedOver(len(passed_over), next(iter(passed_over), ""))


@contextlib.contextmanager
def _workplace(run: Run, in_process: bool) -> Iterator[None]:
    """Hold the run's lease; leave nothing of a failed run but its dead letters, which say why it failed."""
    with (
        folders.leaving_none(run.folder),  # also where the lease could not be written
        hold_lease(run.folder, run.runner, in_process) as before,
    ):
        if before in (Writer.DEAD, Writer.NONE):  # what an earlier run of that name left when it died or failed
            clean.remove_unfinished(run.config.output, run.run_id)
        try:
            yield
        except BaseException as error:
            # A cluster's job continues when its launcher is interrupted or cut off: it still needs what is there.
            if in_process or (isinstance(error, Exception) and not isinstance(error, LostJobError)):
                _leave(run, failed=True)
            raise
        if in_process or run.config.wait:
            _leave(run, failed=False)


def _leave(run: Run, failed: bool) -> None:
    """Take away what only a run that is being written has; of a run that failed, all but its dead letters."""
    with contextlib.suppress(OSError) if failed else contextlib.nullcontext():  # the run's own error is the one to tell
        if failed:  # a run that is complete stays, also if only another one was published first
            clean.remove_unfinished(run.config.output, run.run_id, but=["dead-letters"])
        else:
            clean.remove_temporaries(run.config.output, run.run_id)
        drop_lease(run.folder)


@contextlib.contextmanager
def _spill_folder(run: Run, in_process: bool) -> Iterator[str | None]:
    """Give the in-process runner a folder for ids, on the output's own disk where that is local."""
    if not in_process:
        yield None
        return
    local = storage.is_local(run.folder)
    folder = storage.join(storage.local_path(run.folder), "tmp") if local else tempfile.mkdtemp(prefix="pairstream-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _progress(run: Run, input_bytes: int) -> Iterator[None]:
    """Show how far the stages are, where they run in this process."""
    meter = Meter(input_bytes)
    progress.show(meter)
    try:
        yield
    finally:
        meter.close()
        progress.show(None)
        run.stage_seconds.update(meter.seconds)
