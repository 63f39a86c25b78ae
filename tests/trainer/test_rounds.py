"""Rounds follow the epoch's order, hold every row group once, and are the same for every process."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.reader import RowGroupRef
from trainer.reading import Place
from trainer.rounds import FULL_EVERY, cut_rounds, share_round

sizes = st.lists(st.integers(1, 50), max_size=30)


def places_of(rows: list[int]) -> list[Place]:
    return [Place(0, n, RowGroupRef(0, n, size, "p"), sum(rows[:n])) for n, size in enumerate(rows)]


@given(sizes, st.integers(1, 6), st.integers(1, 60))
def test_every_row_group_once_in_order(rows: list[int], size: int, merge_pairs: int) -> None:
    places = places_of(rows)
    seen = [list(cut_rounds(places, merge_pairs, rank, size)) for rank in range(size)]
    assert [place for one in seen[0] for place in one.places] == places
    for together in zip(*seen, strict=True):
        assert len({(one.places, one.full) for one in together}) == 1
        own = [place for one in together for place in one.own]
        assert sorted(own, key=lambda place: place.index) == list(together[0].places)
        assert all(list(one.own) == sorted(one.own, key=lambda place: place.index) for one in together)


@given(sizes, st.integers(1, 6), st.integers(1, 60), st.data())
def test_going_on_after_full_rounds_is_going_on_as_before(
    rows: list[int], size: int, merge_pairs: int, draw: st.DataObject
) -> None:
    places = places_of(rows)
    whole = list(cut_rounds(places, merge_pairs, 0, size))
    ends = [number + 1 for number, one in enumerate(whole) if one.full and size > 1]
    if ends:
        done = draw.draw(st.sampled_from(ends))
        at = whole[done - 1].places[-1].index + 1
        assert list(cut_rounds(places[at:], merge_pairs, 0, size)) == whole[done:]


def test_alone_each_row_group_is_a_round() -> None:
    assert [len(one.own) for one in cut_rounds(places_of([3, 3, 3]), 100, 0, 1)] == [1, 1, 1]


def test_the_last_round_is_full_and_every_fourth() -> None:
    rounds = list(cut_rounds(places_of([5] * 14), 5, 0, 2))
    assert [one.full for one in rounds] == [(n + 1) % FULL_EVERY == 0 or n == 6 for n in range(7)]


def test_shares_are_even() -> None:
    shares = share_round(places_of([9, 1, 1, 1, 5, 1]), 2)
    assert [sum(place.group.rows for place in share) for share in shares] == [9, 9]
    assert share_round(places_of([4]), 3)[1:] == [[], []]
