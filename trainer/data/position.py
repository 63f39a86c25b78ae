"""How far a training has come: what a checkpoint has besides the arrays."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from pipeline.dataset.schema import FormatError, to_struct
from trainer.progress.curve import Point

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Progress(msgspec.Struct, forbid_unknown_fields=True):
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

    epoch: Count = 0
    legs: list[Annotated[list[Count], msgspec.Meta(min_length=4, max_length=4)]] = []
    pairs: Count = 0
    losses: list[float] = []
    first_loss: float = 0.0
    seconds: float = 0.0
    audit: list[dict[str, int]] = []
    epoch_pairs: list[Count] = []
    run: str = ""
    followed: list[str] = []
    turn_pairs: Count = 0
    turn_fraction: float = 0.0
    history: list[Annotated[Point, msgspec.Meta(min_length=4, max_length=4)]] = []

    @classmethod
    def start(cls, epochs: int, run: str) -> Progress:
        return cls(losses=[0.0] * epochs, epoch_pairs=[0] * epochs, run=run)


def parse_progress(fields: object, path: str) -> Progress:
    """Read what a progress was written as; ``path`` is for errors.

    Raises:
        FormatError: other fields than Progress has, or of another kind, or what cannot be.
    """
    progress = to_struct(_from_version_0_1(fields, path), Progress, f"{path}: progress")
    if len(progress.epoch_pairs) != len(progress.losses):
        raise FormatError(
            f"{path}: found pairs of {len(progress.epoch_pairs)} epochs and losses of {len(progress.losses)}"
        )
    if not all(leg[0] and leg[1] for leg in progress.legs):
        raise FormatError(f"{path}: found legs {progress.legs}, expected ranks and workers in each")
    return progress


def _from_version_0_1(fields: object, path: str) -> object:
    """Version 0.1.0 counted whole row groups in the epoch's order, and pairs of one that was begun."""
    if not isinstance(fields, dict) or "group" not in fields:
        return fields
    kept = {name: value for name, value in fields.items() if name not in ("group", "row")}
    if fields.get("row"):
        raise FormatError(f"{path}: of version 0.1.0, inside a row group: finish it with that version")
    return {**kept, "legs": [[1, 1, fields["group"], 0]] if fields["group"] else []}
