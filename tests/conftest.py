"""Settings for all tests."""

import pytest
from hypothesis import HealthCheck, settings

from tests.support.clock import Clock

# Compiled code is slow the first time: no test judges time, so neither does Hypothesis. Examples are fixed, so that
# a run that passes here passes there.
settings.register_profile("house", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Set the clocks that progress lines look at by hand."""
    clock = Clock()
    for name in ("tqdm.std.time", "time.time", "time.monotonic"):
        monkeypatch.setattr(name, clock)
    return clock
