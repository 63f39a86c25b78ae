"""The report's section about the training itself: how loss, learning rate and speed went."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.common.page import numbers
from pipeline.common.page.axes import linear_axis
from pipeline.common.page.document import Figure, Section, Table, figures, key_figures
from pipeline.common.page.plots import Mark, Series, line_plot
from pipeline.common.page.svg import Point, joined
from trainer.models.store import Model

_TABLE_ROWS, _SPEEDS = 25, 60  # rows of a table, points of the speed's curve
_MOST_EPOCHS = 30  # whose ends are marked


def training_section(model: Model, run: Mapping[str, Any]) -> Section:
    """Describe a training by model.json and run.json; figures are left out where its history was not kept."""
    history, words = run.get("history"), run.get("raw_words")
    drawn = []
    if isinstance(history, dict) and history.get("pairs"):
        drawn = _curves(history, model.info, words if isinstance(words, int) else 0)
    lead = "" if drawn else "Its course was not kept: this model was trained by an earlier version."
    return Section("training", "Training", lead, joined([_keys(model, run), figures(drawn)]))


def _keys(model: Model, run: Mapping[str, Any]) -> Any:
    metrics, config, seconds = model.info["metrics"], model.info["config"], run.get("seconds")
    words = run.get("raw_words")
    first, last = metrics.get("first_loss"), metrics.get("loss")
    keys = [
        ("Epochs", numbers.count(metrics.get("epochs", 0)), ""),
        ("Pairs", numbers.count(metrics.get("pairs", 0)), "seen in training"),
    ]
    if isinstance(last, float):
        about = f"{first:.3f} before the first step" if isinstance(first, float) else ""
        keys.append(("Loss", f"{last:.3f}", f"over the last epoch; {about}" if about else "over the last epoch"))
    if isinstance(seconds, (int, float)) and seconds > 0:
        threads = f"{run.get('threads', '?')} threads on {config.get('device', '?')}"
        keys.append(("Time", numbers.duration(seconds), threads))
        if words:
            keys.append(("Speed", _per_second(words / seconds), "raw words of the corpus"))
    return key_figures(keys)


def _curves(history: Mapping[str, Sequence[float]], info: Mapping[str, Any], words: int) -> list[Figure]:
    metrics, start = info["metrics"], info["config"].get("learning_rate")
    pairs, seconds = history["pairs"], history["seconds"]
    loss = list(zip(map(float, pairs), history["loss"], strict=True))
    if isinstance(metrics.get("first_loss"), float):
        loss.insert(0, (0.0, metrics["first_loss"]))
    rate = list(zip(map(float, pairs), history["learning_rate"], strict=True))
    if isinstance(start, float) and start > 0:
        rate.insert(0, (0.0, start))
    ends = _epoch_ends(metrics, pairs[-1])
    drawn = [
        _curve("loss", "Loss", "mean loss of a pair", loss, _three_digits, ends),
        _curve("learning-rate", "Learning rate", "learning rate", rate, numbers.significant, ends, zero=True),
    ]
    if words and pairs[-1]:
        speed = _speeds(pairs, seconds, words / pairs[-1])
        drawn.append(
            _curve(
                "speed",
                "Speed",
                "raw words a second",
                speed,
                lambda value: f"{numbers.count(value)}/s",
                ends,
                zero=True,
            )
        )
    return drawn


def _curve(
    name: str, title: str, measure: str, points: Sequence[Point], form: Callable[[float], str],
    ends: Sequence[float], zero: bool = False,
) -> Figure:  # fmt: skip
    values = [value for _, value in points]
    x = linear_axis([0.0, points[-1][0]], "pairs seen")
    y = linear_axis(values, measure, zero=zero, room=True)
    marks = [] if zero else [Mark(*points[-1], form(values[-1]), corner="upper left")]
    some = points[:: max(1, -(-len(points) // _TABLE_ROWS))]
    some = [*some, points[-1]] if some[-1] != points[-1] else some
    return Figure(
        name, title,
        f"{measure.capitalize()} over the pairs seen: {form(values[0])} at first, {form(min(values))} at the lowest, "
        f"{form(max(values))} at the highest, {form(values[-1])} at the end.",
        line_plot(x, y, [Series(points)], marks, ends),
        Table(("pairs", measure), [(numbers.count(at), form(value)) for at, value in some], left=()),
        "Hairlines mark the ends of epochs." if ends and name == "loss" else "",
    )  # fmt: skip


def _epoch_ends(metrics: Mapping[str, Any], pairs: float) -> list[float]:
    """Places where epochs ended, all but the last one; epochs have about as many pairs each."""
    epochs = metrics.get("epochs", 1)
    return [pairs * epoch / epochs for epoch in range(1, epochs)] if epochs <= _MOST_EPOCHS else []


def _speeds(pairs: Sequence[float], seconds: Sequence[float], words_per_pair: float) -> list[Point]:
    """Words a second, as means of enough points that short breaks of a busy machine do not hide the rest."""
    step = -(-len(pairs) // _SPEEDS)
    pairs, seconds = pairs[::-1][::step][::-1], seconds[::-1][::step][::-1]
    befores = zip([0, *pairs], [0.0, *seconds], strict=False)
    return [
        (float(at), (at - before) * words_per_pair / (clock - clock_before))
        for (before, clock_before), at, clock in zip(befores, pairs, seconds, strict=False)
        if clock > clock_before
    ] or [(float(pairs[-1]), 0.0)]


def _three_digits(value: float) -> str:
    return f"{value:.3f}"


def _per_second(value: float) -> str:
    return f"{numbers.count(value)}/s"
