"""Reports' pieces: numbers, axes, drawings, and the page around them."""

from __future__ import annotations

import base64
import hashlib
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.common.page import numbers
from pipeline.common.page.charts import bars, before_and_now, columns
from pipeline.common.page.corpus import corpus_section
from pipeline.common.page.document import Block, Figure, Keys, Lists, Section, Table, Text, missing_extra, render_page
from pipeline.config import Config
from pipeline.dataset.manifest import CorpusTotals, Manifest, PassTotals, VocabularyTotals
from pipeline.dataset.vocabulary import Vocabulary, make_vocabulary
from pipeline.inputs.chunks import Chunk
from pipeline.inputs.discover import InputFile
from pipeline.pairs.chunk_stats import join_rows, pack_rows
from pipeline.pairs.shard_plan import ChunkStats, sentence_lengths
from pipeline.stages.chunks import count_chunk
from pipeline.vocabulary.count import TokenCounter
from tests.support.pages import figures_of, read_page, require_page

pytestmark = pytest.mark.unit

HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "&amp;", "</svg>", "]]>", "'", "\u202eevil",
           "a\x00b", "x" * 500, "مرحبا", "שלום", "東京", "한국어"]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"), (999, "999"), (1234, "1,234"), (9999, "9,999"), (10_000, "10 k"), (12_345, "12.3 k"), (0.5, "0.5"),
        (999_949, "1 M"), (12_345_678, "12.3 M"), (2.5e9, "2.5 G"), (7e12, "7 T"), (123_456, "123 k"),
    ],
)  # fmt: skip
def test_counts_have_three_digits(value: float, shown: str) -> None:
    assert numbers.count(value).replace("\u202f", " ") == shown


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (numbers.size(512), "512 B"), (numbers.size(62_712_345), "62.7 MB"), (numbers.share(0.97834), "97.8 %"),
        (numbers.share(0.0004), "0.04 %"), (numbers.share(0), "0.0 %"), (numbers.duration(3.21), "3.2 s"),
        (numbers.duration(59.7), "1 min 00 s"), (numbers.duration(200), "3 min 20 s"), (numbers.cosine(-0.25), "−0.25"),
        (numbers.duration(7500), "2 h 05 min"), (numbers.significant(4e-6), "4 × 10⁻⁶"),
        (numbers.significant(0.04), "0.04"),
    ],
)  # fmt: skip
def test_other_numbers(shown: str, expected: str) -> None:
    assert shown.replace("\u202f", " ") == expected


def test_tokens_hide_nothing_and_move_nothing() -> None:
    assert numbers.token("\u202eevil\x00") == "\\u202eevil\\x00"
    assert numbers.token("x" * 500, 10) == "xxxxxxxxx…"
    assert numbers.token("") == "(empty)"
    assert [numbers.token(word) for word in ("مرحبا", "東京", "a\u200cb")] == ["مرحبا", "東京", "a\u200cb"]


def test_every_name_goes_through_the_page_as_text() -> None:
    rows = [{"name": name, "value": 1.0, "shown": name, "now": 0.5, "before": 0.4} for name in HOSTILE]
    table = Table((HOSTILE[0], HOSTILE[1]), [(token, token) for token in HOSTILE], title=HOSTILE[0])
    specs = {"one": bars(rows), "two": columns(rows, HOSTILE[0], HOSTILE[1]), "three": before_and_now(rows, ["name:N"])}
    blocks: list[Block] = [
        *(Figure(name, HOSTILE[0], HOSTILE[1], spec, table, HOSTILE[1], True) for name, spec in specs.items()),
        table, Keys([(HOSTILE[0], HOSTILE[1], HOSTILE[0])]), Text(HOSTILE[0]),
        Lists([(HOSTILE[0], HOSTILE[1], [(token, token) for token in HOSTILE])]),
    ]  # fmt: skip
    page = require_page(render_page(HOSTILE[0], HOSTILE[1], [Section("s", HOSTILE[0], HOSTILE[1], blocks)]))
    assert [one["name"] for one in page.data_of("one")] == HOSTILE
    text = page.all_text()
    assert text.count(HOSTILE[0]) > 10
    assert text.count(HOSTILE[1]) > 5


