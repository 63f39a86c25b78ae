"""The report's section about the training itself: how loss, learning rate and speed went."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import altair as alt

from pipeline.common.page import charts, numbers
from pipeline.common.page.document import Figure, Keys, Section, Table
from trainer.models.store import Model

_TABLE_ROWS, _SPEEDS = 25, 60  # rows of a table, points of the speed's curve
_SETTLED = 0.05  # of the training: the loss axis is cropped to what comes after

Points = Sequence[tuple[float, float]]


def training_section(model: Model, run: Mapping[str, Any]) -> Section:
    """Describe a training by model.json and run.json; figures are left out where its history was not kept."""
    history, words = run.get("history"), run.get("raw_words")
    drawn = []
    if isinstance(history, dict) and history.get("pairs"):
        drawn = _curves(history, model.info, words if isinstance(words, int) else 0)
    lead = "" if drawn else "Its course was not kept: this model was trained by an earlier version."
    return Section("training", "Training", lead, [_keys(model, run), *drawn])


def _keys(model: Model, run: Mapping[str, Any]) -> Keys:
    metrics, config, seconds = model.info["metrics"], model.info["config"], run.get("seconds")
    words = run.get("raw_words")
    first, last = metrics.get("first_loss"), metrics.get("loss")
    keys = [
        ("Epochs", numbers.count(metrics.get("epochs", 0)), ""),
        ("Pairs", numbers.count(metrics.get("pairs", 0)), "seen in training"),
    ]
    if isinstance(last, float):
        about = f"; {first:.3f} before the first step" if isinstance(first, float) else ""
        keys.append(("Loss", f"{last:.3f}", f"over the last epoch{about}"))
    if isinstance(seconds, (int, float)) and seconds > 0:
        threads = f"{run.get('threads', '?')} threads on {config.get('device', '?')}"
        keys.append(("Time", numbers.duration(seconds), threads))
        if words:
            keys.append(("Speed", _per_second(words / seconds), "raw words of the corpus"))
    return Keys(keys)


def _curves(history: Mapping[str, Sequence[float]], info: Mapping[str, Any], words: int) -> list[Figure]:
    metrics, start = info["metrics"], info["config"].get("learning_rate")
    pairs, seconds, total = history["pairs"], history["seconds"], history["pairs"][-1] or 1
    epochs = int(metrics.get("epochs") or 1)
    at = [pair / total * epochs for pair in pairs]  # epochs have about as many pairs each
    loss, rate = list(zip(at, history["loss"], strict=True)), list(zip(at, history["learning_rate"], strict=True))
    if isinstance(start, float) and start > 0:
        rate.insert(0, (0.0, start))
    drawn = [_loss(loss, epochs, metrics), _curve("learning-rate", "learning rate", rate, epochs, numbers.significant)]
    if words and pairs[-1]:
        speed = [(pair / total * epochs, found) for pair, found in _speeds(pairs, seconds, words / pairs[-1])]
        drawn.append(_curve("speed", "raw words a second", speed, epochs, _per_second))
    return drawn


def _x(epochs: int) -> alt.X:
    return alt.X("epoch:Q", title="epochs", scale=alt.Scale(domain=[0, epochs], nice=False))


def _loss(points: Points, epochs: int, metrics: Mapping[str, Any]) -> Figure:
    """Draw the loss, cropped to where it goes after its first steps, and each epoch's mean as a level line."""
    settled = [value for at, value in points if at >= _SETTLED * epochs] or [value for _, value in points]
    means = metrics.get("epoch_losses") or []
    low, high = min([*settled, *means]), max([*settled, *means])
    margin = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    scale = alt.Scale(domain=[low - margin, high + margin], nice=False, zero=False)
    y = alt.Y("value:Q", title="mean loss of a pair", scale=scale)
    rows = [{"epoch": at, "value": value} for at, value in points]
    levels = [{"epoch": at, "end": at + 1, "value": mean, "number": at + 1} for at, mean in enumerate(means)]
    tooltip = [alt.Tooltip("epoch:Q", format=".2f"), alt.Tooltip("value:Q", title="loss", format=".4f")]
    mean_tooltip = [alt.Tooltip("number:Q", title="epoch"), alt.Tooltip("value:Q", title="mean loss", format=".4f")]
    steps = charts.chart(levels, x=_x(epochs), x2="end:Q", y=y, tooltip=mean_tooltip)
    cropped = max(value for _, value in points) > high + margin
    first = metrics.get("first_loss")
    note = "Level lines are means of epochs." if means else ""
    note += " The axis is cropped: the loss comes from" if cropped and isinstance(first, float) else ""
    note += f" {first:.3f}." if cropped and isinstance(first, float) else ""
    drawing = charts.line(rows, _x(epochs), y, tooltip) + steps.mark_rule(color=charts.OTHER, strokeWidth=2)
    if means:
        cells = [(str(one["number"]), f"{one['value']:.4f}") for one in levels]
        table = Table(("epoch", "mean loss"), cells, left=())
    else:
        table = _table("loss", points, "{:.3f}".format)
    said = f"From {points[0][1]:.3f} to {points[-1][1]:.3f}."
    return Figure("loss", "Loss by epoch", said, charts.as_spec(drawing), table, note.strip())


def _curve(name: str, measure: str, points: Points, epochs: int, form: Callable[[float], str]) -> Figure:
    rows = [{"epoch": at, "value": value, "shown": form(value)} for at, value in points]
    y = alt.Y("value:Q", title=measure, axis=alt.Axis(format="~s" if name == "speed" else "~g"))
    tooltip = [alt.Tooltip("epoch:Q", format=".2f"), alt.Tooltip("shown:N", title=measure)]
    said = f"{form(points[0][1])} at first, {form(points[-1][1])} at the end."
    title = name.replace("-", " ").capitalize()
    spec = charts.as_spec(charts.line(rows, _x(epochs), y, tooltip))
    return Figure(name, title, said, spec, _table(measure, points, form))


def _table(measure: str, points: Points, form: Callable[[float], str]) -> Table:
    some = points[:: -(-len(points) // _TABLE_ROWS)]
    some = [*some, points[-1]] if some[-1] != points[-1] else some
    return Table(("epoch", measure), [(f"{at:.2f}", form(value)) for at, value in some], left=())


def _speeds(pairs: Sequence[float], seconds: Sequence[float], words_per_pair: float) -> list[tuple[float, float]]:
    """Words a second, as means of so many points that short breaks of a busy machine do not hide the rest."""
    step = -(-len(pairs) // _SPEEDS)
    pairs, seconds = pairs[::-1][::step][::-1], seconds[::-1][::step][::-1]
    befores = zip([0, *pairs], [0.0, *seconds], strict=False)
    return [
        (float(at), (at - before) * words_per_pair / (clock - clock_before))
        for (before, clock_before), at, clock in zip(befores, pairs, seconds, strict=False)
        if clock > clock_before
    ] or [(float(pairs[-1]), 0.0)]


def _per_second(value: float) -> str:
    return f"{numbers.count(value)}/s"
