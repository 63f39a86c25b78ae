"""Chunks are cut as their definition says, whatever the blocks in which a file is read."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.inputs.chunks import CHUNK_BYTES, Chunk, cut_chunks, read_from, read_until

pytestmark = pytest.mark.unit

BOM = b"\xef\xbb\xbf"
TEXTS = st.builds(
    lambda bom, parts: BOM * bom + "".join(parts).encode(),
    st.booleans(),
    st.lists(
        st.sampled_from(["a", "bc", "\n", " ", "é", "日", "😀", "aaaaaaaaaaaa", "日日日", "\r\n", "\n\n", "\ufeff"]),
        max_size=60,
    ),
)
LONG_RUNS = st.lists(st.sampled_from(["日" * 4, "😀" * 3, "a", " ", "\n"]), min_size=10, max_size=40)
ANY_BYTES = st.lists(st.sampled_from(b"\xef\xbb\xbf\x80\xe6a \n\r"), max_size=60).map(bytes)
DATA = TEXTS | ANY_BYTES | LONG_RUNS.map(lambda parts: "".join(parts).encode())


def cut_at(data: bytes, mark: int, size: int) -> tuple[int, bool]:
    """Where the text before ``mark`` ends: a line feed, else white space, else a character's start."""
    behind = range(mark, min(len(data), mark + size))
    for i in range(max(0, mark - 1), min(len(data), mark + size)):
        if data[i : i + 1] == b"\n":
            return i + 1, False
    if len(data) <= mark + size:
        return len(data), False
    for i in behind:
        if data[i : i + 1] in (b" ", b"\t", b"\v", b"\f", b"\r"):
            return i, False
    stop = mark + size
    while stop < min(len(data), mark + size + 3) and 0x80 <= data[stop] < 0xC0:
        stop += 1
    return stop, True


def expected_chunks(data: bytes, size: int) -> list[Chunk]:
    """The definition, on the whole file at once."""
    chunks, index, torn = [], 0, False
    start = bom = len(BOM) if data.startswith(BOM) else 0
    while True:
        stop, tears = cut_at(data, (index + 1) * size, size)
        if stop > start:
            inside = index > 0 and data[start - 1 : start] != b"\n" and start > bom
            chunks.append(Chunk(index, start, data[start:stop], torn, inside))
        if stop == len(data):
            return chunks
        start, torn, index = max(start, stop), tears, index + 1


@given(data=DATA, size=st.sampled_from([4, 5, 8, 16]), block=st.sampled_from([1, 2, 3, 7, 1000]))
def test_chunks_follow_their_definition(data: bytes, size: int, block: int) -> None:
    blocks = (data[i : i + block] for i in range(0, len(data), block))
    chunks = list(cut_chunks(blocks, size))
    assert chunks == expected_chunks(data, size)
    assert b"".join(chunk.data for chunk in chunks) == data.removeprefix(BOM)
    assert all(len(chunk.data) <= 2 * size + 3 for chunk in chunks)
    text = data.removeprefix(BOM)
    assert sum(chunk.lines for chunk in chunks) == text.count(b"\n") + (not text.endswith(b"\n") and text != b"")


@settings(max_examples=500)
@given(
    data=DATA,
    size=st.sampled_from([4, 5, 8, 16]),
    bounds=st.sets(st.integers(1, 30), max_size=6),
    block=st.sampled_from([1, 3, 1000]),
)
def test_parts_are_those_of_the_whole_file(data: bytes, size: int, bounds: set[int], block: int) -> None:
    chunks = []
    for first, end in itertools.pairwise([0, *sorted(bounds), None]):
        text = data[read_from(first, size) : None if end is None else read_until(end, size)]
        blocks = (text[i : i + block] for i in range(0, len(text), block))
        chunks += cut_chunks(blocks, size, first, end)
    assert chunks == expected_chunks(data, size)


def test_behind_a_tear_the_next_white_space_is_found() -> None:
    # The tear goes two bytes past a mark: what is looked for behind that mark lies before the bytes at hand.
    text = ("x" + "日" * 90 + " " + "日" * 200).encode()
    chunks = list(cut_chunks([text], 100))
    assert chunks == expected_chunks(text, 100)
    assert [chunk.offset for chunk in chunks[1:3]] == [202, 271]


def test_one_line_of_many_chunks_is_cut_between_words() -> None:
    words = b"word " * CHUNK_BYTES
    chunks = list(cut_chunks([words]))
    # 5 MiB: the last mark finds the line's end within the 1 MiB behind it, and leaves it whole.
    assert [round(len(chunk.data) / CHUNK_BYTES) for chunk in chunks] == [1, 1, 1, 2]
    assert b"".join(chunk.data for chunk in chunks) == words
    assert {word for chunk in chunks for word in chunk.data.split()} == {b"word"}


def test_short_lines_are_never_cut() -> None:
    lines = [b"%07d\n" % i for i in range(400_000)]
    chunks = list(cut_chunks(iter(lines)))
    assert [line + b"\n" for chunk in chunks for line in chunk.data.splitlines()] == lines
    assert len(chunks) == 4


def test_no_text_is_no_chunk() -> None:
    assert list(cut_chunks([])) == []
    assert list(cut_chunks([BOM])) == []
