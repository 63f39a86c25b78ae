"""The page around the charts: what sections are made of, and one file of them that needs nothing from anywhere."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

_NEEDED = "altair", "jinja2", "sklearn", "vl_convert"


@dataclass(frozen=True)
class Table:
    """Rows of plain text under headings; columns whose numbers are in `left` hold words, all others numbers."""

    kind: ClassVar[str] = "table"

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: tuple[int, ...] = (0,)
    title: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Figure:
    """A chart with what it says in words and as a table.

    Attributes:
        name: short, of letters and dashes, unique on a page.
        title: what there is to see.
        description: what a reader who cannot see it has to know.
        spec: the chart, in Vega-Lite or Vega.
        table: its numbers.
        note: below it.
        searched: it is as wide as the page, and has a search box and buttons to zoom.
    """

    kind: ClassVar[str] = "figure"

    name: str
    title: str
    description: str
    spec: Mapping[str, Any]
    table: Table
    note: str = ""
    searched: bool = False


@dataclass(frozen=True)
class Keys:
    """The numbers to remember: name, value and a few words about it each."""

    kind: ClassVar[str] = "keys"

    items: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Lists:
    """Words under a word: heading, its number, and each word with its own number."""

    kind: ClassVar[str] = "lists"

    items: Sequence[tuple[str, str, Sequence[tuple[str, str]]]]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"

    text: str


Block = Table | Figure | Keys | Lists | Text


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading; neighbouring figures are side by side where there is room."""

    name: str
    title: str
    lead: str = ""
    blocks: Sequence[Block] = field(default=())


def missing_extra() -> str:
    """Say what to install if a library that pages are made with is missing; "" if all are there."""
    missing = next((name for name in _NEEDED if importlib.util.find_spec(name) is None), "")
    return f"the page needs the module {missing!r}: pip install 'pairstream[report]'" if missing else ""


def render_page(title: str, subtitle: str, sections: Sequence[Section]) -> bytes:
    """Return the page in UTF-8.

    All text is escaped by the template, data inside scripts too. The page's policy names the one script that may run by
    its digest: what a token says is never run.
    """
    import jinja2

    script = _script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.from_string(_read("page.html")).render(
        title=title, subtitle=subtitle, sections=sections, style=_read("style.css"), script=script, digest=digest
    )
    return page.encode("utf-8")


@functools.cache
def _script() -> str:
    """Bundle Vega with what draws the page's charts; this takes seconds, once a process."""
    import vl_convert

    script: str = vl_convert.javascript_bundle(_read("draw.js"))
    return script


def _read(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def settings_section(
    facts: Sequence[tuple[str, str]], settings: Mapping[str, Any], versions: Mapping[str, Any]
) -> Section:
    """List facts, the settings that shape the result, and versions of libraries; empty ones are left out."""
    tables = [Table(("", ""), [fact for fact in facts if fact[1]], (0, 1), "Origin")]
    for title, values in (("Settings", settings), ("Versions", versions)):
        rows = [(key.replace("_", "-"), shown(value)) for key, value in values.items()]
        if rows:
            tables.append(Table(("", ""), rows, (0, 1), title, folded=True))
    return Section("origin", "Where this comes from", "", tables)


def shown(value: object) -> str:
    """Write a setting as its flag takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {shown(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown, value))
    return str(value)
