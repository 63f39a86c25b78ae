"""What a dataset's files say of its corpus: the section that both sides' reports have.

Shape suffix: V vocabulary rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from pipeline.common.page import charts, numbers
from pipeline.common.page.document import Block, Figure, Keys, Section, Table
from pipeline.dataset.manifest import Manifest
from pipeline.dataset.vocabulary import Vocabulary

_POINTS = 120  # of a curve over ranks


def corpus_section(manifest: Manifest, vocabulary: Vocabulary, run: Mapping[str, Any]) -> Section:
    """Describe a corpus.

    Args:
        manifest: of the dataset.
        vocabulary: of the dataset.
        run: its run.json, with `stage_seconds` by stage where they are known.
    """
    corpus = manifest.corpus
    blocks: list[Block] = [_keys(manifest), _rank_frequency(vocabulary), _coverage(manifest, vocabulary)]
    lengths, seconds = run.get("sentence_lengths"), run.get("stage_seconds")
    if isinstance(lengths, list) and sum(lengths):
        blocks.append(_sentence_lengths(lengths, corpus.tokens / max(1, corpus.sentences)))
    if corpus.dead_letters:
        ordered = sorted(corpus.dead_letters.items(), key=lambda item: (-item[1], item[0]))
        rows = [{"name": name, "value": number, "shown": numbers.count(number)} for name, number in ordered]
        part = numbers.share(corpus.dead_letter_bytes / max(1, corpus.bytes))
        whole = f"In all {numbers.size(corpus.dead_letter_bytes)}, {part} of the text."
        blocks.append(_bars("dead-letters", "What was set aside, by reason", "dead letters", rows, whole))
    if isinstance(seconds, dict) and seconds:
        rows = [{"name": name, "value": spent, "shown": numbers.duration(spent)} for name, spent in seconds.items()]
        blocks.append(_bars("stages", "How long each stage took", "time", rows))
    lead = "" if corpus.dead_letters else "Nothing of the text was set aside: there are no dead letters."
    return Section("corpus", "Corpus", lead, blocks)


def _keys(manifest: Manifest) -> Keys:
    corpus, vocabulary, first = manifest.corpus, manifest.vocabulary, manifest.passes[0]
    kept = numbers.share(first.kept / max(1, corpus.in_vocabulary))
    shards, passes = sum(one.shards for one in manifest.passes), len(manifest.passes)
    return Keys(
        [
            ("Files", numbers.count(corpus.files), f"{numbers.size(corpus.bytes)} of text"),
            ("Sentences", numbers.count(corpus.sentences), f"in {numbers.count(corpus.lines)} lines"),
            ("Tokens", numbers.count(corpus.tokens), ""),
            ("Vocabulary", numbers.count(vocabulary.rows), f"min-count {manifest.options.get('min_count', '?')}"),
            ("Known tokens", numbers.share(corpus.in_vocabulary / max(1, corpus.tokens)), "in the vocabulary"),
            ("Kept by subsampling", numbers.count(first.kept), f"{kept} of the known, in the first pass"),
            (
                "Pairs",
                numbers.count(sum(one.pairs for one in manifest.passes)),
                f"in {passes} pass{'' if passes == 1 else 'es'}",
            ),
            ("Shards", numbers.count(shards), ""),
        ]
    )


def _rank_frequency(vocabulary: Vocabulary) -> Figure:
    """Draw counts by rank, both logarithmic, with a line of 1 / rank through their middle, as Zipf's law has it."""
    order_V = np.argsort(-vocabulary.counts, kind="stable")
    counts = np.maximum(vocabulary.counts[order_V], 1)

    def row(rank: int) -> dict[str, Any]:
        word = numbers.token(vocabulary.token(int(order_V[rank - 1])))
        return {"rank": rank, "word": word, "count": int(counts[rank - 1])}

    rows = [row(rank) for rank in _spread(len(counts))]
    logs = np.log([(one["rank"], one["count"]) for one in rows])
    scale = math.exp(float(logs.sum(axis=1).mean()))
    zipf = [{"rank": rank, "count": scale / rank} for rank in (1, len(counts))]
    slope = (
        f" The best straight line has the slope {np.polyfit(logs[:, 0], logs[:, 1], 1)[0]:.2f}."
        if len(rows) > 2
        else ""
    )
    x = alt.X("rank:Q", scale=alt.Scale(type="log", nice=False), axis=alt.Axis(format="~s"))
    y = alt.Y("count:Q", scale=alt.Scale(type="log"), axis=alt.Axis(format="~s"), title="times in the corpus")
    tooltip = ["word:N", alt.Tooltip("rank:Q", format=","), alt.Tooltip("count:Q", format=",")]
    named = [row(rank) for rank in _powers(len(counts)) if rank == 1 or rank * 3 < len(counts)]
    marked = charts.chart(named, x=x, y=y, tooltip=tooltip)
    layers = [
        charts.chart(zipf, x=x, y=y).mark_line(color=charts.OTHER, strokeWidth=1.2, strokeDash=[4, 3]),
        charts.line(rows, x, y, tooltip),
        marked.mark_circle(color=charts.ACCENT, opacity=1),
        marked.mark_text(align="left", dx=7, dy=-7, limit=110).encode(text="word:N"),
    ]
    powers = map(row, _powers(len(counts)))
    cells = [(numbers.count(one["rank"]), one["word"], numbers.count(one["count"])) for one in powers]
    return Figure(
        "rank-frequency", "How often words occur, by their rank",
        f"The most frequent of {len(counts):,} words occurs {counts[0]:,} times, the rarest {counts[-1]:,} times.",
        charts.as_spec(alt.layer(*layers)), Table(("rank", "word", "count"), cells, left=(1,)),
        f"Dashed: Zipf’s law, 1 / rank.{slope}".replace("-", "−"),
    )  # fmt: skip


