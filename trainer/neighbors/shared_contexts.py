"""Why two words are near: the context words that they share, counted in the pairs that a model learnt from.

A context's weight for a word is their pointwise mutual information over the pairs read, discounted where they were
seen together a few times only (Pantel & Lin 2002), and 0 where they attract each other not at all. What two words share
weighs as much as it does for the one that it binds less.

Shapes: T words, V rows of the dataset's vocabulary, N pairs of a row group, C contexts of a word.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.dataset.reader import Dataset, RowGroupRef, RowGroups, open_dataset
from pipeline.dataset.schema import FormatError
from pipeline.dataset.vocabulary import Vocabulary
from pipeline.storage import storage
from trainer.data.order import Place, read_ahead
from trainer.errors import UserError
from trainer.models.store import Info, read_run
from trainer.vectors.display import SharedContext
from trainer.vectors.search import Doubles, Ids, top_rows


@dataclass(frozen=True, eq=False)
class Contexts:
    """What occurred near some words, in the pairs that were read.

    Attributes:
        vocabulary: the dataset's.
        read: pairs that were read.
        of: pairs of a pass.
        context_counts_V: how often each word was a context, of any word.
        by_word: for each word asked, by id: its contexts' ids, and how often each occurred there.
    """

    vocabulary: Vocabulary
    read: int
    of: int
    context_counts_V: Ids
    by_word: dict[int, tuple[Ids, Ids]] = field(default_factory=dict)

    def weights(self, word: int) -> tuple[Ids, Doubles, Ids]:
        """Return a word's contexts: ids in ascending order, weights from 0, counts; all [C]."""
        ids_C, counts_C = self.by_word.get(word, (np.empty(0, np.int64), np.empty(0, np.int64)))
        total = int(counts_C.sum())
        around_C = self.context_counts_V[ids_C]
        information_C = np.log(counts_C * float(self.read) / np.maximum(around_C * float(total), 1))
        rarer_C = np.minimum(around_C, total)
        discount_C = counts_C / (counts_C + 1) * (rarer_C / (rarer_C + 1))
        return ids_C, np.maximum(information_C, 0) * discount_C, counts_C

    def shared(self, words: Sequence[str], other: str, top: int) -> list[SharedContext]:
        """Return the contexts that a word shares most with others, with the one of them that each binds most.

        The counts are with `words` and with `other`.
        """
        ids = [self.vocabulary.id_of(word) for word in words]
        groups = [self.weights(row) for row in ids if row is not None]
        row = self.vocabulary.id_of(other)
        if row is None or not groups:
            return []
        ids_C, weights_C, counts_C = functools.reduce(_stronger, groups)
        others_C, other_weights_C, other_counts_C = self.weights(row)
        both_C, at, other_at = np.intersect1d(ids_C, others_C, assume_unique=True, return_indices=True)
        weight_C = np.minimum(weights_C[at], other_weights_C[other_at])
        weight_C[weight_C <= 0] = -np.inf
        return [
            {
                "token": self.vocabulary.token(int(both_C[i])),
                "weight": round(float(weight_C[i]), 4),
                "counts": [int(counts_C[at[i]]), int(other_counts_C[other_at[i]])],
            }
            for i in top_rows(weight_C.astype(np.float32), top)
        ]


def open_lineage(model_uri: str, info: Info, data: str | None) -> Dataset:
    """Open the dataset that a model was trained on, where run.json says that it lay; or another one, at ``data``.

    Raises:
        UserError: it is not there any more, or is another one.
        FormatError: what is there is damaged.
    """
    if data is not None:
        return open_dataset(data)
    run = read_run(model_uri, info["version"])
    uri, expected = str(run.get("data", "")), info["lineage"].get("dataset_id")
    hint = "expected --data URI of the dataset to look into"
    if not uri:
        raise UserError(f"--explain: found no dataset in the model's run.json, {hint}")
    try:
        dataset = open_dataset(uri, run.get("data_run"))
    except FormatError as error:
        raise UserError(f"--explain: found no dataset where the model's lay ({error}); {hint}") from None
    if dataset.dataset_id != expected:
        raise UserError(
            f"--explain: {storage.redact(uri)}: found dataset {dataset.dataset_id[:16]}…, where the model's lineage "
            f"has {str(expected)[:16]}…; {hint}"
        )
    return dataset


def count_contexts(dataset: Dataset, vocabulary: Vocabulary, words: Iterable[str], pairs: int) -> Contexts:
    """Count what occurs near some words in whole row groups, spread evenly over the first pass.

    Both columns of a row group are all that it has, and are read; memory is bounded by the vocabulary and by ``pairs``.

    Args:
        dataset: where to look.
        vocabulary: the dataset's.
        words: those that it lacks have no contexts.
        pairs: how many to read at most, but for one row group.
    """
    ids_T = np.array(sorted({row for word in words if (row := vocabulary.id_of(word)) is not None}), np.int64)
    groups = _sample(dataset.row_groups(0), pairs)
    slots_V = np.full(len(vocabulary), -1, np.int32)
    slots_V[ids_T] = np.arange(len(ids_T))
    totals_V = np.zeros(len(vocabulary), np.int64)
    keys, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    for _, center_N, context_N in read_ahead(dataset, (Place(0, i, group, 0) for i, group in enumerate(groups))):
        totals_V += np.bincount(context_N, minlength=len(vocabulary))
        slots_N = slots_V[center_N]
        found = slots_N >= 0
        new = np.unique(slots_N[found].astype(np.int64) * len(vocabulary) + context_N[found], return_counts=True)
        keys, counts = _added(keys, counts, *new)
    edges = np.searchsorted(keys, np.arange(len(ids_T) + 1) * len(vocabulary))
    by_word = {
        row: (keys[a:b] % len(vocabulary), counts[a:b])
        for row, a, b in zip(ids_T.tolist(), edges[:-1], edges[1:], strict=True)
    }
    read = sum(group.rows for group in groups)
    return Contexts(vocabulary, read, dataset.pairs_in_pass(0), totals_V, by_word)


def _sample(groups: RowGroups, pairs: int) -> list[RowGroupRef]:
    """Take as many row groups at even distances as have so many pairs together, at least one."""
    average = groups.rows_G.sum() / max(1, len(groups))
    for wanted in range(min(len(groups), int(pairs / max(1.0, average)) + 1), 1, -1):
        sample = [groups[i * len(groups) // wanted] for i in range(wanted)]
        if sum(group.rows for group in sample) <= pairs:
            return sample
    return list(groups[:1])


def _added(keys: Ids, counts: Ids, more_keys: Ids, more_counts: npt.NDArray[np.number]) -> tuple[Ids, Ids]:
    """Add up two ascending tables of counts."""
    joined, places = np.unique(np.concatenate([keys, more_keys]), return_inverse=True)
    sums = np.zeros(len(joined), np.int64)
    np.add.at(sums, places.ravel(), np.concatenate([counts, more_counts]))
    return joined, sums


def _stronger(one: tuple[Ids, Doubles, Ids], other: tuple[Ids, Doubles, Ids]) -> tuple[Ids, Doubles, Ids]:
    """Join two words' contexts; of those that both have, the larger weight and its count stay."""
    ids, weights, counts = (np.concatenate(pair) for pair in zip(one, other, strict=True))
    order = np.lexsort((-weights, ids))
    first = np.concatenate([[True], ids[order][1:] != ids[order][:-1]]) if len(ids) else np.zeros(0, bool)
    kept = order[first]
    return ids[kept], weights[kept], counts[kept]
