"""What a dataset's files say of its corpus: the section that both sides' reports have.

Shape suffix: V vocabulary rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.common.page import numbers
from pipeline.common.page.axes import Axis, linear_axis, log_axis
from pipeline.common.page.document import Figure, Section, Table, figures, key_figures
from pipeline.common.page.plots import Bar, Mark, Series, histogram, line_plot
from pipeline.common.page.rows import bar_rows
from pipeline.common.page.svg import FONT_PX, Html, Point, joined
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
    drawn = [rank_frequency(vocabulary), coverage(manifest, vocabulary)]
    lengths = run.get("sentence_lengths")
    if isinstance(lengths, list) and sum(lengths):
        drawn.append(sentence_lengths(lengths, corpus.tokens / max(1, corpus.sentences)))
    if corpus.dead_letters:
        drawn.append(dead_letters(corpus.dead_letters, corpus.dead_letter_bytes, corpus.bytes))
    seconds = run.get("stage_seconds")
    if isinstance(seconds, dict) and seconds:
        drawn.append(stage_seconds(seconds))
    lead = "" if corpus.dead_letters else "Nothing of the text was set aside: there are no dead letters."
    return Section("corpus", "Corpus", lead, joined([_keys(manifest), figures([one for one in drawn if one])]))


def _keys(manifest: Manifest) -> Html:
    corpus, vocabulary, first = manifest.corpus, manifest.vocabulary, manifest.passes[0]
    kept = numbers.share(first.kept / max(1, corpus.in_vocabulary))
    shards, passes = sum(one.shards for one in manifest.passes), len(manifest.passes)
    return key_figures(
        [
            ("Files", numbers.count(corpus.files), f"{numbers.size(corpus.bytes)} of text"),
            ("Sentences", numbers.count(corpus.sentences), f"in {numbers.count(corpus.lines)} lines"),
            ("Tokens", numbers.count(corpus.tokens), ""),
            ("Vocabulary", numbers.count(vocabulary.rows), f"min-count {manifest.options.get('min_count', '?')}"),
            ("Known tokens", numbers.share(corpus.in_vocabulary / max(1, corpus.tokens)), "are in the vocabulary"),
            ("Kept by subsampling", numbers.count(first.kept), f"{kept} of the known, in the first pass"),
            ("Pairs", numbers.count(sum(one.pairs for one in manifest.passes)), _plural(passes, "pass", "passes")),
            ("Shards", numbers.count(shards), ""),
        ]
    )


def rank_frequency(vocabulary: Vocabulary) -> Figure:
    """Plot counts over ranks, both logarithmic, with Zipf's 1 / rank."""
    order_V = np.argsort(-vocabulary.counts, kind="stable")
    counts = np.maximum(vocabulary.counts[order_V], 1)
    points = [(float(rank), float(counts[rank - 1])) for rank in _spread(len(counts))]
    zipf, fitted = _zipf(points)
    x = log_axis([rank for rank, _ in points], "rank")
    y = log_axis([value for _, value in [*points, *zipf]], "times in the corpus")
    named = [
        (rank, numbers.token(vocabulary.token(int(order_V[rank - 1]))), int(counts[rank - 1]))
        for rank in _powers(len(counts))
    ]
    shown = [entry for entry in named if entry[0] == 1 or entry[0] * 3 < len(counts)]
    marks = [Mark(rank, count, numbers.fitted(token, 110, FONT_PX)) for rank, token, count in shown]
    rows = [(numbers.count(rank), token, numbers.count(count)) for rank, token, count in named]
    if len(points) > 2:
        rank = points[len(points) * 3 // 5][0]
        marks.append(Mark(rank, zipf[0][1] / rank, "1 / rank", dot=False, corner="lower left", kind="label quiet"))
    return Figure(
        "rank-frequency", "How often words occur, by their rank",
        f"Both axes are logarithmic. The most frequent of {len(counts):,} words occurs {int(counts[0]):,} times, "
        f"the rarest {int(counts[-1]):,} times. The dashed line falls as 1 / rank, as Zipf’s law has it.{fitted}",
        line_plot(x, y, [Series(zipf, "line faint"), Series(points)], marks),
        Table(("rank", "word", "count"), rows, left=(1,)),
        f"Dashed: Zipf’s law, 1 / rank.{fitted}",
    )  # fmt: skip


def _zipf(points: Sequence[Point]) -> tuple[list[Point], str]:
    """Lay a line of 1 / rank through the middle of the points; also say which slope would fit them best."""
    logs = np.log(np.array(points))
    scale = math.exp(float(logs.sum(axis=1).mean()))
    line = [(rank, scale / rank) for rank in (points[0][0], points[-1][0])]
    if len(points) < 3:
        return line, ""
    slope = float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])
    return line, f" The straight line that fits the curve best has the slope {slope:.2f}.".replace("-", "−")


