"""What happens to one file, chunk, partition or shard: plain functions, which the transforms wire together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from pipeline.config import Config
from pipeline.dataset.manifest import FileEntry
from pipeline.dataset.publish import file_entries
from pipeline.dataset.schema import INPUTS_SCHEMA
from pipeline.dataset.shards import Shard, encode_shard, shard_name
from pipeline.dataset.tables import encode_table
from pipeline.errors import InputError
from pipeline.inputs.chunks import Chunk
from pipeline.inputs.discover import InputFile
from pipeline.native.machine import PADDING
from pipeline.pairs.chunk_stats import Rows, file_bounds
from pipeline.pairs.draws import order_key
from pipeline.pairs.sentences import SentenceRun, split_runs
from pipeline.pairs.shard_plan import ChunkStats, Plan, weight_table
from pipeline.pairs.windows import PairMaker, PairRules
from pipeline.phrases.join import NO_PHRASES, Phrases
from pipeline.results import DeadLetters
from pipeline.storage import storage
from pipeline.text.dead_letters import SetAside, encode_parts
from pipeline.text.encodings import UTF_8
from pipeline.text.items import scan_items
from pipeline.text.normalize import DeadLetter, TextRules, line_offset, normalize_lines
from pipeline.text.tokenize import ITEMS, Tokens, drops_invisible, scan_tokens, token_classes
from pipeline.vocabulary.count import TokenCounter
from pipeline.vocabulary.lookup import TokenLookup


class EncodedChunk(NamedTuple):
    """What the pair pass learns of one chunk, to be compared with the counting pass."""

    file: int
    chunk: int
    in_vocabulary: int
    digest: str


def tokenize_chunk(
    file: InputFile, chunk: Chunk, config: Config, phrases: Phrases = NO_PHRASES
) -> tuple[Tokens, list[DeadLetter]]:
    """Normalise and cut one chunk, and join what is a phrase; also what was set aside.

    Raises:
        InputError: bytes that are not in --encoding, under --encoding-errors fail.
    """
    letters, limits = list[DeadLetter](), (config.max_token_bytes, config.max_sentence_tokens, chunk.torn)
    if config.tokenizer == ITEMS:
        tokens = scan_items(chunk.data, *limits)
    else:
        text, letters = _normalize(file, chunk, config)
        tokens = scan_tokens(text, token_classes(config.tokenizer), *limits, config.elisions)
    for line, start, length in tokens.oversize:
        # The offset is that of the line: normalisation may have moved what is in it.
        place = line_offset(chunk.data, chunk.offset, line)
        letters.append(DeadLetter(place, "token-too-long", tokens.text[start : start + length].tobytes()))
    return phrases.join(tokens), letters


def _normalize(file: InputFile, chunk: Chunk, config: Config) -> tuple[NDArray[np.uint8], list[DeadLetter]]:
    invisible = drops_invisible(config.tokenizer)
    rules = TextRules(config.lowercase, config.normalize, config.encoding_errors, invisible)
    try:
        return normalize_lines(chunk.data, chunk.offset, rules)
    except InputError as error:
        reason = str(error)
        if config.encoding != UTF_8:
            reason = f"found bytes that are not {config.encoding}, expected text in it (see --encoding-errors)"
        raise InputError(f"{storage.redact(file.uri)}: chunk at byte {chunk.offset}: {reason}") from None


def count_chunk(
    file: InputFile, chunk: Chunk, config: Config, counter: TokenCounter, phrases: Phrases = NO_PHRASES
) -> tuple[ChunkStats, list[DeadLetter]]:
    """Count one chunk's tokens into ``counter``."""
    tokens, letters = tokenize_chunk(file, chunk, config, phrases)
    counter.add(tokens)
    lengths = np.diff(tokens.ends_S, prepend=0)
    weights = weight_table(config.max_sentence_tokens, config.window, config.fixed_window)[lengths]
    stats = ChunkStats(
        file=file.ordinal,
        chunk=chunk.index,
        bytes=len(chunk.data),
        lines=chunk.lines,
        sentences=len(lengths),
        paired=int((lengths > 1).sum()),
        tokens=len(tokens.starts_T),
        weight=int(weights.sum()),
        digest=xxhash.xxh3_128_hexdigest(chunk.data),
        lengths=np.bincount(np.frexp(lengths)[1] - 1).astype("<u4").tobytes() if len(lengths) else b"",
    )
    return stats, letters


def load_kernels(config: Config) -> None:
    """Do for a few words what every chunk goes through, so that the first real one need not wait for compiled code."""
    text = "Zoë reads\n".encode()
    count_chunk(InputFile(0, "", "", len(text)), Chunk(0, 0, text), config, TokenCounter())


