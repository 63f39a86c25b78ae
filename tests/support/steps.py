"""Doing something in the midst of a training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trainer.progress.meter import Meter


def after_steps(patch: pytest.MonkeyPatch, steps: int, act: Callable[[], object]) -> None:
    """Do something once the loop has noted so many steps."""
    add, count = Meter.add, 0

    def counted(meter: Meter, *arguments: Any, **options: Any) -> None:
        nonlocal count
        add(meter, *arguments, **options)
        count += 1
        if count == steps:
            act()

    patch.setattr(Meter, "add", counted)
