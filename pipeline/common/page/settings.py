"""The last section of a page: what it is about, in full, and what led there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.common.page.document import Section, Table, table
from pipeline.common.page.svg import Html, joined


def settings_section(
    facts: Sequence[tuple[str, str]], settings: Mapping[str, Any], versions: Mapping[str, Any]
) -> Section:
    """List facts, the settings that shape the result, and versions of libraries; empty ones are left out."""
    parts = [table(Table(("", ""), [fact for fact in facts if fact[1]], left=(0, 1)), "Origin")]
    for name, values in (("Settings", settings), ("Versions", versions)):
        rows = [(key.replace("_", "-"), shown(value)) for key, value in values.items()]
        if rows:
            listed = table(Table(("", ""), rows, left=(0, 1)), name)
            parts.append(Html(f"<details><summary>{name}</summary>\n{listed}\n</details>"))
    return Section("origin", "Where this comes from", "", joined(parts))


def shown(value: object) -> str:
    """Write a setting as its flag takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {shown(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown, value))
    return str(value)
