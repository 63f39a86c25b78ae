"""How far a training has come: what a checkpoint has besides the arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trainer.progress.curve import Point


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        epoch: the epoch to go on in, from 0.
        legs: what was read of that epoch, as `trainer.data.sharing.Leg` has it: ranks, workers, batches of
            each, batch size.
        pairs: pairs seen in all epochs.
        losses: summed loss of each epoch so far.
        first_loss: mean loss of the first pairs, before any training.
        seconds: time spent training.
        audit: what --audit found, by epoch.
        epoch_pairs: pairs of each epoch so far.
        run: the dataset's run that is read.
        followed: ids of the datasets that were read before it (--follow-latest).
        turn_pairs: pairs that were done when this run of the dataset was begun with,
        turn_fraction: and how much of the schedule that was.
        history: points of the training so far, see trainer.progress.curve.
    """

    epoch: int = 0
    legs: list[list[int]] = field(default_factory=list)
    pairs: int = 0
    losses: list[float] = field(default_factory=list)
    first_loss: float = 0.0
    seconds: float = 0.0
    audit: list[dict[str, int]] = field(default_factory=list)
    epoch_pairs: list[int] = field(default_factory=list)
    run: str = ""
    followed: list[str] = field(default_factory=list)
    turn_pairs: int = 0
    turn_fraction: float = 0.0
    history: list[Point] = field(default_factory=list)

    @classmethod
    def start(cls, epochs: int, run: str) -> Progress:
        """Nothing is done yet."""
        return cls(losses=[0.0] * epochs, epoch_pairs=[0] * epochs, run=run)


_KINDS = {"int": int, "float": (int, float), "str": str, "dict": dict, "list": list}
_ITEMS = {
    "losses": "float", "epoch_pairs": "int", "audit": "dict", "followed": "str", "history": "list", "legs": "list",
}  # fmt: skip
_LEG_NUMBERS = 4


def parse_progress(fields: Any) -> Progress:
    """Read what vars(progress) was written as.

    Raises:
        TypeError: other fields than Progress has, or of another kind.
        ValueError: a negative or enormous number, lists of different lengths.
    """
    progress = Progress(**_from_version_0_1(fields))
    for name, plain in vars(Progress()).items():
        value = getattr(progress, name)
        if name in _ITEMS and not isinstance(value, list):
            raise TypeError(f"{name} is no list")
        kind = _ITEMS.get(name, type(plain).__name__)
        for one in value if name in _ITEMS else [value]:
            if not isinstance(one, _KINDS[kind]) or isinstance(one, bool):  # type: ignore[arg-type]
                raise TypeError(f"{name} holds another kind of value than {kind}")
            if kind == "int" and not 0 <= one < 1 << 63:
                raise ValueError(f"{name} is out of range")
    for point in progress.history:
        if len(point) != 4 or not all(type(number) in (int, float) for number in point):
            raise TypeError("history holds another kind of point than four numbers")
    for leg in progress.legs:
        if len(leg) != _LEG_NUMBERS or not all(type(number) is int and 0 <= number < 1 << 63 for number in leg):
            raise TypeError("legs holds another kind of leg than four whole numbers")
        if not leg[0] or not leg[1]:
            raise ValueError("legs holds one without ranks or workers")
    if len(progress.epoch_pairs) != len(progress.losses):
        raise ValueError("of another version")
    return progress


def _from_version_0_1(fields: Any) -> Any:
    """Version 0.1.0 counted whole row groups in the epoch's order, and pairs of one that was begun."""
    if not isinstance(fields, dict) or "group" not in fields:
        return fields
    kept = {name: value for name, value in fields.items() if name not in ("group", "row")}
    if fields.get("row"):
        raise ValueError("of version 0.1.0, inside a row group: finish it with that version")
    return {**kept, "legs": [[1, 1, fields["group"], 0]] if fields["group"] else []}
