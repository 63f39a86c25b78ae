"""The report's first section after a retraining: what the gate decided, and each figure with its limit."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.common.page.document import Section, Table, Text
from trainer.retraining.gate import Check
from trainer.retraining.state import PUBLISHED


def gate_section(kind: str, checks: Sequence[Check], parent: str) -> Section:
    """Describe the verdict.

    Args:
        kind: published or refused.
        checks: all of the gate's.
        parent: the version that was live before, "" for none.
    """
    failed = [check for check in checks if not check.passed]
    if kind == PUBLISHED:
        title, lead = "Published", f"All {len(checks)} checks of the gate passed."
    else:
        stays = f"version {parent} stays live" if parent else "no version is live"
        title, lead = "Refused", f"{len(failed)} of {len(checks)} checks of the gate did not pass; {stays}."
    rows = [(check.name, check.shown, check.bound, "✓ yes" if check.passed else "✗ no") for check in checks]
    table = Table(("check", "found", "limit", "passed"), rows, (0, 3), "The gate")
    return Section("gate", title, lead, [*(Text(f"Refused for {check}.") for check in failed), table])
