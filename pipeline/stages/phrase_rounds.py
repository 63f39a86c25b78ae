"""The steps of a round of joining phrases: reading a chunk, writing what was found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import xxhash

from pipeline.config import Config
from pipeline.dataset.phrases import phrases_name, save_phrases
from pipeline.dataset.publish import file_entries
from pipeline.inputs.chunks import Chunk
from pipeline.inputs.discover import InputFile
from pipeline.phrases.join import Phrases
from pipeline.phrases.score import as_phrases
from pipeline.results import PhraseFile
from pipeline.stages import chunks
from pipeline.storage import storage
from pipeline.vocabulary.count import TokenCounter


class ReadChunk(NamedTuple):
    """What a round learns of one chunk: its tokens, after earlier rounds, and the XXH3-128 (hex) of its raw bytes."""

    file: int
    chunk: int
    tokens: int
    digest: str


def count_chunk_pairs(
    file: InputFile, chunk: Chunk, config: Config, phrases: Phrases, counter: TokenCounter
) -> ReadChunk:
    """Count one chunk's tokens and neighbours; what is set aside is reported by the counting pass."""
    tokens, _ = chunks.tokenize_chunk(file, chunk, config, phrases)
    counter.add(tokens)
    return ReadChunk(file.ordinal, chunk.index, len(tokens.starts_T), xxhash.xxh3_128_hexdigest(chunk.data))


def write_phrases(folder: str, number: int, tables: Sequence[pa.Table]) -> PhraseFile:
    """Write the phrases of round ``number`` into the run's folder.

    Each round has a file of its own, so that a step done again finds what it found the first time.
    """
    table, name = as_phrases(tables), phrases_name(number)
    data, uri = save_phrases(table), storage.join(folder, name)
    storage.write_bytes(uri, memoryview(data))
    return PhraseFile(name, uri, file_entries({name: memoryview(data)})[name], len(table))
