"""Pair shards from plain text with NumPy and Arrow alone, for machines that lack the pipeline's compiler.

Lower-case a–z words, one sentence a line; the pipeline's rules of subsampling and windows with other random draws.

Shapes: T tokens that were kept, W the window, N pairs.
"""

from __future__ import annotations

import glob
import gzip
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.shards import Pairs, Shard, encode_shard, shard_name
from pipeline.dataset.vocabulary import Vocabulary, make_vocabulary
from pipeline.pairs.subsample import keep_probabilities
from pipeline.storage import storage
from tests.support.datasets import publish_dataset

WINDOW, SAMPLE, MIN_COUNT, LONGEST_SENTENCE = 5, 1e-3, 5, 10_000
GROUPS_A_SHARD = 16
_LETTERS = bytes(
    byte if chr(byte).islower() or byte == 10 else byte + 32 if chr(byte).isupper() else 32 for byte in range(128)
) + b" " * 128  # fmt: skip


@dataclass(frozen=True, eq=False)
class Corpus:
    """Text as ids.

    Attributes:
        ids_T: int32, of words in the vocabulary.
        sentence_T: which sentence each stands in, ascending.
        words: before the vocabulary is applied.
    """

    vocabulary: Vocabulary
    ids_T: npt.NDArray[np.int32]
    sentence_T: npt.NDArray[np.int32]
    words: int


def read_words(path: str) -> bytes:
    """The text of a file, a folder or a glob, plain or .gz, with everything but a–z and line ends turned to spaces."""
    files = sorted(Path(path).iterdir()) if Path(path).is_dir() else [Path(one) for one in sorted(glob.glob(path))]
    if not files:
        raise SystemExit(f"error: --corpus {path}: no such file")
    with ThreadPoolExecutor() as pool:
        parts = pool.map(
            lambda one: gzip.decompress(one.read_bytes()) if one.suffix == ".gz" else one.read_bytes(), files
        )
        return b"\n".join(part.translate(_LETTERS) for part in parts)


def read_corpus(path: str, min_count: int = MIN_COUNT) -> Corpus:
    """Count and encode; words in order of count, then of bytes."""
    lines = pa.array(read_words(path).split(b"\n"), pa.large_binary()).cast(pa.large_string())
    lists = pc.utf8_split_whitespace(pc.ascii_trim_whitespace(lines))
    coded = pc.dictionary_encode(lists.flatten())
    ends = lists.offsets.to_numpy()
    sentence = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
    place = np.arange(sentence.size) - ends[sentence]
    sentence = sentence + np.concatenate([[0], np.cumsum(np.diff(place // LONGEST_SENTENCE) > 0)])
    codes, tokens = coded.indices.to_numpy(), coded.dictionary.to_pylist()
    counts = np.bincount(codes, minlength=len(tokens))
    words = int(counts.sum() - (counts[tokens.index("")] if "" in tokens else 0))
    known = [code for code in np.flatnonzero(counts >= min_count).tolist() if tokens[code]]
    known.sort(key=lambda code: (-counts[code], tokens[code]))
    id_of = np.full(len(tokens), -1, np.int32)
    id_of[known] = np.arange(len(known), dtype=np.int32)
    ids = id_of[codes]
    vocabulary = make_vocabulary([tokens[code] for code in known], [int(counts[code]) for code in known])
    return Corpus(vocabulary, ids[ids >= 0], sentence[ids >= 0].astype(np.int32), words)


def make_pairs(
    ids_T: npt.NDArray[np.int32], sentence_T: npt.NDArray[np.int32], radius_T: npt.NDArray[np.int64]
) -> Pairs:
    """Every pair of whole sentences, in the order of the format."""
    around = np.array([*range(-WINDOW, 0), *range(1, WINDOW + 1)])
    size = ids_T.size
    padded_ids, padded_sentence = (np.pad(array, WINDOW, constant_values=-1) for array in (ids_T, sentence_T))
    columns = [padded_ids[WINDOW + d : WINDOW + d + size] for d in around]
    same = [
        (padded_sentence[WINDOW + d : WINDOW + d + size] == sentence_T) & (abs(d) <= radius_T) for d in around.tolist()
    ]
    is_pair = np.stack(same, axis=1)
    return np.repeat(ids_T, is_pair.sum(axis=1)), np.stack(columns, axis=1)[is_pair]


def row_groups(corpus: Corpus, pass_index: int, group_pairs: int) -> Iterator[tuple[int, int]]:
    """Where to cut the tokens so that a row group of whole sentences has about so many pairs: (begin, end) each."""
    keep_V = keep_probabilities(corpus.vocabulary.counts, SAMPLE)
    pairs_before = np.cumsum(keep_V[corpus.ids_T]) * (WINDOW + 1)
    starts = np.flatnonzero(np.diff(corpus.sentence_T, prepend=-1))
    wanted = np.arange(1, int(pairs_before[-1] // group_pairs) + 1) * group_pairs
    cuts = starts[np.minimum(np.searchsorted(starts, np.searchsorted(pairs_before, wanted)), len(starts) - 1)]
    edges = np.unique([0, *cuts.tolist(), corpus.ids_T.size]).tolist()
    return pairwise(edges)


def make_shards(corpus: Corpus, uri: str, run_id: str, passes: int, group_pairs: int, threads: int) -> list[Shard]:
    """Draw, write and describe the shards of all passes."""
    keep_V = keep_probabilities(corpus.vocabulary.counts, SAMPLE)

    def group(pass_index: int, begin: int, end: int) -> Pairs:
        random = np.random.default_rng([pass_index, begin])
        kept = random.random(end - begin) < keep_V[corpus.ids_T[begin:end]]
        radius_T = random.integers(1, WINDOW + 1, int(kept.sum()))
        return make_pairs(corpus.ids_T[begin:end][kept], corpus.sentence_T[begin:end][kept], radius_T)

    def shard(pass_index: int, number: int, count: int, cuts: list[tuple[int, int]]) -> Shard:
        name = shard_name(pass_index, number, count)
        groups = (pairs for cut in cuts if (pairs := group(pass_index, *cut))[0].size)
        data, described = encode_shard(pass_index, name, groups, "lz4")
        storage.write_bytes(storage.join(uri, "runs", run_id, name), data)
        return described

    with ThreadPoolExecutor(threads) as pool:
        waiting = []
        for pass_index in range(passes):
            cuts = list(row_groups(corpus, pass_index, group_pairs))
            parts = [cuts[at : at + GROUPS_A_SHARD] for at in range(0, len(cuts), GROUPS_A_SHARD)]
            waiting += [pool.submit(shard, pass_index, i, len(parts), part) for i, part in enumerate(parts)]
        return [one.result() for one in waiting]


def make_gpu_dataset(
    path: str, uri: str, *, passes: int, threads: int, min_count: int = MIN_COUNT, group_pairs: int = 1 << 20
) -> Corpus:
    """Turn text into a published dataset of independent passes."""
    corpus, run_id = read_corpus(path, min_count), "made"
    shards = make_shards(corpus, uri, run_id, passes, group_pairs, threads)
    publish_dataset(uri, run_id, corpus.vocabulary, shards, passes, corpus.words, window=WINDOW, sample=SAMPLE)
    return corpus
