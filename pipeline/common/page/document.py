"""The page around the figures: sections, tables, key figures; one file that needs nothing from anywhere."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.common.page.numbers import token
from pipeline.common.page.svg import Canvas, Html, escape, joined

#: Nothing is loaded and nothing runs, whatever a token says.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Table:
    """Rows of plain text under headings; columns whose numbers are in `left` hold words, all others numbers."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Figure:
    """A drawing with what it says in words and as a table.

    Attributes:
        name: short, of letters and dashes, one of a kind on a page.
        title: what is to be seen.
        description: what a reader who cannot see it has to know.
        drawing: the plot.
        table: its numbers.
        note: below it.
        narrow: the drawing for narrow screens, where one does not fit all.
    """

    name: str
    title: str
    description: str
    drawing: Canvas
    table: Table
    note: str = ""
    narrow: Canvas | None = None


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading."""

    name: str
    title: str
    lead: str
    body: Html


def render_page(title: str, subtitle: str, sections: Sequence[Section]) -> bytes:
    """Return the page in UTF-8."""
    style = importlib.resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    links = joined([Html(f'<a href="#{one.name}">{escape(one.title)}</a>') for one in sections])
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{escape(title)} · pairstream</title>
<style>
{style}</style>
</head>
<body>
<header>
<p class="brand">pairstream</p>
<h1>{escape(title)}</h1>
<p class="subtitle">{escape(subtitle)}</p>
<nav aria-label="Sections">
{links}
</nav>
</header>
<main>
{joined([_render_section(section) for section in sections])}
</main>
</body>
</html>
"""
    return page.encode("utf-8")


def _render_section(section: Section) -> Html:
    lead = f'<p class="lead">{escape(section.lead)}</p>\n' if section.lead else ""
    return Html(f'<section id="{section.name}">\n<h2>{escape(section.title)}</h2>\n{lead}{section.body}\n</section>')


def figures(some: Sequence[Figure]) -> Html:
    """Set figures side by side where there is room."""
    return Html(f'<div class="figures">\n{joined([figure(one) for one in some])}\n</div>') if some else Html("")


def figure(one: Figure) -> Html:
    """Render a figure: heading, drawing, note, and the numbers to unfold."""
    drawings = [one.drawing.render(one.name, one.title, one.description, "wide" if one.narrow else "")]
    if one.narrow:
        drawings.append(one.narrow.render(f"{one.name}-narrow", one.title, one.description, "narrow"))
    kind = ' class="full"' if one.narrow else ""
    note = f'<p class="note">{escape(one.note)}</p>\n' if one.note else ""
    return Html(
        f'<figure id="{one.name}"{kind}>\n<figcaption>{escape(one.title)}</figcaption>\n{joined(drawings)}\n{note}'
        f"<details><summary>Numbers</summary>\n{table(one.table, one.title)}\n</details>\n</figure>"
    )


def table(one: Table, about: str) -> Html:
    """Render a table, which scrolls by itself where it is wider than the screen; ``about`` says what of."""
    heads = joined([_cell("th", one, *item) for item in enumerate(one.headings)], "")
    rows = [Html(f"<tr>{joined([_cell('td', one, *item) for item in enumerate(row)], '')}</tr>") for row in one.rows]
    head = f"<thead><tr>{heads}</tr></thead>\n" if any(one.headings) else ""
    return Html(
        f'<div class="scroll" role="region" aria-label="{escape(about)}" tabindex="0"><table>\n{head}'
        f"<tbody>\n{joined(rows)}\n</tbody>\n</table></div>"
    )


def _cell(tag: str, one: Table, number: int, text: str) -> Html:
    scope = ' scope="col"' if tag == "th" else ""
    if number in one.left:
        return Html(f"<{tag}{scope}><bdi>{escape(text)}</bdi></{tag}>")
    return Html(f'<{tag}{scope} class="number">{escape(text)}</{tag}>')


def key_figures(pairs: Sequence[tuple[str, str, str]]) -> Html:
    """Render the numbers to remember: name, value and a few words about it each."""
    items = [
        Html(
            f"<div><dt>{escape(name)}</dt><dd><b>{escape(value)}</b>"
            f"{f'<small>{escape(about)}</small>' if about else ''}</dd></div>"
        )
        for name, value, about in pairs
    ]
    return Html(f'<dl class="keys">\n{joined(items)}\n</dl>')


def paragraph(text: str) -> Html:
    """Render a paragraph."""
    return Html(f"<p>{escape(text)}</p>")


def word(text: str) -> Html:
    """Render a token: isolated from its surroundings, whichever way it is written."""
    return Html(f'<bdi class="word">{escape(token(text))}</bdi>')
