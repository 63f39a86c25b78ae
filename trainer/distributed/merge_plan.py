"""How several processes share a training: how often they join their tables, at which rate, and how many a corpus bears.

The constants come from a study of 1 to 16 processes; docs/study.md has its table.
"""

from __future__ import annotations

from dataclasses import dataclass

MERGE_RULES = ("adasum", "average", "sum")

#: Joins in an epoch. Quality depends on their number, hardly on the pairs between them.
JOINS_AN_EPOCH = 120
#: Every so many of them is a full one, which joins the rows of all words, and after which a training can be resumed.
FULL_EVERY = 4
#: The rate grows with the processes: each row's changes are partly averaged, so that each is smaller than it would be.
RATE_GROWTH = 1 / 12
MOST_RATE_FACTOR = 1.25
#: Pairs of an epoch for each process below which quality was not measured: 16 on 86 M pairs, at 100 dimensions.
PAIRS_A_PROCESS = 5_000_000
#: Above so many dimensions more are needed: four processes on 86 M pairs scored .02 below one on one of three sets.
SMALL_DIM, PAIRS_A_PROCESS_ABOVE = 200, 40_000_000
#: What a join costs besides the time that its bytes take on the wire, and what a GPU trains and sends in a second.
GPU_JOIN_S, GPU_BYTES_S, GPU_PAIRS_S = 2e-3, 50e9, 400e6
GPU_JOIN_SHARE = 0.05


@dataclass(frozen=True)
class MergePlan:
    """When the processes join their tables.

    Attributes:
        batch_size: pairs of one batch of a process, 0 for whole row groups.
        batches: of each process between two joins.
        full_every: every so many joins is a full one.
    """

    batch_size: int
    batches: int
    full_every: int = FULL_EVERY


def plan_merges(merge_pairs: int, largest_group: int) -> MergePlan:
    """Cut an epoch so that each process trains at most `merge_pairs` pairs, or one row group, between two joins.

    Args:
        merge_pairs: 1 or more.
        largest_group: pairs of the epoch's largest row group.
    """
    if merge_pairs < largest_group:
        return MergePlan(merge_pairs, 1)
    return MergePlan(0, merge_pairs // max(1, largest_group))


def default_merge_pairs(epoch_pairs: int, processes: int, table_bytes: int, device: str) -> int:
    """Pairs that each process trains between two joins: JOINS_AN_EPOCH of them, fewer where GPUs would mostly join.

    Args:
        epoch_pairs: pairs of an epoch, of all processes.
        processes: N.
        table_bytes: of both tables.
        device: cpu or cuda.
    """
    pairs = epoch_pairs // (JOINS_AN_EPOCH * processes)
    if device == "cuda":
        join_s = GPU_JOIN_S + 2 * table_bytes / GPU_BYTES_S
        pairs = max(pairs, round(join_s / GPU_JOIN_SHARE * GPU_PAIRS_S))
    return max(1, pairs)


def rate_factor(processes: int) -> float:
    """What the default learning rate is multiplied by for so many processes."""
    return min(1 + (processes - 1) * RATE_GROWTH, MOST_RATE_FACTOR)


def supported_processes(epoch_pairs: int, dim: int) -> int:
    """How many processes can share an epoch of ``pairs`` pairs at the quality of one, as far as it was measured."""
    return max(1, epoch_pairs // (PAIRS_A_PROCESS if dim <= SMALL_DIM else PAIRS_A_PROCESS_ABOVE))
