"""The steps of a round of joining phrases: reading a chunk, writing what was found, comparing what was read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import xxhash

from pipeline import stages
from pipeline.chunk_tables import Table, file_digests, join_tables
from pipeline.chunks import Chunk
from pipeline.dataset import storage
from pipeline.dataset.phrases import phrases_name, save_phrases
from pipeline.dataset.publish import file_entries
from pipeline.errors import InputError
from pipeline.inputs import InputFile
from pipeline.options import Config
from pipeline.phrase_counts import PairCounter, as_phrases
from pipeline.phrases import Phrases
from pipeline.results import PhraseFile


class ReadChunk(NamedTuple):
    """What a round learns of one chunk: its tokens, after earlier rounds, and the XXH3-128 (hex) of its raw bytes."""

    file: int
    chunk: int
    tokens: int
    digest: str


def count_chunk_pairs(
    file: InputFile, chunk: Chunk, config: Config, phrases: Phrases, counter: PairCounter
) -> ReadChunk:
    """Count one chunk's tokens and neighbours; what is set aside is reported by the counting pass."""
    tokens, _ = stages.tokenize_chunk(file, chunk, config, phrases)
    counter.add(tokens)
    return ReadChunk(file.ordinal, chunk.index, len(tokens.starts_T), xxhash.xxh3_128_hexdigest(chunk.data))


def write_phrases(folder: str, number: int, tables: Sequence[pa.Table], read: Sequence[Table]) -> PhraseFile:
    """Write the phrases of round ``number`` into the run's folder.

    Each round has a file of its own, so that a step done again finds what it found the first time.
    """
    table, name = as_phrases(tables), phrases_name(number)
    data, uri = save_phrases(table), storage.join(folder, name)
    storage.write_bytes(uri, memoryview(data))
    digests = file_digests(join_tables(read, ReadChunk))
    return PhraseFile(name, uri, file_entries({name: memoryview(data)})[name], len(table), digests)


def require_same_text(files: Iterable[InputFile], rounds: Iterable[PhraseFile], counted: Mapping[int, str]) -> None:
    """Refuse an input that was not the same in every round and in the counting pass, which had these digests.

    Raises:
        InputError: names the file.
    """
    texts = [found.digests for found in rounds if found.digests is not None]
    for file in files:
        if any(text.get(file.ordinal) != counted.get(file.ordinal) for text in texts):
            raise InputError(f"{storage.redact(file.uri)}: changed between a phrase and the counting pass")
