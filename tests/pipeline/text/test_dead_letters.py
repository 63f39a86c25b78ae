"""What is set aside: counts are exact, what is kept has a bound and is the same however the work was dealt out."""

from __future__ import annotations

import pickle
from collections import Counter

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text import dead_letters
from pipeline.text.dead_letters import LETTER_BYTES, SHORT_BYTES, SetAside, encode_parts, set_aside
from pipeline.text.normalize import DeadLetter

pytestmark = pytest.mark.unit

REASONS = ("invalid-utf-8", "token-too-long")
LETTERS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.builds(DeadLetter, st.integers(0, 30), st.sampled_from(REASONS), st.binary(max_size=40)),
        st.integers(0, 4),  # the worker that comes upon it
    ),
    max_size=40,
)


def shown(aside: SetAside) -> list[tuple[str, DeadLetter]]:
    return list(aside.kept())


def charge(letters: list[tuple[str, DeadLetter]]) -> int:
    return sum(len(letter.content) + LETTER_BYTES for _, letter in letters)


@given(letters=LETTERS, limit=st.integers(0, 2000), data=st.data())
def test_it_is_the_same_however_it_is_dealt_out(
    letters: list[tuple[str, DeadLetter, int]], limit: int, data: st.DataObject
) -> None:
    workers = [SetAside(limit) for _ in range(5)]
    for file, letter, worker in letters:
        workers[worker].add(file, letter)
        assert workers[worker]._size <= 2 * limit
    found = [pickle.loads(pickle.dumps(worker)) for worker in data.draw(st.permutations(workers))]
    cut = data.draw(st.integers(0, 5))
    left, right = SetAside(limit), SetAside(limit)
    for number, worker in enumerate(found):
        (left if number < cut else right).merge(worker)
        assert max(left._size, right._size) <= 2 * limit
    left.merge(right)

    all_letters = [(file, letter) for file, letter, _ in letters]
    assert {reason: tally.letters for reason, tally in left.tallies.items()} == Counter(
        x.reason for _, x in all_letters
    )
    assert sum(tally.bytes for tally in left.tallies.values()) == sum(len(x.content) for _, x in all_letters)
    for reason, tally in left.tallies.items():
        assert tally.first == min((file, x.offset) for file, x in all_letters if x.reason == reason)
    in_order = sorted(all_letters, key=lambda item: (item[1].offset, item[0], item[1].reason, item[1].content))
    fits = [n for n in range(len(in_order) + 1) if charge(in_order[:n]) <= limit]
    end = in_order[max(fits) : max(fits) + 1]
    expected = [one for one in in_order[: max(fits)] if one not in end]  # of equal ones all or none
    assert shown(left) == sorted(expected, key=lambda x: (x[0], x[1].offset, x[1].reason, x[1].content))


def test_one_giant_letter_does_not_take_the_room_of_others() -> None:
    giant, small = DeadLetter(0, "invalid-json", b"x" * (SHORT_BYTES + 1)), DeadLetter(9, "invalid-json", b"y")
    aside = set_aside(SHORT_BYTES + 200, "a", [giant, small])
    assert shown(aside) == [("a", small)]
    assert aside.tallies["invalid-json"] == (2, SHORT_BYTES + 2, ("a", 0))
    assert shown(set_aside(2 * SHORT_BYTES, "a", [giant, small])) == [("a", giant), ("a", small)]


def test_very_many_short_letters_have_a_bound() -> None:
    aside = SetAside(100 * LETTER_BYTES)
    for offset in range(5000):
        aside.add("a", DeadLetter(offset, "invalid-utf-8", b""))
        assert len(aside._kept) <= 200
    assert aside.letters == 5000
    assert [letter.offset for _, letter in shown(aside)] == list(range(100))


def test_nothing_is_kept_where_the_limit_is_0() -> None:
    aside = set_aside(0, "a", [DeadLetter(0, "invalid-utf-8", b"")])
    assert aside
    assert shown(aside) == []
    assert not SetAside(0)


def test_files_have_a_bound() -> None:
    assert dead_letters.PART_BYTES == 16 << 20
    letters = [DeadLetter(n, "invalid-json", b"x" * (6 << 20)) for n in range(5)]
    parts = list(encode_parts(set_aside(64 << 20, "a", letters).kept()))
    assert [name for name, _ in parts] == [f"dead-letters/part-{n:05d}.parquet" for n in range(3)]
    rows = [pq.read_table(data).to_pylist() for _, data in parts]
    assert [len(part) for part in rows] == [2, 2, 1]
    assert [row["offset"] for part in rows for row in part] == list(range(5))