def _coverage(manifest: Manifest, vocabulary: Vocabulary) -> Figure:
    """Draw which share of the text the n most frequent words are."""
    known = manifest.corpus.in_vocabulary / max(1, manifest.corpus.tokens)
    counts = np.sort(vocabulary.counts)[::-1]
    shares = np.cumsum(counts) / max(1, int(counts.sum())) * known
    rows = [{"words": size, "share": float(shares[size - 1])} for size in _spread(len(counts))]
    x = alt.X(
        "words:Q", scale=alt.Scale(type="log", nice=False), axis=alt.Axis(format="~s"), title="words in the vocabulary"
    )
    y = alt.Y("share:Q", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="~%"), title="share of all tokens")
    tooltip = [alt.Tooltip("words:Q", format=","), alt.Tooltip("share:Q", format=".1%")]
    sizes = [size for size in _powers(len(counts)) if size < len(counts)] + [len(counts)]
    return Figure(
        "coverage", "What a vocabulary of the most frequent words covers",
        f"The {len(counts):,} words of the vocabulary are {numbers.share(known)} of all tokens.",
        charts.as_spec(charts.line(rows, x, y, tooltip)),
        Table(("words", "share of tokens"),
              [(numbers.count(size), numbers.share(float(shares[size - 1]))) for size in sizes], left=()),
    )  # fmt: skip


def _sentence_lengths(lengths: Sequence[int], mean: float) -> Figure:
    """Draw sentences by length; ``lengths[b]`` of them have from 2^b to 2^(b + 1) − 1 tokens."""
    used, total = [number for number, sentences in enumerate(lengths) if sentences], sum(lengths)
    rows = [
        {"name": _range(number), "value": lengths[number] / total, "shown": numbers.share(lengths[number] / total)}
        for number in range(used[0], used[-1] + 1)
    ]
    cells = [(str(row["name"]), numbers.count(lengths[used[0] + at]), str(row["shown"])) for at, row in enumerate(rows)]
    return Figure(
        "sentence-lengths", "How long sentences are", f"{total:,} sentences of {mean:.1f} tokens on average.",
        charts.columns(rows, "tokens in a sentence", "share of sentences"),
        Table(("tokens", "sentences", "share"), cells, left=()),
        f"{mean:.1f} tokens on average. Each column spans twice the lengths of the one before it.",
    )  # fmt: skip


def _bars(name: str, title: str, measure: str, rows: Sequence[charts.Row], note: str = "") -> Figure:
    cells = [(str(row["name"]), str(row["shown"])) for row in rows]
    said = "; ".join(map(" ".join, cells))
    return Figure(name, title, said, charts.bars(rows), Table((name.rstrip("s"), measure), cells), note)


def _range(number: int) -> str:
    low, high = 1 << number, (2 << number) - 1
    return str(low) if low == high else f"{low:,}–{high:,}"


def _spread(size: int) -> list[int]:
    """Whole numbers from 1 to ``size``, evenly on a logarithmic scale."""
    found = np.unique(np.round(np.geomspace(1, size, _POINTS)).astype(np.int64))
    return [int(value) for value in found]


def _powers(size: int) -> list[int]:
    return [10**power for power in range(10) if 10**power <= size]
