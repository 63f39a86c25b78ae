"""Rounds: the row groups that processes train, each its share, before they merge what they learnt.

Rounds follow each other in the epoch's one order of row groups, so what is done at the end of a round that merges all
rows is a place in that order, and any number of processes can go on from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trainer.reading import Place

#: How rows that several processes changed are joined; see trainer.merging.
MERGE_RULES = ("saturating", "sum", "average")


#: All rows are merged at the end of every so many rounds, and of an epoch; otherwise those of frequent words.
FULL_EVERY = 4


@dataclass(frozen=True)
class Round:
    """Some consecutive row groups of an epoch, and those of them that one process trains.

    Attributes:
        full: all rows are merged at its end, so that one can go on from there.
    """

    places: tuple[Place, ...]
    own: tuple[Place, ...]
    full: bool


def cut_rounds(places: Sequence[Place], merge_pairs: int, rank: int, size: int) -> Iterator[Round]:
    """Cut an epoch's row groups into rounds of about `size * merge_pairs` pairs, and share each among processes.

    Alone, every row group is a round. The last round may have nothing for some processes; all see the same rounds.
    """
    begun: list[Place] = []
    rounds = 0
    for number, place in enumerate(places):
        begun.append(place)
        full = len(begun) >= size and sum(one.group.rows for one in begun) >= size * merge_pairs
        last = number + 1 == len(places)
        if size == 1 or full or last:
            rounds += 1
            yield Round(tuple(begun), tuple(share_round(begun, size)[rank]), last or rounds % FULL_EVERY == 0)
            begun = []


def share_round(places: Sequence[Place], size: int) -> list[list[Place]]:
    """Deal row groups to processes, the largest first, each to the one with the fewest pairs; read in epoch order."""
    shares: list[list[Place]] = [[] for _ in range(size)]
    pairs = [0] * size
    for place in sorted(places, key=lambda place: (-place.group.rows, place.index)):
        least = min(range(size), key=lambda rank: (pairs[rank], rank))
        shares[least].append(place)
        pairs[least] += place.group.rows
    return [sorted(share, key=lambda place: place.index) for share in shares]