def test_a_page_runs_one_script_and_loads_nothing() -> None:
    page = read_page(render_page("t", "s", [Section("s", "S", "", [Text("x")])]))
    [policy] = page.find("meta", **{"http-equiv": "Content-Security-Policy"})
    [script] = page.find("script", type="module")
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    assert policy.attributes["content"].startswith(f"default-src 'none'; script-src 'sha256-{digest}'; style-src")
    assert "unsafe-eval" not in policy.attributes["content"]
    [viewport] = page.find("meta", name="viewport")
    assert viewport.attributes["content"] == "width=device-width, initial-scale=1"
    assert "prefers-color-scheme: dark" in page.find("style")[0].text


def test_a_missing_library_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing_extra() == ""
    monkeypatch.setitem(sys.modules, "altair", None)
    assert missing_extra() == "the page needs the module 'altair': pip install 'pairstream[report]'"


def manifest_of(vocabulary: Vocabulary, dead: dict[str, int]) -> Manifest:
    total = int(vocabulary.counts.sum())
    corpus = CorpusTotals(3, 10_000, 50, 40, total + 7, total, dead, 12 * len(dead))
    passes = (PassTotals(total // 2 + 1, 99, 2, ""), PassTotals(total // 2, 98, 2, ""))
    return Manifest(
        {"name": "unicode"}, {"min_count": 5}, corpus, VocabularyTotals(len(vocabulary), total, ""), passes, {}
    )


def corpus_page(vocabulary: Vocabulary, dead: dict[str, int], **run: object) -> bytes:
    return render_page("Corpus", "", [corpus_section(manifest_of(vocabulary, dead), vocabulary, run)])


def test_a_corpus_has_its_plots() -> None:
    vocabulary = make_vocabulary([*HOSTILE, *(f"w{i}" for i in range(500))], [10_000 // (i + 1) for i in range(513)])
    dead = {"invalid-utf-8": 3, "token-too-long": 1}
    run: dict[str, Any] = {"sentence_lengths": [0, 3, 9, 2], "stage_seconds": {"counting": 3.25, "pairs": 80.0}}
    data = corpus_page(vocabulary, dead, **run)
    page = require_page(data)
    assert figures_of(page) == ["rank-frequency", "coverage", "sentence-lengths", "dead-letters", "stages"]
    assert HOSTILE[0][:19] in page.all_text()
    assert "invalid-utf-8" in page.all_text()
    assert data == corpus_page(vocabulary, dead, **run)


def test_the_table_of_sentence_lengths_says_what_was_counted() -> None:
    page = require_page(corpus_page(make_vocabulary(["a"], [9]), {}, sentence_lengths=[0, 5, 0, 15]))
    [figure] = page.find("figure", id="sentence-lengths")
    rows = [[cell.all_text() for cell in row.find("td")] for row in figure.find("tbody")[0].find("tr")]
    assert [[cell.replace("\u202f", " ") for cell in row] for row in rows] == [
        ["2–3", "5", "25.0 %"], ["4–7", "0", "0.0 %"], ["8–15", "15", "75.0 %"],
    ]  # fmt: skip


@pytest.mark.parametrize("counts", [[1], [7], [5, 5], [3, 2, 1]])
def test_a_corpus_of_hardly_a_word_has_a_page(counts: list[int]) -> None:
    vocabulary = make_vocabulary([f"w{i}" for i in range(len(counts))], counts)
    page = require_page(corpus_page(vocabulary, {}))
    assert figures_of(page) == ["rank-frequency", "coverage"]
    assert "no dead letters" in page.all_text()
    assert "nan" not in page.all_text().lower()


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1, 600), max_size=20), max_size=4))
def test_sentence_lengths_are_counted_and_added_up(chunks: list[list[int]]) -> None:
    config = Config(input=("x",), output="out", tokenizer="whitespace", max_sentence_tokens=500)
    texts = ["".join("a b c d e "[: 2 * n] * (n // 5) + "w " * (n % 5) + "\n" for n in lengths) for lengths in chunks]
    expected = [0] * 10
    for length in (len(line.split()) for text in texts for line in text.splitlines() if line.split()):
        for part in [500] * (length // 500) + [length % 500] * (length % 500 > 0):
            expected[part.bit_length() - 1] += 1
    stats = [
        count_chunk(InputFile(0, "", "", 0), Chunk(number, 0, text.encode()), config, TokenCounter())[0]
        for number, text in enumerate(texts)
        if text
    ]
    found = sentence_lengths(join_rows([pack_rows(stats, ChunkStats)], ChunkStats))
    assert found + [0] * (10 - len(found)) == expected
