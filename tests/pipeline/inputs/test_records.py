"""The text of records is their field and a line feed, whatever the blocks; what has no text is set aside."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.inputs import records
from pipeline.inputs.parquet_rows import read_parquet
from pipeline.inputs.records import RecordRules, read_jsonl
from pipeline.text.normalize import DeadLetter

pytestmark = pytest.mark.unit

BOM = b"\xef\xbb\xbf"
GOOD = b'{"id": 1, "text": "one"}'
#: Lines of JSON with their text, or the reason for having none.
LINES: list[tuple[bytes, bytes | str | None]] = [
    (GOOD, b"one"),
    (b'{"text": ""}', b""),
    (b'\t {"text": "a\\nb\\u0000"}\r', b"a\nb\0"),
    ('{"text": "né\u2028e", "more": {"text": 1}}'.encode(), "né\u2028e".encode()),
    (b'{"text": "\\ud83d\\ude00"}', "😀".encode()),
    (b'{"n": ' + b"9" * 5000 + b', "text": "many digits"}', b"many digits"),
    (b'{"text": 1, "text": "last wins"}', b"last wins"),
    (b"", None),
    (b" \t\r", None),
    (b'{"text": "cut', "invalid-json"),
    (b'{"text": "a"} {"text": "b"}', "invalid-json"),
    (b'{"text": "a\tb"}', "invalid-json"),
    (BOM + GOOD + b"x", "invalid-json"),
    (b"[" * 100_000, "invalid-json"),
    (b"[1]", "no-text-field"),
    (b'"text"', "no-text-field"),
    (b"null", "no-text-field"),
    (b"{}", "no-text-field"),
    (b'{"text": null}', "no-text-field"),
    (b'{"text": 3}', "no-text-field"),
    (b'{"text": ["a"]}', "no-text-field"),
    (b'{"Text": "a"}', "no-text-field"),
    (b'{"text": "\\ud800"}', "invalid-utf-8"),
    (b'{"text": "a\xffb"}', "invalid-utf-8"),
    (b'{"text": "\xed\xa0\x80"}', "invalid-utf-8"),
]


def rules_of(policy: str = "dead-letter") -> tuple[RecordRules, list[DeadLetter]]:
    letters: list[DeadLetter] = []
    return RecordRules("corpus", "text", policy, letters.append), letters


def from_jsonl(data: bytes, block: int = 1 << 20, policy: str = "dead-letter") -> tuple[bytes, list[DeadLetter]]:
    rules, letters = rules_of(policy)
    blocks = (data[i : i + block] for i in range(0, len(data), block))
    return b"".join(read_jsonl(blocks, rules)), letters


def parquet_of(values: list[bytes | str | None], kind: pa.DataType, rows: int = 1 << 20) -> bytes:
    sink = io.BytesIO()
    table = pa.table({"id": list(range(len(values))), "text": pa.array(values, kind)})
    pq.write_table(table, sink, row_group_size=rows)
    return sink.getvalue()


def from_parquet(data: bytes, policy: str = "dead-letter") -> tuple[bytes, list[DeadLetter]]:
    rules, letters = rules_of(policy)
    return b"".join(read_parquet(io.BytesIO(data), rules)), letters


@given(
    lines=st.lists(st.sampled_from([line for line in LINES if len(line[0]) < 100]), max_size=12),
    block=st.sampled_from([1, 2, 7, 40, 1000]),
    mark=st.booleans(),
    ended=st.booleans(),
)
def test_json_lines(lines: list[tuple[bytes, bytes | str | None]], block: int, mark: bool, ended: bool) -> None:
    data = BOM * mark + b"\n".join(line for line, _ in lines) + b"\n" * ended
    texts, letters, offset = [], [], 3 * mark
    for line, outcome in lines:
        if isinstance(outcome, bytes):
            texts.append(outcome + b"\n")
        elif isinstance(outcome, str):
            letters.append(DeadLetter(offset, outcome, line))
        offset += len(line) + 1
    assert from_jsonl(data, block) == (b"".join(texts), letters)


@pytest.mark.parametrize(("line", "outcome"), LINES, ids=[repr(line[:20]) for line, _ in LINES])
@pytest.mark.parametrize("neighbour", [True, False], ids=["beside a bad line", "beside good ones"])
def test_a_line_reads_the_same_beside_any_other(line: bytes, outcome: bytes | str | None, neighbour: bool) -> None:
    # Blocks of good lines alone take a faster way.
    text, letters = from_jsonl(GOOD + b"\n" + line + b"\n" + (b"bad\n" if neighbour else b""))
    assert text == b"one\n" + (outcome + b"\n" if isinstance(outcome, bytes) else b"")
    found = [letter.reason for letter in letters if letter.content != b"bad"]
    assert found == ([outcome] if isinstance(outcome, str) else [])


@given(values=st.lists(st.text(max_size=20), max_size=20))
def test_any_text_comes_through(values: list[str]) -> None:
    expected = "".join(value + "\n" for value in values).encode()
    for plain in (True, False):
        data = "".join(json.dumps({"text": value}, ensure_ascii=plain) + "\n" for value in values).encode()
        assert from_jsonl(data) == (expected, [])
    for kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()):
        assert from_parquet(parquet_of(list(values), kind, rows=3)) == (expected, [])


def test_replace_mends_what_is_no_utf_8_and_nothing_else() -> None:
    lines = b'{"text": "a\xffb"}\n{"text": "\\ud800c"}\n{"text": 1}\n'
    text, letters = from_jsonl(lines, policy="replace")
    assert text.decode() == "a\ufffdb\n\ufffdc\n"
    assert letters == [DeadLetter(36, "no-text-field", b'{"text": 1}')]
    text, letters = from_parquet(parquet_of([b"a\xffb", None], pa.binary()), "replace")
    assert text.decode() == "a\ufffdb\n"
    assert letters == [DeadLetter(1, "no-text-field", b'{"text": null}')]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "found no JSON, expected one JSON object a line"),
        (b"{}", r"found no string in the field 'text', expected one \(see --text-field\)"),
        (b'{"text": "\xff"}', r"the text is not valid UTF-8 \(see --encoding-errors\)"),
    ],
)
def test_fail_names_the_place(line: bytes, message: str) -> None:
    with pytest.raises(InputError, match=rf"^corpus: record at byte {len(GOOD) + 1}: {message}$"):
        from_jsonl(GOOD + b"\n" + line + b"\n" + GOOD, policy="fail")


def test_fail_names_the_row() -> None:
    with pytest.raises(InputError, match=r"^corpus: record at row 2: found no string"):
        from_parquet(parquet_of(["a", "b", None], pa.string()), "fail")


@pytest.mark.parametrize("block", [1 << 10, 1 << 24])
@pytest.mark.parametrize("end", [b"", b"]\n" + GOOD])
def test_a_line_too_long_for_a_record_ends_the_run(block: int, end: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", 1 << 20)
    assert from_jsonl((GOOD + b"\n") * 100_000, block)[0] == b"one\n" * 100_000
    with pytest.raises(InputError, match=rf"^corpus: record at byte {len(GOOD) + 1}: found more than 1 MiB"):
        from_jsonl(GOOD + b"\n[" + b" " * (1 << 20) + end, block)


def test_rows_in_file_order_over_batches_and_row_groups() -> None:
    values: list[bytes | str | None] = [f"row {number}" for number in range(5000)]
    values[3000], values[4999] = None, b"\xff"
    text, letters = from_parquet(parquet_of(values, pa.binary(), 1700))
    assert text.decode().split("\n") == [value for value in values if isinstance(value, str)] + [""]
    assert letters == [DeadLetter(3000, "no-text-field", b'{"text": null}'), DeadLetter(4999, "invalid-utf-8", b"\xff")]


def test_bytes_that_a_string_column_should_not_hold() -> None:
    offsets, content = pa.py_buffer(bytes([0, 0, 0, 0, 2, 0, 0, 0])), pa.py_buffer(b"a\xff")
    column = pa.Array.from_buffers(pa.string(), 1, [None, offsets, content])
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": column}), sink)
    assert from_parquet(sink.getvalue()) == (b"", [DeadLetter(0, "invalid-utf-8", b"a\xff")])


@pytest.mark.parametrize(
    "kind",
    [
        pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int8(), pa.large_string()), pa.string_view(),
        pa.binary_view(), pa.dictionary(pa.int32(), pa.binary()), pa.large_string(),
    ],
    ids=str,
)  # fmt: skip
def test_every_arrow_type_of_text_is_read(kind: pa.DataType) -> None:
    values = ["naïve fox", None, "", "naïve fox", "the dog"]
    column = pa.array(values, pa.string())
    target = kind.value_type if pa.types.is_dictionary(kind) else kind
    column = column.cast(pa.large_binary() if target in (pa.binary(), pa.binary_view()) else target).cast(target)
    column = column.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else column
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": column}), sink, row_group_size=2)
    text, letters = from_parquet(sink.getvalue())
    assert text.decode() == "naïve fox\n\nnaïve fox\nthe dog\n"
    assert letters == [DeadLetter(1, "no-text-field", b'{"text": null}')]


def test_a_column_of_nulls_alone() -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": pa.nulls(3)}), sink)
    text, letters = from_parquet(sink.getvalue())
    assert (text, len(letters)) == (b"", 3)
