"""Lists of ready tokens: the same lines from JSON lines and Parquet, and what is no list of items is set aside."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import cli, job
from pipeline.config import Config
from pipeline.dataset.reader import Dataset, open_dataset, read_run
from pipeline.errors import InputError
from pipeline.inputs import splits
from pipeline.inputs.chunks import CHUNK_BYTES, cut_chunks
from pipeline.inputs.parquet_rows import column_bytes, open_parquet, read_parquet
from pipeline.inputs.records import RecordRules, read_jsonl
from pipeline.publishing.report import render_corpus
from pipeline.text.items import MARK, join_items, split_items
from pipeline.text.normalize import DeadLetter

ITEM = st.text(st.sampled_from("aB \n\r\ufeffé日😀_0"), min_size=1, max_size=4)
ENCODED = pa.dictionary(pa.int32(), pa.string())
LISTS = st.lists(st.lists(ITEM, max_size=4), max_size=12)
#: Lists as JSON has them, with their items, or the reason for having none.
CASES: list[tuple[str, list[str] | str]] = [
    ('["Red Wine", " x ", "a\\nb"]', ["Red Wine", " x ", "a\nb"]),
    ("[]", []),
    ('[12, "12", -7, 1234567890123456789012]', ["12", "12", "-7", "1234567890123456789012"]),
    ("[0]", ["0"]),
    ("null", "no-list-field"),
    ('"a b"', "no-list-field"),
    ("3", "no-list-field"),
    ('{"a": 1}', "no-list-field"),
    ('["a", null]', "invalid-item"),
    ('["a", ""]', "invalid-item"),
    ('["a", 1.5]', "invalid-item"),
    ("[1e3]", "invalid-item"),
    ("[true]", "invalid-item"),
    ('[["a"]]', "invalid-item"),
    ('[{"a": "b"}]', "invalid-item"),
    ('["\\ud800"]', "invalid-utf-8"),
    ('["a"', "invalid-json"),
]


def rules_of(policy: str = "dead-letter", items: bool = True) -> tuple[RecordRules, list[DeadLetter]]:
    letters: list[DeadLetter] = []
    return RecordRules("corpus", "basket", policy, letters.append, items), letters


def from_jsonl(data: bytes, policy: str = "dead-letter", block: int = 50) -> tuple[bytes, list[DeadLetter]]:
    rules, letters = rules_of(policy)
    blocks = (data[i : i + block] for i in range(0, len(data), block))
    return b"".join(read_jsonl(blocks, rules)), letters


def parquet_of(values: list[Any], kind: pa.DataType) -> io.BytesIO:
    sink = io.BytesIO()
    pq.write_table(
        pa.table({"id": pa.array(range(len(values)), pa.int64()), "basket": pa.array(values, kind)}),
        sink,
        row_group_size=3,
    )
    sink.seek(0)
    return sink


def from_parquet(values: list[Any], kind: pa.DataType, policy: str = "dead-letter") -> tuple[bytes, list[DeadLetter]]:
    rules, letters = rules_of(policy)
    return b"".join(read_parquet(parquet_of(values, kind), rules)), letters


def lines_of(lists: list[list[str]]) -> bytes:
    return b"".join(join_items(items) + b"\n" for items in lists)


@pytest.mark.unit
@given(lists=LISTS, block=st.sampled_from([1, 7, 1000]))
def test_json_lines_and_parquet_are_equal(lists: list[list[str]], block: int) -> None:
    expected = (lines_of(lists), [])
    for plain in (True, False):
        data = "".join(json.dumps({"basket": one}, ensure_ascii=plain) + "\n" for one in lists).encode()
        assert from_jsonl(data, block=block) == expected
    views = [pa.list_view(pa.string()), pa.list_(pa.string_view()), pa.list_(pa.binary())]
    for kind in (pa.list_(pa.string()), pa.large_list(pa.large_string()), *views):
        assert from_parquet(lists, kind) == expected


@pytest.mark.unit
@pytest.mark.parametrize("kind", [pa.int64(), pa.uint16(), pa.int8()])
def test_integers_are_their_decimals(kind: pa.DataType) -> None:
    lists = [[1, 2], [], [0, 100]]
    assert from_parquet(lists, pa.list_(kind)) == (lines_of([["1", "2"], [], ["0", "100"]]), [])
    assert from_parquet([[1, 2], [3, 4]], pa.list_(kind, 2))[0] == lines_of([["1", "2"], ["3", "4"]])


@pytest.mark.unit
@pytest.mark.parametrize(("value", "outcome"), CASES, ids=[value for value, _ in CASES])
@pytest.mark.parametrize("neighbour", [True, False], ids=["next to a bad line", "next to good ones"])
def test_a_json_list(value: str, outcome: list[str] | str, neighbour: bool) -> None:
    line = f'{{"basket": {value}}}'.encode() if value != '["a"' else b'{"basket": ["a"'
    text, letters = from_jsonl(b'{"basket": ["good"]}\n' + line + b"\n" + (b"bad\n" if neighbour else b""))
    assert text == lines_of([["good"], *([outcome] if isinstance(outcome, list) else [])])
    found = [letter for letter in letters if letter.content != b"bad"]
    assert found == ([DeadLetter(21, outcome, line)] if isinstance(outcome, str) else [])


@pytest.mark.unit
def test_rows_of_parquet_that_are_no_lists_of_items() -> None:
    values = [[b"a", b"b c"], None, [b"a", None], [b""], [b"\xff"], [], [b"d"]]
    text, letters = from_parquet(values, pa.list_(pa.binary()))
    assert text == lines_of([["a", "b c"], [], ["d"]])
    assert letters == [
        DeadLetter(1, "no-list-field", b'{"basket": null}'),
        DeadLetter(2, "invalid-item", b'{"basket": ["a", null]}'),
        DeadLetter(3, "invalid-item", b'{"basket": [""]}'),
        DeadLetter(4, "invalid-utf-8", '{"basket": ["\ufffd"]}'.encode()),
    ]
    text, letters = from_parquet(values, pa.list_(pa.binary()), "replace")
    assert split_items(text.split(b"\n")[1]) == ["\ufffd"]
    assert [letter.offset for letter in letters] == [1, 2, 3]
    assert from_jsonl(b'{"basket": ["\\ud800x", 1]}', "replace") == (lines_of([["\ufffdx", "1"]]), [])


@pytest.mark.unit
def test_fail_names_the_record() -> None:
    with pytest.raises(
        InputError, match=r"^corpus: record at byte 0: found a list in the field 'basket' with something"
    ):
        from_jsonl(b'{"basket": [1.5]}\n', "fail")
    with pytest.raises(
        InputError, match=r"^corpus: record at row 1: found no list in the field 'basket', expected one"
    ):
        from_parquet([["a"], None], pa.list_(pa.string()), "fail")


@pytest.mark.unit
@pytest.mark.parametrize(
    ("kind", "items", "message"),
    [
        (pa.list_(pa.string()), False, "expected basket: string (--text-field; for lists --tokenizer items)"),
        (
            pa.string(),
            True,
            "expected basket: list of strings or integers (--text-field; for text another --tokenizer)",
        ),
        (pa.list_(ENCODED), True, "expected basket: list of strings or integers (--text-field)"),
        (pa.list_(pa.float64()), True, "expected basket: list of strings or integers (--text-field)"),
        (pa.list_(pa.list_(pa.string())), True, "expected basket: list of strings or integers (--text-field)"),
        (pa.int64(), False, "expected basket: string (--text-field)"),
    ],
)
def test_a_column_of_another_type_is_named(kind: pa.DataType, items: bool, message: str) -> None:
    with pytest.raises(InputError) as error:
        open_parquet(parquet_of([], kind), rules_of(items=items)[0])
    assert str(error.value).startswith("corpus: found the columns (id: int64, basket: ")
    assert str(error.value).endswith(message)


@pytest.mark.unit
def test_the_column_of_items_is_the_one_that_is_weighed() -> None:
    rules = rules_of()[0]
    file = open_parquet(parquet_of([["x" * 10_000]] * 3, pa.list_(pa.string())), rules)
    assert column_bytes(file, rules)[0] == file.metadata.row_group(0).column(1).total_uncompressed_size


@pytest.mark.unit
def test_a_list_of_many_chunks_is_cut_between_items() -> None:
    items = [f"item {number} of many" for number in range(200_000)]
    chunks = list(cut_chunks([join_items(items) + b"\n"], spaces=MARK))
    assert [chunk.offset // CHUNK_BYTES for chunk in chunks] == [0, 1, 2]
    assert all(chunk.data.startswith(MARK) and not chunk.torn for chunk in chunks)
    assert [item for chunk in chunks for item in split_items(chunk.data.removesuffix(b"\n"))] == items


BASKETS = [[f"Item {(i * i + j * 7) % 90}" for j in range(i % 9)] for i in range(30_000)]
BASKETS[7] = ["\ufeffmark", "two\nlines", "two\nlines"]


def write(folder: Path, kind: str) -> None:
    if kind == "parquet":
        pq.write_table(pa.table({"basket": BASKETS}), folder / "a.parquet", row_group_size=2000)
    else:
        (folder / "a.jsonl").write_text("".join(json.dumps({"basket": one}) + "\n" for one in BASKETS))


def run(folder: Path, output: str, **options: Any) -> Dataset:
    settings = {"text_field": "basket", "tokenizer": "items", "min_count": 2, "window": 0, "sample": 0.01, "passes": 2}
    config = Config((f"{folder}/a.*",), f"{folder}/{output}", **settings | {"shard_pairs": 100_000} | options)
    return open_dataset(config.output, job.run_job(config, ()).run_id)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("jsonl")
    write(folder, "jsonl")
    return run(folder, "out", input_format="jsonl")


def test_a_list_is_a_sentence(dataset: Dataset) -> None:
    corpus = dataset.manifest.corpus
    assert (corpus.lines, corpus.sentences) == (len(BASKETS), sum(map(bool, BASKETS)))
    assert corpus.tokens == sum(map(len, BASKETS))
    assert {"two\nlines", "Item 1"} < set(dataset.vocabulary().tokens)
    assert dataset.manifest.tokenizer == {"name": "items", "version": 1}
    assert not {"lowercase", "normalize", "fixed_window"} & dataset.manifest.options.keys()
    assert len(dataset.shards) > 4
    page = render_corpus(dataset, read_run(dataset)).decode()
    assert "items" in page
    assert "Unicode" not in page


@pytest.mark.parametrize("parts", [1 << 30, 1 << 16], ids=["whole", "in spans"])
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_equal_shards(kind: str, parts: int, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "PART_BYTES", parts)
    write(tmp_path, kind)
    found = run(tmp_path, "out", input_format=kind, read_block_bytes=10_000)
    assert found.shards == dataset.shards
    assert found.manifest.corpus == dataset.manifest.corpus
    assert found.manifest.vocabulary == dataset.manifest.vocabulary


def test_without_pairs_to_draw_the_pairs_are_all(tmp_path: Path) -> None:
    write(tmp_path, "parquet")
    dataset = run(tmp_path, "out", input_format="parquet", sample=0.0, min_count=1, passes=1)
    groups = [dataset.read_row_group(ref) for ref in dataset.row_groups(0)]
    assert sum(len(center) for center, _ in groups) == sum(len(one) * (len(one) - 1) for one in BASKETS)


def test_bad_records_are_counted_by_reason(tmp_path: Path) -> None:
    good = '{"basket": ["Red Wine", "Brie"]}\n' * 50
    (tmp_path / "a.jsonl").write_text(good + "".join(f'{{"basket": {value}}}\n' for value, _ in CASES[:-1]))
    with pytest.raises(Exception, match="set aside") as error:
        run(tmp_path, "out", input_format="jsonl")
    line = str(cli.error_line(error.value))
    assert "7 invalid-item, first in a.jsonl at byte" in line
    assert "4 no-list-field, first in a.jsonl at byte" in line
    found = run(tmp_path, "out", input_format="jsonl", max_dead_letter_fraction=0.9)
    assert found.manifest.corpus.dead_letters == {"invalid-item": 7, "no-list-field": 4, "invalid-utf-8": 1}
    assert found.manifest.corpus.lines == 54


def test_lists_without_the_flag_name_it(tmp_path: Path) -> None:
    write(tmp_path, "jsonl")
    with pytest.raises(Exception, match=r"30,000 no-text-field.*; see --text-field \(for lists --tokenizer items\)"):
        run(tmp_path, "out", input_format="jsonl", tokenizer="unicode")


def test_a_vocabulary_of_items_is_extended_by_items_alone(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"basket": ["Item 5", "New One", "New One"]}\n' * 3)
    longer = run(tmp_path, "out", input_format="jsonl", vocab=dataset.uri)
    tokens = dataset.vocabulary().tokens
    assert longer.vocabulary().tokens == [*tokens, "New One"]
    assert longer.vocabulary().counts[tokens.index("Item 5")] == 3 + dataset.vocabulary().counts[tokens.index("Item 5")]
    with pytest.raises(Exception, match="found a vocabulary of name 'items', expected 'unicode', as this run has it"):
        run(tmp_path, "other", input_format="jsonl", tokenizer="unicode", vocab=dataset.uri)
