"""Reading a report as a machine does: its elements, what it would load, and what stands for each plot."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

#: All elements that a report has; of these, those without an end.
_KNOWN = """html head meta link title style body header nav main section h1 h2 h3 p a b small bdi span div
dl dt dd ol li figure figcaption details summary table thead tbody tr th td script form input button"""
_VOID = {"meta", "link", "br", "img", "input", "hr"}


@dataclass
class Element:
    """An element with its children and the text directly in it."""

    tag: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def find(self, tag: str, **attributes: str) -> list[Element]:
        """All elements below this one, in order."""
        found = []
        for child in self.children:
            if child.tag == tag and all(child.attributes.get(name) == value for name, value in attributes.items()):
                found.append(child)
            found += child.find(tag, **attributes)
        return found

    def all(self) -> list[Element]:
        """This element and all below it."""
        return [self, *(one for child in self.children for one in child.all())]

    def all_text(self) -> str:
        """The text of this element and of all below it."""
        return self.text + "".join(child.all_text() for child in self.children if child.tag != "script")

    def data_of(self, figure: str) -> list[dict[str, Any]]:
        """The rows that a figure's chart draws, all of its layers' one after the other."""
        [script] = self.find("figure", id=figure)[0].find("script")
        rows: list[dict[str, Any]] = []

        def note(part: dict[str, Any]) -> dict[str, Any]:
            rows.extend(part.get("values", []))
            return part

        json.loads(script.text, object_hook=note)
        return rows


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.top = Element("", {})
        self.open = [self.top]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attributes})
        assert len(element.attributes) == len(attributes), f"an attribute occurs twice in {tag}"
        self.open[-1].children.append(element)
        if tag not in _VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"found </{tag}>, expected </{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].text += data


def read_page(data: bytes) -> Element:
    """Read a page, whose elements must all be closed in order."""
    reader = _Reader()
    reader.feed(data.decode("utf-8"))
    reader.close()
    assert reader.open == [reader.top], f"found open elements {[one.tag for one in reader.open]}"
    return reader.top


def require_page(data: bytes) -> Element:
    """Hold a page against what every report promises; return it."""
    page = read_page(data)
    elements = page.all()
    assert {one.tag for one in elements} <= {"", *_KNOWN.split()}
    assert [name for one in elements for name in one.attributes if name.startswith("on") or name == "src"] == []
    assert [one.attributes["href"] for one in elements if one.attributes.get("href", "#")[0] not in "#d"] == []
    assert "@import" not in page.find("style")[0].text
    assert "url(" not in page.find("style")[0].text
    ids = [one.attributes["id"] for one in elements if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    assert {one.attributes["href"][1:] for one in page.find("a")} <= set(ids)
    types = [one.attributes["type"] for one in page.find("script")]
    assert types == ["application/json"] * len(page.find("figure")) + ["module"]
    for figure in page.find("figure"):
        _require_figure(figure)
    return page


def _require_figure(figure: Element) -> None:
    """Each chart has a description, its own data, and its numbers in a table."""
    [plot] = [one for one in figure.find("div") if one.attributes.get("class") == "plot"]
    assert plot.attributes["aria-label"].strip()
    [script] = figure.find("script", type="application/json")
    assert json.loads(script.text)
    assert '"url"' not in script.text
    assert "$schema" not in script.text
    [table] = figure.find("details")[0].find("table")
    assert len(table.find("tbody")[0].find("tr")) >= 1
    assert figure.find("figcaption")[0].text.strip()


def figures_of(page: Element) -> list[str]:
    """Names of the page's figures, in order."""
    return [figure.attributes["id"] for figure in page.find("figure")]