def load_later_kernels() -> None:
    """Do for a word what follows when a chunk was read, in the order in which a run comes to it."""
    normalize_lines(b"ASCII\n", 0, TextRules())
    counter, one = TokenCounter(), np.ones(1, np.int32)
    counter.add(Tokens(np.zeros(1 + PADDING, np.uint8), one - 1, one, one, []))
    [column] = [table["token"] for _, table in counter.partitions()]
    TokenLookup(column)
    # What a run has of these can only be read.
    one, thresholds = np.frombuffer(one.tobytes(), np.int32), np.frombuffer(bytes(16), np.uint64)
    rules = PairRules(window=1, fixed=False, seed=1, thresholds_V=thresholds)
    list(PairMaker(rules, 0).row_groups([SentenceRun(0, 0, 0, one, one)]))


def encode_chunk(
    file: InputFile, chunk: Chunk, config: Config, lookup: TokenLookup, plan: Plan, phrases: Phrases = NO_PHRASES
) -> tuple[EncodedChunk, list[tuple[int, SentenceRun]]]:
    """Encode one chunk and split it among the shards.

    Raises:
        InputError: the chunk is not one that the counting pass saw.
    """
    tokens, _ = tokenize_chunk(file, chunk, config, phrases)
    position = plan.start_of(file.ordinal, chunk.index)
    if position is None:
        raise InputError(f"{storage.redact(file.uri)}: changed between the counting and the pair pass")
    ids = lookup.encode(tokens)
    encoded = EncodedChunk(file.ordinal, chunk.index, int((ids >= 0).sum()), xxhash.xxh3_128_hexdigest(chunk.data))
    if not len(tokens.ends_S):
        return encoded, []
    lengths = np.diff(tokens.ends_S, prepend=0)
    weights = weight_table(config.max_sentence_tokens, config.window, config.fixed_window)[lengths]
    shards = plan.shard_of(position, weights)
    runs = split_runs(file.ordinal, chunk.index, ids, tokens.ends_S, shards)
    return encoded, [(shard, run) for shard, run in runs if len(run.ids_T)]


def write_shard(
    runs: Sequence[SentenceRun], rules: PairRules, pass_index: int, shard: int, shards: int, config: Config, folder: str
) -> tuple[Shard | None, int]:
    """Write one pass's pairs of a shard's sentences, which come in any order.

    Returns:
        The shard, None where no pair came out; and the tokens kept by subsampling.
    """
    ordered = sorted(
        runs, key=lambda r: (order_key(config.seed, "order", pass_index, r.file, r.chunk), r.file, r.chunk, r.first)
    )
    maker = PairMaker(rules, pass_index)
    name = shard_name(pass_index, shard, shards)
    data, described = encode_shard(pass_index, name, maker.row_groups(ordered), config.compression)
    if described.rows == 0:
        return None, maker.kept
    storage.write_bytes(storage.join(folder, name), memoryview(data))
    return described, maker.kept


def write_dead_letters(folder: str, found: SetAside) -> DeadLetters:
    """Write what is kept of the dead letters into the run's folder."""
    kept, files = found.kept(), dict[str, FileEntry]()
    for name, data in encode_parts(kept):
        storage.write_bytes(storage.join(folder, name), memoryview(data))
        files |= file_entries({name: memoryview(data)})
    return DeadLetters(
        files,
        found.tallies,
        dict(Counter(letter.reason for _, letter in kept)),
        sum(len(letter.content) for _, letter in kept),
    )


def describe_inputs(names: pa.ChunkedArray, rows: Rows, digests: Rows) -> pa.Buffer:
    """Encode inputs.parquet, a row for each file, from names by ordinal, rows of ChunkStats and their file_digests.

    A file's digest is XXH3-128 over its chunks' digests, so that files may be read in pieces.
    """
    bounds = file_bounds(rows)
    size, lines, tokens = (np.zeros(len(names), np.int64) for _ in range(3))
    for total, name in ((size, "bytes"), (lines, "lines"), (tokens, "tokens")):
        if len(rows):
            total[digests["file"]] = np.add.reduceat(rows[name], bounds[:-1], dtype=np.int64)
    digest = _digest_column(digests, len(names))
    return encode_table(pa.table([names.combine_chunks(), size, digest, lines, tokens], schema=INPUTS_SCHEMA))


def _digest_column(digests: Rows, files: int) -> pa.Array:
    """Return the digests in hexadecimal by ordinal, "" for files without text."""
    text = digests["digest"].tobytes().hex().encode("ascii")
    widths = np.zeros(files + 1, np.int32)
    widths[digests["file"] + np.uint32(1)] = 32
    ends = np.cumsum(widths, dtype=np.int64)
    return pa.LargeStringArray.from_buffers(files, pa.py_buffer(ends), pa.py_buffer(text)).cast(pa.string())
