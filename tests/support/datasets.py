"""Small datasets for tests, written through the contract alone: no Beam, no tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset import shard_index
from pipeline.dataset.manifest import INPUTS, SHARDS, VOCAB, CorpusTotals, Manifest, PassTotals, VocabularyTotals
from pipeline.dataset.publish import file_entries, pass_totals, publish_run
from pipeline.dataset.schema import INPUTS_SCHEMA, SHARDS_SCHEMA, sha256_hex
from pipeline.dataset.shards import Pairs, Shard, encode_shard, shard_name
from pipeline.dataset.vocabulary import Vocabulary, make_vocabulary, save_vocab
from pipeline.storage import storage

Groups = Sequence[Pairs]


def window_pairs(sentence: Sequence[int], window: int) -> Pairs:
    """Every pair of one sentence of ids with a fixed window, in the order of the format."""
    pairs = [
        (center, sentence[j])
        for i, center in enumerate(sentence)
        for j in range(max(0, i - window), min(len(sentence), i + window + 1))
        if i != j
    ]
    flat = np.array(pairs, np.int32).reshape(-1, 2)
    return flat[:, 0].copy(), flat[:, 1].copy()


def join_pairs(parts: Sequence[Pairs]) -> Pairs:
    """Concatenate pairs."""
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def group_of(sentences: Sequence[Sequence[int]], window: int = 2) -> Pairs:
    """All pairs of some sentences as one row group."""
    return join_pairs([window_pairs(sentence, window) for sentence in sentences])


def make_dataset(
    root: Path | str,
    vocabulary: Vocabulary | None = None,
    passes: Sequence[Sequence[Groups]] = (),
    run_id: str = "run-1",
    compression: str = "zstd",
) -> str:
    """Write and publish a dataset; return its URI.

    Args:
        root: the dataset's folder.
        vocabulary: by default w0, w1, … for as many ids as the pairs use, counted from the contexts.
        passes: per pass the shards, per shard the row groups.
        run_id: the run's name.
        compression: as for encode_shard.
    """
    uri = str(root)
    contexts = [group[1] for shards in passes for groups in shards for group in groups]
    centers = [group[0] for shards in passes for groups in shards for group in groups]
    if vocabulary is None:
        counts = np.bincount(np.concatenate(contexts + centers))
        vocabulary = make_vocabulary([f"w{i}" for i in range(len(counts))], np.maximum(counts, 1).tolist())
    folder = storage.join(uri, "runs", run_id)
    described = []
    for index, shards in enumerate(passes):
        for number, groups in enumerate(shards):
            name = shard_name(index, number, len(shards))
            data, shard = encode_shard(index, name, groups, compression)
            storage.write_bytes(storage.join(folder, name), data)
            described.append(shard)
    total = int(vocabulary.counts.sum())
    return publish_dataset(uri, run_id, vocabulary, described, len(passes), total)


def save_shards(shards: Iterable[Shard]) -> pa.Buffer:
    """The bytes of a shards.parquet that lists such shards, ordered by pass and name."""
    ordered = sorted(shards, key=lambda shard: (shard.pass_index, shard.name))
    rows = [
        {**vars(s), "pass": s.pass_index, "shard": s.name, "row_groups": list(map(vars, s.row_groups))} for s in ordered
    ]
    return shard_index.save_shards([pa.Table.from_pylist(rows, schema=SHARDS_SCHEMA)])


def totals_of(kept: int, shards: Sequence[Shard]) -> PassTotals:
    """What the manifest says of a pass of such shards."""
    ordered = sorted(shards, key=lambda shard: shard.name)
    return pass_totals(kept, np.array([s.rows for s in ordered], np.int64), "".join(s.digest for s in ordered))


def publish_dataset(
    uri: str, run_id: str, vocabulary: Vocabulary, described: Sequence[Shard], passes: int, tokens: int, **options: Any
) -> str:
    """Write what describes shards that are in their places already, and publish; return the dataset's URI.

    Args:
        uri: the dataset's folder.
        run_id: the run's name.
        vocabulary: the words.
        described: all shards.
        passes: how many.
        tokens: raw words of the corpus.
        options: what the manifest says of how it was made.
    """
    folder, total = storage.join(uri, "runs", run_id), int(vocabulary.counts.sum())
    sink = pa.BufferOutputStream()
    digest = sha256_hex("".join(shard.digest for shard in described).encode())[:32]
    inputs = [{"name": "made.txt", "bytes": 1, "digest": digest, "lines": 1, "tokens": tokens}]
    pq.write_table(pa.Table.from_pylist(inputs, schema=INPUTS_SCHEMA), sink)
    files = {VOCAB: save_vocab(vocabulary), SHARDS: save_shards(described), INPUTS: sink.getvalue()}
    for name, content in files.items():
        storage.write_bytes(storage.join(folder, name), content)
    manifest = Manifest(
        tokenizer={"name": "made"},
        options=options,
        corpus=CorpusTotals(1, 1, 1, 1, tokens, total, {}, 0),
        vocabulary=VocabularyTotals(len(vocabulary), total, vocabulary.digest),
        passes=tuple(totals_of(total, [s for s in described if s.pass_index == i]) for i in range(passes)),
        files=file_entries(files),
    )
    publish_run(uri, run_id, manifest, storage.read_pointer(storage.join(uri, "LATEST.json")))
    return uri