def coverage(manifest: Manifest, vocabulary: Vocabulary) -> Figure:
    """Plot which share of the text the n most frequent words are."""
    known = manifest.corpus.in_vocabulary / max(1, manifest.corpus.tokens)
    counts = np.sort(vocabulary.counts)[::-1]
    shares = np.cumsum(counts) / max(1, int(counts.sum())) * known
    points = [(float(size), float(shares[size - 1])) for size in _spread(len(counts))]
    sizes = [size for size in _powers(len(counts)) if size < len(counts)] + [len(counts)]
    marks = [Mark(size, float(shares[size - 1]), numbers.share(float(shares[size - 1])), corner="upper left")
             for size in sizes if size >= 100 or size == len(counts)]  # fmt: skip
    rows = [(numbers.count(size), numbers.share(float(shares[size - 1]))) for size in sizes]
    return Figure(
        "coverage", "What a vocabulary of the most frequent words covers",
        f"The {len(counts):,} words of the vocabulary are {numbers.share(known)} of all tokens. "
        + "; ".join(f"the first {size:,} {numbers.share(float(shares[size - 1]))}" for size in sizes[:-1]) + ".",
        line_plot(log_axis([x for x, _ in points], "words in the vocabulary"),
                  Axis(0.0, 1.0, "share of all tokens", form=_whole_percent), [Series(points)], marks),
        Table(("words", "share of tokens"), rows, left=()),
    )  # fmt: skip


def sentence_lengths(lengths: Sequence[int], mean: float) -> Figure:
    """Plot sentences by length; ``lengths[b]`` of them have from 2^b to 2^(b + 1) − 1 tokens."""
    used = [number for number, sentences in enumerate(lengths) if sentences]
    edges, total = range(used[0], used[-1] + 2), sum(lengths)
    shares = [lengths[number] / total for number in edges[:-1]]
    bars = [Bar(_range(number), part, _short_percent(part)) for number, part in zip(edges[:-1], shares, strict=True)]
    rows = [(bar.name, numbers.count(lengths[number]), numbers.share(bar.value))
            for number, bar in zip(edges[:-1], bars, strict=True)]  # fmt: skip
    most = max(bars, key=lambda bar: bar.value)
    x = Axis(edges[0], edges[-1], "tokens in a sentence", form=lambda number: numbers.count(2.0**number))
    y = linear_axis(shares, "share of sentences", zero=True, room=True, form=_whole_percent)
    return Figure(
        "sentence-lengths", "How long sentences are",
        f"{total:,} sentences of {mean:.1f} tokens in the mean; {numbers.share(most.value)} of them have {most.name}.",
        histogram(x, y, edges, bars, edges), Table(("tokens", "sentences", "share"), rows, left=()),
        f"{mean:.1f} tokens in the mean. Each column spans twice the lengths of the one before it.",
    )  # fmt: skip


def dead_letters(reasons: Mapping[str, int], size: int, total: int) -> Figure:
    """Plot what was set aside, by reason."""
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    bars = [Bar(reason, float(number), numbers.count(number)) for reason, number in ordered]
    whole = f"{numbers.size(size)}, {numbers.share(size / max(1, total))} of the text"
    return Figure(
        "dead-letters", "What was set aside, by reason",
        f"{sum(reasons.values()):,} dead letters, {whole}: "
        + ", ".join(f"{number:,} {reason}" for reason, number in ordered) + ".",
        bar_rows(bars), Table(("reason", "dead letters"), [(bar.name, bar.shown) for bar in bars]), f"In all {whole}.",
    )  # fmt: skip


def stage_seconds(seconds: Mapping[str, float]) -> Figure:
    """Plot the time of each stage."""
    bars = [Bar(stage, float(spent), numbers.duration(spent)) for stage, spent in seconds.items()]
    return Figure(
        "stages", "How long each stage took",
        "; ".join(f"{bar.name} {bar.shown}" for bar in bars) + ".",
        bar_rows(bars), Table(("stage", "time"), [(bar.name, bar.shown) for bar in bars]),
    )  # fmt: skip


def _whole_percent(value: float) -> str:
    return f"{numbers.tick(round(value * 100, 6))}\u202f%"


def _short_percent(value: float) -> str:
    return "" if value == 0 else "< 1" if value < 0.005 else f"{value * 100:.0f}"


def _range(number: int) -> str:
    low, high = 1 << number, (2 << number) - 1
    return str(low) if low == high else f"{low:,}–{high:,}"


def _spread(size: int) -> list[int]:
    """Whole numbers from 1 to ``size``, evenly on a logarithmic scale."""
    found = np.unique(np.round(np.geomspace(1, size, _POINTS)).astype(np.int64))
    return [int(value) for value in found]


def _powers(size: int) -> list[int]:
    return [10**power for power in range(10) if 10**power <= size]


def _plural(number: int, one: str, many: str) -> str:
    return f"in {number} {one if number == 1 else many}"
