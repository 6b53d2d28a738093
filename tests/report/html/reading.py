"""Reads a report the way a program would: elements, their texts, tables and downloads."""

from __future__ import annotations

import csv
import io
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import unquote

VOID = {"meta", "link", "br", "img", "input", "hr"}


@dataclass
class Element:
    """One element: its children are elements and pieces of text, in order."""

    name: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    def every(self, name: str, **attributes: str) -> list[Element]:
        """Return every element below with this name and these attributes."""
        return [
            one
            for one in self.walk()
            if one.name == name
            and all(
                one.attributes.get(key.rstrip("_").replace("_", "-")) == at
                for key, at in attributes.items()
            )
        ]

    def one(self, name: str, **attributes: str) -> Element:
        """Return the only such element."""
        (found,) = self.every(name, **attributes)
        return found

    def walk(self) -> Iterator[Element]:
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child.walk()

    @property
    def text(self) -> str:
        """What is read, without styles and scripts, with single spaces."""
        return " ".join(" ".join(self._pieces()).split())

    def _pieces(self) -> Iterator[str]:
        if self.name in ("style", "script"):
            return
        for child in self.children:
            if isinstance(child, str):
                yield child
            else:
                yield from child._pieces()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("document", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag} says an attribute twice: {names}"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, f"</{tag}> closes <{self.open[-1].name}>"
        self.open.pop()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read(html: str) -> Element:
    """Return the document; fails when an element is not closed where it should be."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == [reader.root], f"never closed: {[one.name for one in reader.open[1:]]}"
    return reader.root


def rows_of(table: Element) -> dict[str, dict[str, str]]:
    """Return a table's texts by its rows' heads (without the star) and its columns' heads."""
    _, *heads = [head.text for head in table.one("thead").every("th")]
    return {
        row.one("th").text.removesuffix(" ★ recommended"): dict(
            zip(heads, [value.text for value in row.every("td")], strict=True)
        )
        for row in table.one("tbody").every("tr")
    }


def downloads(document: Element) -> dict[str, str]:
    """Return what each download link holds, by its file's name."""
    found = {}
    for link in document.every("a"):
        if "download" in link.attributes:
            head, data = link.attributes["href"].split(",", 1)
            text = b64decode(data).decode() if head.endswith(";base64") else unquote(data)
            assert link.attributes["download"] not in found, "two files of one name"
            found[link.attributes["download"]] = text
    return found


def csv_rows(text: str) -> list[dict[str, str]]:
    """Return the lines of a CSV file by the names of its columns."""
    return list(csv.DictReader(io.StringIO(text)))
